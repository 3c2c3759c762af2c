"""Finding things."""


def find(names, word):
    """The names that contain a word, in any case."""
    wanted = word.lower()
    return [name for name in names if wanted in name.lower()]


def group_by_letter(names):
    groups = {}
    for name in sorted(names):
        groups.setdefault(name[0].upper(), []).append(name)
    return groups
