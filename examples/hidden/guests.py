import unittest

from pantry.guests import vegetarians


class HiddenTest(unittest.TestCase):
    def test_vegetarians(self):
        guests = [{"name": name, "seats": 1, "diet": "vegetarian"} for name in ("noor", "ben")]
        self.assertEqual(vegetarians(guests), ["noor", "ben"])
        self.assertEqual(vegetarians([{"name": "eva", "seats": 4, "diet": "fish"}]), [])
