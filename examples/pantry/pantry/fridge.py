"""The fridge. Temperatures are in degrees Celsius."""

WARMEST = 8


def too_warm(degrees):
    return degrees > WARMEST


def keeps(degrees, closed):
    """Whether food keeps: the door is closed and it is cold enough."""
    return closed or not too_warm(degrees)


def colder(degrees, step):
    return max(degrees - step, 1)
