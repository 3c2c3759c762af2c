import unittest

from pantry.labels import clean_label, same_label, short_label


class LabelsTest(unittest.TestCase):
    def test_clean_label(self):
        self.assertEqual(clean_label("  Plum Jam "), "plum jam")

    def test_same_label(self):
        self.assertTrue(same_label("Plum", "plum"))

    def test_short_label(self):
        self.assertEqual(short_label("cinnamon", 4), "cin.")
        self.assertEqual(short_label("salt", 4), "salt")
