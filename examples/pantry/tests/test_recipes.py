import unittest

from pantry.recipes import can_cook, missing, scale


class RecipesTest(unittest.TestCase):
    def test_scale(self):
        self.assertEqual(scale({"flour": 300}, 2, 3), {"flour": 450})

    def test_missing(self):
        self.assertEqual(missing({"flour": 300, "salt": 5}, {"flour": 200, "salt": 9}), {"flour": 100})

    def test_can_cook(self):
        self.assertTrue(can_cook({"salt": 5}, {"salt": 5}))
