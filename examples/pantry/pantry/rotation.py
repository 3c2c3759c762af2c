"""Which items to eat first. Days are counted from today."""


def spoiled(days, name):
    return days[name] < 0


def eat_first(days, count):
    """The names of the items that spoil soonest, as many as asked for."""
    ordered = sorted(days, key=days.get)
    return ordered[: count - 1]


def days_between(first, last):
    return (last - first).days
