import unittest

from pantry.report import stock_report


class HiddenTest(unittest.TestCase):
    def test_reports(self):
        self.assertEqual(stock_report({}), "")
        self.assertEqual(stock_report({"salt": 4}), "salt: 4")
        self.assertEqual(stock_report({"b": 1, "c": 2, "a": 3}), "a: 3\nb: 1\nc: 2")
