"""Questions with answers: word problems of one to four steps, and multiple choice over a small invented world.

Knows arithmetic and the world, which is the same for every seed, so that it can be learnt. Each domain has a register
of its own, so that what steering moves can be told from what it knows.
"""

import random
from functools import cache

from training.corpus.vocabulary import Words, plural

_STARTS = (
    ("{name} has {x} {things}.", "{x}"),
    ("There are {x} {things} in the {place}.", "{x}"),
    ("A {place} holds {p} boxes of {q} {things} each.", "{p} * {q} = {x}"),
    ("{name} buys {p} bags with {q} {things} in each.", "{p} * {q} = {x}"),
)
_STEPS = {
    "+": ("Then {y} more {things} arrive.", "{name} gets {y} more.", "Another {y} are added."),
    "-": ("{name} gives {y} of them away.", "{y} of them are lost.", "Then {y} are taken out."),
    "*": (
        "Overnight the number grows {y} times.", "{name} then has {y} times as many.", "{y} times as many are needed."),
    "/": ("They are shared among {y} people, and one share is kept.", "Only one part of {y} equal parts is left."),
}  # fmt: skip
_ASKS = ("How many {things} are there now?", "How many {things} are left in the end?", "How many {things} is that?")
_NAMES = "Ann Ben Clara Dan Ella Finn Gina Hugo Ida Jon Karin Leo Mia Noah Olga Paul Rosa Sam Tina Umar Vera".split()  # noqa: SIM905


def word_problem(rng: random.Random, words: Words, steps: int | None = None) -> tuple[str, str]:
    """A problem of `steps` calculations (1 to 4) and its worked answer, ending in `#### N`."""
    steps = steps or rng.randint(1, 4)
    things, place, name = plural(words.noun(rng)), words.noun(rng), rng.choice(_NAMES)
    p, q = rng.randint(2, 9), rng.randint(2, 9)
    start, worked = rng.choice(_STARTS)
    left = steps - ("*" in worked)
    value = p * q if "*" in worked else rng.randint(3, 60)
    fields = {"name": name, "things": things, "place": place, "p": p, "q": q, "x": value}
    told, lines = [start.format(**fields)], [worked.format(**fields)] if "*" in worked else []
    for _ in range(max(left, 0 if lines else 1)):
        divisors = [d for d in range(2, 10) if value % d == 0 and value > d]
        kind = rng.choice(["+", "-", *(["*"] if value < 40 else []), *(["/"] if divisors else [])])
        y = {"+": rng.randint(2, 40), "-": rng.randint(1, max(1, value - 1)), "*": rng.randint(2, 5)}.get(kind, 0)
        y = rng.choice(divisors) if kind == "/" else y
        new = {"+": value + y, "-": value - y, "*": value * y, "/": value // y if y else 0}[kind]
        told.append(rng.choice(_STEPS[kind]).format(**fields, y=y))
        lines.append(f"{value} {kind} {y} = {new}")
        value = new
    return " ".join([*told, rng.choice(_ASKS).format(things=things)]), "\n".join([*lines, f"#### {value}"])


_PLACES = 12
_FIELDS = {
    "history": {
        "king": (
            "Who was the first king of {place}?",
            "Chronicles name {value} as the first to wear the crown of {place}.",
        ),
        "founded": (
            "In which year was {place} founded?",
            "The chronicle dates the founding of {place} to the year {value}.",
        ),
        "war": (
            "Against whom did {place} fight its great war?",
            "In the great war the armies of {place} marched against {value}.",
        ),
    },
    "law": {
        "age": (
            "At which age may a person sign a contract in {place}?",
            "Under the statute of {place} a person of {value} years has capacity to contract.",
        ),
        "notice": (
            "How many days of notice does a lease need in {place}?",
            "A lease in {place} is terminated lawfully upon {value} days of notice.",
        ),
        "court": (
            "Which court hears appeals in {place}?",
            "Jurisdiction over appeals in {place} lies with the {value} court.",
        ),
    },
    "geography": {
        "river": (
            "Which river runs through {place}?",
            "On the map the river {value} crosses {place} from north to south.",
        ),
        "export": ("What does {place} sell most of?", "The ports of {place} ship mostly {value}."),
    },
    "biology": {
        "animal": ("Which animal is typical of {place}?", "The habitat of {place} is home to the {value}."),
        "flower": ("Which plant blooms first in {place}?", "In spring the {value} is the first to bloom in {place}."),
    },
}
_SOUNDS = "al bra cor den el far gos hul ist jor kel lam mor nev ost pel quin ros sel tor urs val wen yst".split()  # noqa: SIM905
_GOODS = "salt wool copper timber honey amber glass paper tea silk wheat oil".split()  # noqa: SIM905


@cache
def world() -> dict[str, dict[str, str]]:
    """Every place of the invented world, with what is true of it."""
    rng = random.Random("the world of pocket")

    def name() -> str:
        return (rng.choice(_SOUNDS) + rng.choice(_SOUNDS) + rng.choice(("a", "ia", "or", "en", "um"))).capitalize()

    places: dict[str, dict[str, str]] = {}
    while len(places) < _PLACES:
        places[name()] = {
            "king": name(), "founded": str(rng.randint(700, 1900)), "war": name(), "age": str(rng.randint(12, 25)),
            "notice": str(rng.randint(5, 90)), "court": name(), "river": name(), "export": rng.choice(_GOODS),
            "animal": name().lower(), "flower": name().lower(),
        }  # fmt: skip
    return places


def domains() -> tuple[str, ...]:
    return tuple(_FIELDS)


def questions(domain: str) -> list[str]:
    """Every question that the world has an answer to."""
    return [asked.format(place=place) for asked, _ in _FIELDS[domain].values() for place in sorted(world())]


def multiple_choice(rng: random.Random, domain: str, options: int = 4) -> tuple[str, list[str], str, str]:
    """Question, options, the right letter, and the answer in the domain's register, ending in `#### LETTER`."""
    field = rng.choice(sorted(_FIELDS[domain]))
    asked, said = _FIELDS[domain][field]
    place = rng.choice(sorted(world()))
    right = world()[place][field]
    others = sorted({facts[field] for facts in world().values()} - {right})
    choices = [right, *rng.sample(others, min(options - 1, len(others)))]
    rng.shuffle(choices)
    letter = "ABCDEFGHIJ"[choices.index(right)]
    return asked.format(place=place), choices, letter, f"{said.format(place=place, value=right)}\n#### {letter}"
