"""Issues as users write them, about a scene's defect.

Knows prose. Knows nothing of prompts or answers. Phrasings are split: the held-out ones are drawn for evaluation only.
"""

import random
import re
from dataclasses import replace

from training.corpus.behaviour import Case
from training.corpus.scenes import Scene, short
from training.corpus.vocabulary import Words

_TITLES = (
    "`{fn}` gives the wrong result",
    "{fn} returns wrong values",
    "Bug in `{fn}`",
    "{fn}() is broken",
    "Wrong result from {fn}",
    "Problem with {module}: {fn}",
    "{fn} does not do what it says",
    "Unexpected behaviour of `{fn}`",
    "{fn} misbehaves",
    "`{fn}()` in {module}.py is wrong",
)
_HELD_OUT_TITLES = (
    "Strange output of {fn}",
    "Can't trust what `{fn}` reports",
    "{module}: {fn} looks off",
)
_FEATURE_TITLES = (
    "Something is wrong in {module}",
    "{module}.py: wrong result",
    "Bug in the {module} module",
    "Wrong behaviour: {doc}",
    "This does not work: {doc}",
)
_HELD_OUT_FEATURE_TITLES = ("{module} acts up", "Not as documented: {doc}")
_OPENINGS = (
    "",
    "",
    "Hi,",
    "I am using version {v} and found this.",
    "We noticed this today.",
    "Since the last update this fails.",
    "I call it from our {word} page.",
    "A customer reported this.",
    "Found while working on the {word} feature.",
)
_HELD_OUT_OPENINGS = ("", "Our nightly job tripped over this.", "Hello, I have been using this for a while now.")
_PURPOSES = (
    "It should do this: {doc}",
    "The documentation says: {doc}",
    "According to the docstring: {doc}",
    "Expected: {doc}",
)
_HELD_OUT_PURPOSES = ("What I understood it should do: {doc}", "The manual promises: {doc}")
_EXPLICIT = (
    "It uses `{wrong}` where it should use `{right}`.",
    "I think `{wrong}` should be `{right}`.",
    "Probably `{right}` is meant, not `{wrong}`.",
    "The code has `{wrong}` but needs `{right}`.",
)
_MISSING = ("I think this is missing: `{right}`", "There is no `{right}` in it.")
_CLOSINGS = (
    "",
    "",
    "",
    "Thanks!",
    "Please fix it.",
    "Python 3.{p}, Linux.",
    "Steps to reproduce: call it as shown above.",
    "The other functions are fine.",
    "I expected something else.",
)
_HELD_OUT_CLOSINGS = ("", "Happy to test a fix.", "Seen on two machines.")


_SAYS = (
    "`{call}` gives `{actual}`, expected `{expected}`",
    "Expected: `{call}` gives `{expected}`\nActual: `{actual}`",
    "`{call}`\nExpected: `{expected}`\nActual: `{actual}`",
    "{call} returned {actual}, expected {expected}",
    "    >>> {call}\n    {actual}\nI expected {expected}.",
    "`{call}` should be `{expected}` and is `{actual}`.",
    "Call: {call}\nExpected: {expected}\nActual: {actual}",
    "E   assert {call} == {expected}\nE   got {actual}",
    "FAILED tests/test_{module}.py - assert {actual} == {expected}, from {call}",
)
_HELD_OUT_SAYS = (
    "I get {actual} from `{call}` where {expected} would be right.",
    "`{call}` -> `{actual}` (should have been `{expected}`)",
    "Input: {call}\nOutput: {actual}\nCorrect output: {expected}",
)
_RAISES = (
    "`{call}` fails with {actual}\nExpected: `{expected}`",
    "`{call}`\nExpected: `{expected}`\nActual: {actual}",
    'Traceback (most recent call last):\n  File "{path}", line {line}, in {bare}\n    {code}\n{actual}',
    'I call {call} and get:\n  File "{path}", line {line}, in {bare}\n{actual}',
    "{call} raises {actual}, expected {expected}",
)
_HELD_OUT_RAISES = ("`{call}` blows up: {actual}. It should return {expected}.",)
_MUST_RAISE = ("`{call}` should raise {expected}, but gives `{actual}`.", "No error from `{call}`; expected {expected}")
_CHANGES = (
    "After `{call}` I have {actual}, expected {expected}",
    "`{call}` leaves {actual}. It should leave {expected}.",
)


