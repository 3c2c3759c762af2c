import unittest

from pantry.units import convert, cups_to_millilitres, to_grams


class UnitsTest(unittest.TestCase):
    def test_to_grams(self):
        self.assertEqual(to_grams(2, "kg"), 2000)

    def test_convert(self):
        self.assertEqual(convert(500, "g", "kg"), 0.5)

    def test_cups(self):
        self.assertEqual(cups_to_millilitres(2), 480)
