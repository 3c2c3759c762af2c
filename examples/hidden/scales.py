import unittest

from pantry.scales import mean_weight


class HiddenTest(unittest.TestCase):
    def test_mean_weight(self):
        self.assertEqual(mean_weight(()), 0)
        self.assertEqual(mean_weight([7]), 7)
        self.assertEqual(mean_weight([1, 2, 6]), 3)
