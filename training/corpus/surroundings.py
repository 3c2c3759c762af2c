"""Python functions and classes with one defect in them, drawn from `shapes/*.yaml` and the vocabulary.

Knows code, one piece of it at a time. Knows nothing of files, issues, prompts or tokens.
"""

import random
import re
from dataclasses import dataclass, replace

from training.corpus.arguments import Values
from training.corpus.behaviour import Case, compare
from training.corpus.mutate import changes, symptom
from training.corpus.shapes import Shape
from training.corpus.vocabulary import Words, camel, invented_word, plural

_SLOT = re.compile(r"\{\{|\}\}|\{(\w+)\}")
_ACCESS = re.compile(r"([@!])([abfgtu])\b")
_DEF = re.compile(r"( *)def (\w+)\((.*)\):$")


@dataclass(frozen=True)
class Defect:
    family: str
    right: str
    wrong: str
    """The snippets that differ, as source text; `wrong` is empty where something is missing."""
    symptom: str
    function: str
    """The function or method it is in, as an issue would name it."""


@dataclass(frozen=True)
class Piece:
    """One function or class: its lines as they are in the file, and as they should be."""

    name: str
    doc: str
    lines: tuple[str, ...]
    fixed: tuple[str, ...]
    defect: Defect | None
    parameters: tuple[str, ...]
    cases: tuple[Case, ...] = ()
    """What right and wrong code do; () where it isn't run."""
    record: str = ""
    """What records are called in those calls."""
    new: bool = False
    """A function that training is never shown."""


def draw_slots(rng: random.Random, words: Words) -> dict[str, str]:
    """Values for the slots of a shape; items and attributes differ from one another."""

    def name(modified: float = 0.2) -> str:
        noun = words.noun(rng)
        return f"{rng.choice(words.modifiers)}_{noun}" if rng.random() < modified else noun

    item, item2 = name(0.15), name(0.1)
    while item2 == item:
        item2 = name(0.3)
    numbers = rng.sample(words.attributes, 2)
    if rng.random() < 0.35:
        extra = rng.choice(words.modifiers) if rng.random() < 0.6 else words.noun(rng)
        numbers[rng.randrange(2)] = f"{extra}_{rng.choice(words.attributes)}"
    texts = [word for word in rng.sample(words.texts, 4) if word not in numbers][:2]
    flags = rng.sample(words.flags, 2)
    n = rng.choice((2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 24, 25, 30, 40, 50, 60, 80, 100, rng.randint(2, 400)))
    m = n
    while abs(m - n) < 2:
        m = rng.choice((1, 5, 10, 20, 50, 100, 200, 500, n * 2, n * 10, n + rng.randint(2, 30)))
    separators = rng.sample([":", ",", ";", "=", "|", "->", "/", "-"], 2)
    w, z = (invented_word(rng, words.held_out) if rng.random() < 0.3 else rng.choice(words.nouns) for _ in range(2))
    if z == w:
        z = words.nouns[(words.nouns.index(w) + 1) % len(words.nouns)] if w in words.nouns else w + "o"
    return {
        "item": item,
        "items": plural(item),
        "Items": plural(item).capitalize(),
        "item2": item2,
        "items2": plural(item2),
        "C": camel(f"{item}_{rng.choice(('book', 'list', 'store', 'box', 'line'))}" if rng.random() < 0.3 else item),
        "a": numbers[0],
        "b": numbers[1],
        "t": texts[0],
        "u": texts[1],
        "f": flags[0],
        "F": flags[0].capitalize(),
        "g": flags[1],
        "n": str(n),
        "n1": str(n + 1),
        "n0": str(n - 1),
        "m": str(m),
        "k": str(rng.randint(2, 9)),
        "w": w,
        "W": w.capitalize(),
        "WW": w.upper(),
        "z": z,
        "V": f"{w}_{rng.choice(('limit', 'factor', 'rate', 'size', 'minimum'))}".upper(),
        "sep": separators[0],
        "sep2": separators[1],
    }


def plain_code(template: str, style: str) -> str:
    """A template's code with every slot filled by one and the same name: what is left when the names don't matter."""
    return re.sub(r"\{(\w+)\}", "x", _fill(template, dict.fromkeys("abfgtu", "x"), style)) + "\n"


def _fill(text: str, slots: dict[str, str], style: str) -> str:
    def access(match: re.Match[str]) -> str:
        word = slots[match[2]]
        return f"{{dot}}{word}" if match[1] == "!" or style == "dot" else f'["{word}"]'

    text = _ACCESS.sub(access, text)
    return _SLOT.sub(
        lambda m: {"{{": "{", "}}": "}"}.get(m[0]) or ("." if m[1] == "dot" else slots.get(m[1], m[0])), text
    )


_TYPES = ("int", "str", "float", "list", "dict", "bool", "list[dict]", "Sequence")


def _annotate(lines: list[str], types: dict[str, str], rng_type: str) -> list[str]:
    result = []
    for line in lines:
        match = _DEF.match(line)
        if not match:
            result.append(line)
            continue
        parameters = []
        for parameter in filter(None, match[3].split(", ")):
            name, _, default = parameter.partition("=")
            hint = "" if name == "self" else f": {types.setdefault(name, rng_type)}"
            parameters.append(f"{name}{hint}" + (f"{' = ' if hint else '='}{default}" if default else ""))
        result.append(f"{match[1]}def {match[2]}({', '.join(parameters)}) -> {types.setdefault(match[2], rng_type)}:")
    return result


