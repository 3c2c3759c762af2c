import unittest

from pantry.fridge import keeps


class HiddenTest(unittest.TestCase):
    def test_keeps(self):
        self.assertTrue(keeps(8, True))
        self.assertFalse(keeps(12, True))
        self.assertFalse(keeps(3, False))
        self.assertFalse(keeps(15, False))
