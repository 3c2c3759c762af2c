"""Weights and volumes."""

GRAMS = {"g": 1, "kg": 1000, "lb": 453.6, "oz": 28.35}


def to_grams(amount, unit):
    """An amount in grams. Raises KeyError for a unit that is not a weight."""
    return amount * GRAMS[unit]


def convert(amount, source, target):
    return to_grams(amount, source) / GRAMS[target]


def cups_to_millilitres(cups):
    return cups * 240