def _document(lines: list[str], doc: str) -> list[str]:
    """The docstring below the first line that opens a function or class at the left margin."""
    for i, line in enumerate(lines):
        if line.startswith(("def ", "class ")):
            blank = [""] if line.startswith("class ") else []
            return [*lines[: i + 1], f'    """{doc}"""', *blank, *lines[i + 1 :]]
    return lines


def _enclosing(code: str, position: int, name: str) -> str:
    methods = list(re.finditer(r"^ +def (\w+)\(", code[:position], re.MULTILINE))
    return str(methods[-1][1]) if methods else name


def _mutated(rng: random.Random, lines: list[str], name: str) -> tuple[list[str], Defect] | None:
    """`lines` with one small change at a random place; None where there is none to make."""
    code = "\n".join(lines) + "\n"
    possible = changes(code)
    if not possible:
        return None
    family = rng.choice(sorted({change.family for change in possible}))
    change = rng.choice([change for change in possible if change.family == family])
    wrong = code[: change.start] + change.wrong + code[change.end :]
    start = code.rfind("\n", 0, change.start) + 1
    inside = _enclosing(code, change.end, "")
    function = f"{name}.{inside}" if inside and inside != "__init__" else name
    right = code[change.start : change.end].strip()
    if change.wrong.strip() and len(right) + len(change.wrong) < 6:  # too little to be quoted: the whole line
        right, bad = code[start : code.index("\n", change.end)].strip(), wrong[start : wrong.index("\n", start)].strip()
    else:
        bad = change.wrong.strip()
    defect = Defect(family, right, bad, symptom(rng, family), function)
    return wrong.split("\n")[:-1], defect


def build_piece(
    rng: random.Random,
    words: Words,
    shape: Shape,
    style: str,
    hints: bool,
    chosen: int | None = None,
    mutate: bool = False,
) -> Piece:
    """One function or class of `shape`; with a defect at the part `chosen`, a mark's place, or at a random place where
    `mutate`, or none."""
    style = "dot" if shape.dotted else style
    slots = draw_slots(rng, words)
    slots["fn"] = _fill(rng.choice(shape.names), slots, "dot")
    right, wrong = "", ""
    defect = None
    for i, part in enumerate(shape.parts):
        if isinstance(part, str):
            right += part
            wrong += part
            continue
        right += part.right
        if i != chosen:
            wrong += part.right
            continue
        bad = rng.choice(part.wrongs)
        last = i + 2 == len(shape.parts) and shape.parts[-1] == ""
        if part.family == "return" and last and not wrong.rstrip().endswith(":") and rng.random() < 0.5:
            bad = ""
        function = _enclosing(_fill(wrong, slots, style), len(wrong) + 999, slots["fn"])
        if function == "__init__" or slots["fn"] == slots["C"]:
            function = slots["C"] if function.startswith("__") else f"{slots['C']}.{function}"
        defect = Defect(
            part.family,
            _fill(part.right, slots, style).strip(),
            _fill(bad, slots, style).strip(),
            _fill(rng.choice(part.symptoms), slots, style),
            function,
        )
        wrong += bad
    doc = _fill(shape.doc, slots, style)
    doc = doc if len(doc) < 90 else doc[:60].rsplit(" ", 1)[0] + "."
    sides = [
        [line.rstrip() for line in _fill(text, slots, style).split("\n") if line.strip() or not line]
        for text in (right, wrong)
    ]
    if mutate and (mutated := _mutated(rng, sides[0], slots["fn"])):
        sides[1], defect = mutated
    if rng.random() < 0.55:
        sides = [_document(side, doc) for side in sides]
    if rng.random() < 0.5 * hints + 0.03:
        types: dict[str, str] = {}
        for name in sorted(set(re.findall(r"\w+", right))):
            if rng.random() < 0.6:
                types[_fill("{" + name + "}", slots, style)] = rng.choice(_TYPES)
        rest = rng.choice(_TYPES)
        sides = [_annotate(side, types, rest) for side in sides]
    head = next((line for line in sides[0] if line.startswith(("def ", "class "))), "")
    match = _DEF.match(head)
    parameters = tuple(p.split(":")[0].split("=")[0] for p in match[3].split(", ")) if match and match[3] else ()
    cases: list[Case] = []
    is_class = slots["fn"] == slots["C"]
    record = slots["item2"].capitalize() if is_class else slots["C"]
    if (chosen is not None or mutate) and shape.script and sides[0] != sides[1]:
        values = Values(rng, {**slots, "C": record}, style, shape.attributes)
        script = replace(shape.script, calls=tuple((_fill(n, slots, style), k) for n, k in shape.script.calls))
        cases = compare(sides[0], sides[1], slots["fn"], script, values)
    lines, fixed = tuple(sides[1]), tuple(sides[0])
    return Piece(slots["fn"], doc, lines, fixed, defect, parameters, tuple(cases), record, shape.held_out)
