"""Who comes to dinner: a dictionary with name, seats and diet for each guest."""


def chairs(guests):
    return sum(guest["seats"] for guest in guests)


def eats_no_meat(guest):
    return guest["diet"] in ("vegetarian", "vegan")


def vegetarians(guests):
    """The names of the guests who eat no meat."""
    return [guest["diet"] for guest in guests if eats_no_meat(guest)]


def place_card(guest):
    return "Welcome, " + guest["name"].title()
