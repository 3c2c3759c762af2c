import unittest

from pantry.report import heading, stock_report, summary


class ReportTest(unittest.TestCase):
    def test_heading(self):
        self.assertEqual(heading("jars"), "JARS\n----")

    def test_stock_report(self):
        self.assertEqual(stock_report({"rice": 2, "oats": 1}), "oats: 1\nrice: 2")

    def test_summary(self):
        self.assertEqual(summary({"rice": 2, "oats": 1}), "2 items, 3 pieces")
