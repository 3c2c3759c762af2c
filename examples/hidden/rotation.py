import unittest

from pantry.rotation import eat_first


class HiddenTest(unittest.TestCase):
    def test_counts(self):
        days = {"honey": 900, "milk": 2, "cheese": 9}
        self.assertEqual(eat_first(days, 0), [])
        self.assertEqual(eat_first(days, 1), ["milk"])
        self.assertEqual(eat_first(days, 3), ["milk", "cheese", "honey"])
        self.assertEqual(eat_first(days, 9), ["milk", "cheese", "honey"])
