"""Values to call a drawn function with, and how a user would write them.

Knows the kinds of values that `shapes/*.yaml` name under `args`, `new` and `calls`. Knows nothing of defects: what the
values reveal is found by running both versions (`behaviour`).
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from training.corpus.vocabulary import invented_word

_DEEPEST = 16


class Record:
    """A thing with attributes, shown as its constructor call."""

    def __init__(self, kind: str, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)
        self._kind = kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(show(self))


def show(value: Any, inside: tuple[int, ...] = ()) -> str:
    """`value` as Python source: texts in double quotes, numbers as long as a reader needs. What lies within itself, or
    deeper than `_DEEPEST`, is `...`: wrong code may build anything. `inside` are the ids of what it lies in."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return repr(value)
    if isinstance(value, float):
        return repr(round(value, 4))
    if id(value) in inside or len(inside) == _DEEPEST:
        return "..."
    part = partial(show, inside=(*inside, id(value)))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{part(k)}: {part(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(part, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(part, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(part, value))) + "}" if value else "set()"
    if isinstance(value, Record):
        fields = ", ".join(f"{name}={part(v)}" for name, v in vars(value).items() if name != "_kind")
        return f"{value._kind}({fields})"
    if hasattr(value, "__dict__"):
        fields = ", ".join(f"{name}={part(v)}" for name, v in vars(value).items())
        return f"{type(value).__name__}({fields})"
    return type(value).__name__


class Values:
    """Draws values of the kinds that shapes name. One pool of words, so that keys are often found."""

    def __init__(self, rng: random.Random, slots: Mapping[str, str], style: str, attributes: Sequence[str]) -> None:
        self.rng, self.slots, self.style = rng, slots, style
        self.attributes = tuple(attributes)
        self.n, self.m, self.k = int(slots["n"]), int(slots["m"]), int(slots["k"])
        self.last = ""
        self.pool = [slots["w"], slots["z"], *(invented_word(rng, slots["w"][0] in "kz") for _ in range(3))]

    def draw(self, kind: str) -> Any:
        """A value of `kind`. Raises KeyError for a kind that is not known."""
        value = KINDS[kind](self)
        self.last = value if isinstance(value, str) else self.last
        return value

    def word(self) -> str:
        return self.rng.choice(self.pool)

    def text(self, longest: int = 3) -> str:
        words = [self.word() for _ in range(self.rng.randint(1, longest))]
        case = self.rng.random()
        words = [w.title() if case < 0.4 else w.upper() if case < 0.5 else w for w in words]
        text = self.rng.choice((" ", " ", " ", "  ")).join(words) if self.rng.random() > 0.08 else ""
        return self.rng.choice((text, text, f" {text}", f"{text} ", f"  {text} "))

    def near(self, *numbers: int) -> int:
        number = self.rng.choice(numbers)
        return number + self.rng.choice(
            (0, 0, -1, 1, self.rng.randint(2, 20), -self.rng.randint(2, max(2, number // 2)))
        )

    def small(self) -> int:
        return self.rng.randint(0, 6)

    def fields(self, number: Callable[[], int]) -> dict[str, Any]:
        flag = lambda: self.rng.random() < 0.5  # noqa: E731
        makers: dict[str, Callable[[], Any]] = {
            "a": number, "b": number, "f": flag, "g": flag, "t": self.word, "u": self.word
        }  # fmt: skip
        return {self.slots[name]: makers[name]() for name in self.attributes}

    def record(self, number: Callable[[], int] | None = None, dotted: bool = False) -> Any:
        values = self.fields(number or self.small)
        return Record(self.slots["C"], values) if dotted or self.style == "dot" else values

    def several(self, make: Callable[[], Any], least: int = 0, most: int = 4) -> list[Any]:
        return [make() for _ in range(self.rng.randint(least, most))]

    def stock(self, make: Callable[[], Any] | None = None) -> dict[str, Any]:
        words = self.rng.sample(self.pool, self.rng.randint(0, 3))
        return {word: (make or self.small)() for word in words}

    def lines(self) -> str:
        def line() -> str:
            return self.rng.choice((self.text(2), self.text(2), "", "   ", f"# {self.word()}"))

        return "\n".join(self.several(line, 1, 5))

    def line(self) -> str:
        said = self.word() + self.slots["sep"] + str(self.rng.randint(0, 99))
        return self.rng.choice(("", " ")) + said + self.rng.choice(("", "\n"))

    def amount(self) -> str:
        given = f"{self.n} {self.slots['w']}"
        return self.rng.choice(("", given, f"{self.small()} {self.slots['z']}", str(self.rng.randint(0, 99))))

    def maybe(self, value: Any, chance: float = 0.25) -> Any:
        return None if self.rng.random() < chance else value


KINDS: dict[str, Callable[[Values], Any]] = {
    "record": lambda v: v.record(),
    "object": lambda v: v.record(dotted=True),
    "record_n": lambda v: v.record(lambda: v.near(v.n)),
    "record_k": lambda v: v.record(lambda: max(0, v.near(v.k))),
    "record_edge": lambda v: v.record(lambda: v.rng.choice((-2, -1, 0, 0, 1, 5))),
    "record?": lambda v: v.maybe(v.record()),
    "records": lambda v: v.several(v.record),
    "objects": lambda v: v.several(lambda: v.record(dotted=True)),
    "records+": lambda v: v.several(v.record, 1),
    "record_map": lambda v: v.stock(v.record),
    "object_map": lambda v: v.stock(lambda: v.record(dotted=True)),
    "word": lambda v: v.word(),
    "words": lambda v: v.several(v.word, 0, 5),
    "words+": lambda v: v.several(v.word, 1, 5),
    "text": lambda v: v.text(),
    "variant": lambda v: v.rng.choice((v.last.lower(), v.last.upper(), v.last.title(), v.text())),
    "text?": lambda v: v.maybe(v.text()),
    "texts": lambda v: v.several(v.text),
    "sentence": lambda v: v.text(6),
    "lines": lambda v: v.lines(),
    "prefixed": lambda v: v.rng.choice((f"{v.slots['w']}{v.word()}", f"{v.word()}{v.slots['w']}", v.word())),
    "paths": lambda v: v.several(lambda: v.word() + v.rng.choice((".", ".", "")) + v.rng.choice(v.pool[:2])),
    "line": lambda v: v.line(),
    "amount": lambda v: v.amount(),
    "int": lambda v: v.rng.randint(0, 9),
    "signed": lambda v: v.rng.randint(-3, 9),
    "ints": lambda v: v.several(lambda: v.rng.randint(0, 9), 0, 5),
    "ints+": lambda v: v.several(lambda: v.rng.randint(0, 9), 1, 5),
    "signeds": lambda v: v.several(lambda: v.rng.randint(-5, 9), 0, 5),
    "many": lambda v: list(range(1, v.rng.randint(0, 9) + 1)),
    "count": lambda v: v.rng.randint(0, 4),
    "size": lambda v: v.rng.randint(1, 4),
    "page": lambda v: v.rng.randint(1, 3),
    "hundreds": lambda v: v.rng.choice((0, 50, 80, 100, 120, 200, 240, 1000)),
    "percent": lambda v: v.rng.choice((0, 5, 10, 20, 25, 50, 100)),
    "near_n": lambda v: v.near(v.n),
    "near_m": lambda v: v.near(v.m),
    "near_nm": lambda v: v.near(v.n, v.m),
    "near_k": lambda v: max(0, v.near(v.k)),
    "multiple_n": lambda v: v.n * v.rng.randint(0, 4) + v.rng.choice((0, 0, 1)),
    "seconds": lambda v: 60 * v.rng.randint(0, 90) + v.rng.choice((0, 0, 30)),
    "year": lambda v: v.rng.choice((1900, 2000, 2100, 2023, 2024, v.rng.randint(1890, 2040))),
    "float": lambda v: round(v.rng.uniform(0, 50), 3),
    "floats": lambda v: v.several(lambda: round(v.rng.uniform(0, 50), 3), 0, 4),
    "digits": lambda v: v.rng.choice((str(v.rng.randint(0, 99)), f" {v.rng.randint(0, 9)}", v.word(), "")),
    "numbers": lambda v: v.several(lambda: str(v.rng.randint(0, 99)), 0, 4),
    "low": lambda v: v.rng.randint(0, 4),
    "high": lambda v: v.rng.randint(5, 9),
    "flag": lambda v: v.rng.random() < 0.5,
    "flags": lambda v: v.several(lambda: v.rng.random() < 0.6),
    "stock": lambda v: v.stock(),
    "stock_words": lambda v: v.stock(v.word),
    "stock_lists": lambda v: v.stock(lambda: v.several(v.word, 0, 3)),
    "pairs": lambda v: v.several(lambda: (v.word(), v.small())),
    "grid": lambda v: v.several(lambda: v.several(v.small, 2, 2), 0, 3),
    "config": lambda v: {
        key: value
        for key, value in {
            v.slots["t"]: v.word(), v.slots["u"]: v.word(), v.slots["a"]: str(v.small()), v.slots["b"]: str(v.small())
        }.items()
        if v.rng.random() < 0.7
    },
    "data": lambda v: {
        v.slots["t"]: v.word(), v.slots["u"]: v.word(), v.slots["a"]: str(v.small()), v.slots["b"]: str(v.small()),
        **({v.slots["f"]: v.rng.random() < 0.5} if v.rng.random() < 0.5 else {}),
    },
    "code": lambda v: "".join(v.rng.choice("abc123-") for _ in range(v.rng.choice((v.k, v.k, v.k - 1, v.k + 1)))),
    "code?": lambda v: v.maybe(KINDS["code"](v), 0.2),
}  # fmt: skip
