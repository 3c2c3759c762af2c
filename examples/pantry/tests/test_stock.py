import unittest

from pantry.stock import add, low_items, take


class StockTest(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add({"rice": 1}, "rice", 2), {"rice": 3})

    def test_take_no_more_than_there_is(self):
        stock = {"rice": 2}
        self.assertEqual(take(stock, "rice", 5), 2)
        self.assertEqual(stock, {"rice": 0})

    def test_low_items(self):
        stock = {"salt": 5, "rice": 2, "flour": 1}
        self.assertEqual(low_items(stock, 2), ["flour", "rice"])
