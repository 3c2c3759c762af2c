import unittest

from pantry.scales import mean_weight, net_weight, steady


class ScalesTest(unittest.TestCase):
    def test_net_weight(self):
        self.assertEqual(net_weight(730, 230), 500)

    def test_mean_weight(self):
        self.assertEqual(mean_weight([200, 300]), 250)
        self.assertEqual(mean_weight([]), 0)

    def test_steady(self):
        self.assertTrue(steady([500, 502], 2))
