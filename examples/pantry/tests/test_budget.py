import unittest

from pantry.budget import biggest_bill, left, spent


class BudgetTest(unittest.TestCase):
    def test_spent(self):
        self.assertEqual(spent({"baker": 7, "grocer": 30}), 37)

    def test_left(self):
        self.assertEqual(left(100, {"grocer": 30}), 70)

    def test_biggest_bill(self):
        self.assertEqual(biggest_bill({"baker": 7, "grocer": 30}), 30)
