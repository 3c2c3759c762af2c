import unittest

from pantry.stock import low_items


class HiddenTest(unittest.TestCase):
    def test_limits(self):
        stock = {"salt": 4, "rice": 3, "oats": 0}
        self.assertEqual(low_items(stock, 3), ["oats", "rice"])
        self.assertEqual(low_items(stock, 0), ["oats"])
        self.assertEqual(low_items(stock, 4), ["oats", "rice", "salt"])
        self.assertEqual(low_items({}, 4), [])
