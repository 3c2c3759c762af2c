import unittest

from pantry.shelf import Shelf


class ShelfTest(unittest.TestCase):
    def test_full_shelf(self):
        shelf = Shelf(1)
        shelf.put("honey")
        self.assertFalse(shelf.has_room())
        with self.assertRaises(ValueError):
            shelf.put("jam")

    def test_replace(self):
        shelf = Shelf(2)
        shelf.put("honey")
        shelf.put("jam")
        self.assertEqual(shelf.replace("jam", "syrup"), 1)
        self.assertEqual(shelf.jars, ["honey", "syrup"])