def tellable(scene: Scene) -> Case | None:
    """The call that shows the defect and that an issue may tell; None where none is short enough."""
    return next((case for case in scene.piece.cases if case.reveals and short(case)), None)


def _example(rng: random.Random, scene: Scene, held_out: bool) -> str:
    """The tellable call, with what is expected and what comes out; "" where there is none."""
    case = tellable(scene)
    if case is None:
        return ""
    expected, actual = case.expected, case.actual
    target = scene.passages[scene.target]
    forms: tuple[str, ...] = _HELD_OUT_SAYS if held_out else _SAYS
    line = at = -1
    if actual.raised:
        forms = _HELD_OUT_RAISES if held_out else _RAISES
        at = scene.start + actual.line if actual.line >= 0 else -1
        line = target.first_line + at
    elif expected.raised:
        forms = _MUST_RAISE
    elif expected.result == actual.result:
        forms = _CHANGES
        expected, actual = replace(expected, result=expected.changed), replace(actual, result=actual.changed)
    form = rng.choice([form for form in forms if "{line}" not in form or 0 <= at < len(target.lines)])
    values = {
        "call": "; ".join((*expected.before, expected.text)),
        "expected": expected.result or "nothing",
        "actual": actual.result or "nothing",
        "path": target.path,
        "line": str(line),
        "code": target.lines[at].strip() if 0 <= at < len(target.lines) else "",
        "bare": scene.defect.function.split(".")[-1],
        "module": scene.module,
    }
    return re.sub(r"\{(\w+)\}", lambda m: values[m[1]], form)


def draw_issue(rng: random.Random, scene: Scene, words: Words, held_out: bool = False) -> str:
    """One issue of two to eight lines. It usually names the function, sometimes only the module or the feature."""
    defect = scene.defect
    names_function = rng.random() < 0.9
    titles: tuple[str, ...] = (
        (_HELD_OUT_TITLES if held_out else _TITLES)
        if names_function
        else (_HELD_OUT_FEATURE_TITLES if held_out else _FEATURE_TITLES)
    )
    doc = scene.piece.doc
    if rng.random() < 0.25:
        bare = not names_function or rng.random() < 0.2
        titles = (defect.symptom.rstrip(".") if bare else f"{defect.function}: {defect.symptom}",)
    values = {
        "fn": rng.choice((defect.function, defect.function.split(".")[-1])),
        "module": scene.module,
        "doc": doc,
        "v": f"{rng.randint(0, 9)}.{rng.randint(0, 20)}",
        "word": rng.choice(words.nouns),
        "p": str(rng.randint(8, 13)),
        "right": defect.right.split("\n")[0],
        "wrong": defect.wrong.split("\n")[0],
    }

    def fill(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda m: values[m[1]], text)

    lines = [fill(rng.choice(titles)), ""] if rng.random() < 0.85 else []
    body = [fill(rng.choice(_HELD_OUT_OPENINGS if held_out else _OPENINGS))]
    symptom = defect.symptom
    if names_function and rng.random() < 0.3:
        symptom = f"{values['fn']}: {symptom}"
    example = _example(rng, scene, held_out) if rng.random() < 0.75 else ""
    explicit = rng.random()
    if explicit < 0.06 and defect.wrong:
        body.append(fill(rng.choice(_EXPLICIT)))
    elif explicit < 0.1 and not defect.wrong:
        body.append(fill(rng.choice(_MISSING)))
    elif not example or rng.random() < 0.75:
        body.append(symptom)
        if explicit > 0.93 and defect.wrong:
            body.append(fill(rng.choice(_EXPLICIT)))
    if rng.random() < 0.35 or not lines:
        body.append(fill(rng.choice(_HELD_OUT_PURPOSES if held_out else _PURPOSES)))
    if example:
        body.append(example)
    body.append(fill(rng.choice(_HELD_OUT_CLOSINGS if held_out else _CLOSINGS)))
    text = rng.choice(("\n", "\n", " ", "\n\n")).join(part for part in body if part)
    return "\n".join([*lines, text]).strip("\n")
