import unittest

from pantry.shelf import Shelf


class HiddenTest(unittest.TestCase):
    def test_replace(self):
        shelf = Shelf(3)
        for jar in ("honey", "jam", "salt"):
            shelf.put(jar)
        self.assertEqual(shelf.replace("honey", "plums"), 0)
        self.assertEqual(shelf.jars, ["plums", "jam", "salt"])
        with self.assertRaises(ValueError):
            shelf.replace("honey", "rice")
        self.assertEqual(shelf.jars, ["plums", "jam", "salt"])
