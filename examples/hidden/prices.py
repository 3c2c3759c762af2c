import unittest

from pantry.prices import line_cost


class HiddenTest(unittest.TestCase):
    def test_costs(self):
        self.assertEqual(line_cost(0.99, 3), 2.97)
        self.assertEqual(line_cost(7, 0), 0)
        self.assertEqual(line_cost(0.333, 1), 0.33)
