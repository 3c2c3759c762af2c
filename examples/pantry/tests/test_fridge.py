import unittest

from pantry.fridge import colder, keeps, too_warm


class FridgeTest(unittest.TestCase):
    def test_too_warm(self):
        self.assertTrue(too_warm(9))
        self.assertFalse(too_warm(8))

    def test_keeps(self):
        self.assertTrue(keeps(4, True))
        self.assertFalse(keeps(4, False))

    def test_colder(self):
        self.assertEqual(colder(6, 2), 4)
