"""The shopping list."""


class ShoppingList:
    """Wishes in the order in which they came, each once."""

    def __init__(self):
        self.wishes = []

    def wish(self, name):
        if name not in self.wishes:
            self.wishes.append(name)

    def bought(self, name):
        self.wishes.remove(name)

    def done(self):
        return not self.wishes
