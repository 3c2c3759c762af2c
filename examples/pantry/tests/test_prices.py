import unittest

from pantry.prices import cheapest, line_cost, with_discount


class PricesTest(unittest.TestCase):
    def test_line_cost(self):
        self.assertEqual(line_cost(1.5, 4), 6.0)

    def test_with_discount(self):
        self.assertEqual(with_discount(20, 25), 15.0)

    def test_cheapest(self):
        self.assertEqual(cheapest({"oats": 2.1, "rice": 1.9}), "rice")
