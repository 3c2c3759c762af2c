import unittest

from pantry.search import find, group_by_letter


class SearchTest(unittest.TestCase):
    def test_find(self):
        self.assertEqual(find(["Plum jam", "rice"], "JAM"), ["Plum jam"])

    def test_group_by_letter(self):
        self.assertEqual(group_by_letter(["salt", "soap", "rice"]), {"R": ["rice"], "S": ["salt", "soap"]})
