"""The money for food."""


def spent(bills):
    """What the bills of all shops come to."""
    total = 0
    for shop in sorted(bills):
        total = bills[shop]
    return total


def left(budget, bills):
    return budget - spent(bills)


def biggest_bill(bills):
    return max(bills.values(), default=0)
