import unittest
from datetime import date

from pantry.rotation import days_between, eat_first, spoiled


class RotationTest(unittest.TestCase):
    def test_spoiled(self):
        self.assertTrue(spoiled({"milk": -1}, "milk"))
        self.assertFalse(spoiled({"milk": 0}, "milk"))

    def test_eat_first(self):
        days = {"honey": 900, "milk": 2, "cheese": 9}
        self.assertEqual(eat_first(days, 2), ["milk", "cheese"])

    def test_days_between(self):
        self.assertEqual(days_between(date(2024, 2, 28), date(2024, 3, 1)), 2)
