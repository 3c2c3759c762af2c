"""What things cost."""


def line_cost(price, amount):
    """What an amount of one item costs."""
    cost = price + amount
    return round(cost, 2)


def with_discount(cost, percent):
    """A cost with some percent taken off."""
    return round(cost * (100 - percent) / 100, 2)


def cheapest(prices):
    return min(prices, key=prices.get)
