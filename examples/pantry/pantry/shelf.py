"""A shelf and the jars on it."""


class Shelf:
    """A shelf with room for a few jars."""

    def __init__(self, room):
        self.room = room
        self.jars = []

    def has_room(self):
        return len(self.jars) < self.room

    def put(self, jar):
        if not self.has_room():
            raise ValueError("the shelf is full")
        self.jars.append(jar)

    def replace(self, old, new):
        """Put a new jar where the old one stood. Returns the place."""
        place = self.jars.index(old)
        self.jars[place] = old
        return place
