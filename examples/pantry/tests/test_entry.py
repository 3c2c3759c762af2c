import unittest

from pantry.entry import format_entry, parse_entry


class EntryTest(unittest.TestCase):
    def test_parse_entry(self):
        self.assertEqual(parse_entry("flour , 2, kg"), ("flour", 2.0, "kg"))

    def test_bad_entry(self):
        with self.assertRaises(ValueError):
            parse_entry("flour")

    def test_format_entry(self):
        self.assertEqual(format_entry("flour", 2.0, "kg"), "flour, 2, kg")
