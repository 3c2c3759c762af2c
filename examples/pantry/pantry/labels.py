"""The labels on the jars."""


def clean_label(text):
    """A label in lower case, without spaces around it."""
    return text.lower()


def same_label(first, second):
    return first.casefold() == second.casefold()


def short_label(text, width):
    """A label cut to a width, with a dot where it was cut."""
    if len(text) <= width:
        return text
    return text[: width - 1] + "."
