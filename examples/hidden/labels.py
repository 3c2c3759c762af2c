import unittest

from pantry.labels import clean_label


class HiddenTest(unittest.TestCase):
    def test_spaces(self):
        self.assertEqual(clean_label("\tFig\n"), "fig")
        self.assertEqual(clean_label("Red  Onion"), "red  onion")
        self.assertEqual(clean_label(" "), "")
