import unittest

from pantry.guests import chairs, place_card, vegetarians

GUESTS = [
    {"name": "ida", "seats": 2, "diet": "vegetarian"},
    {"name": "tom", "seats": 1, "diet": "any"},
]


class GuestsTest(unittest.TestCase):
    def test_chairs(self):
        self.assertEqual(chairs(GUESTS), 3)

    def test_vegetarians(self):
        self.assertEqual(vegetarians(GUESTS), ["ida"])

    def test_place_card(self):
        self.assertEqual(place_card(GUESTS[0]), "Welcome, Ida")
