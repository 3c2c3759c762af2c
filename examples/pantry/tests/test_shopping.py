import unittest

from pantry.shopping import ShoppingList


class ShoppingTest(unittest.TestCase):
    def test_each_wish_once(self):
        shopping = ShoppingList()
        shopping.wish("salt")
        shopping.wish("salt")
        self.assertEqual(shopping.wishes, ["salt"])

    def test_done(self):
        shopping = ShoppingList()
        shopping.wish("salt")
        shopping.bought("salt")
        self.assertTrue(shopping.done())
