import unittest

from pantry.budget import left, spent


class HiddenTest(unittest.TestCase):
    def test_spent(self):
        bills = {"dairy": 12, "baker": 5, "market": 21}
        self.assertEqual(spent(bills), 38)
        self.assertEqual(left(50, bills), 12)
        self.assertEqual(spent({}), 0)
