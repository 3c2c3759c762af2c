"""What the kitchen scales say, in grams."""


def net_weight(gross, jar):
    return gross - jar


def mean_weight(readings):
    """The mean of the readings, 0 where there are none."""
    return sum(readings) / len(readings)


def steady(readings, slack):
    """Whether the readings lie close together."""
    return max(readings) - min(readings) <= slack
