"""Issues as users write them, about a scene's defect.

Knows prose. Knows nothing of prompts or answers. Phrasings are split: the held-out ones are drawn for evaluation only.
"""

import random
import re

from steergraph.pocket.scenes import Scene
from steergraph.pocket.vocabulary import Words

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


def _value(rng: random.Random, words: Words) -> str:
    return rng.choice((str(rng.randint(0, 300)), f'"{rng.choice(words.nouns)}"', "[]", "None", "True", "False"))


def _example(rng: random.Random, scene: Scene, words: Words) -> str:
    fn = scene.defect.function
    arguments = ", ".join(_value(rng, words) for _ in scene.piece.parameters) or "..."
    got, expected = _value(rng, words), _value(rng, words)
    call = f"{fn}({rng.choice((arguments, arguments, '...', ', '.join(scene.piece.parameters)))})"
    return rng.choice(
        (
            f"    >>> {call}\n    {got}",
            f"{call} returned {got}, expected {expected}",
            f"Call: {call}\nExpected: {expected}\nActual: {got}",
            f"E   assert {call} == {expected}",
            f'Traceback (most recent call last):\n  File "{scene.passages[scene.target].path}", line'
            f" {rng.randint(3, 300)}, in {fn.split('.')[-1]}\nAssertionError",
            f"FAILED tests/test_{scene.module}.py::test_{fn.split('.')[-1].lower()} - assert {got} == {expected}",
        )
    )


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
    explicit = rng.random()
    if explicit < 0.1 and defect.wrong:
        body.append(fill(rng.choice(_EXPLICIT)))
    elif explicit < 0.16 and not defect.wrong:
        body.append(fill(rng.choice(_MISSING)))
    else:
        body.append(symptom)
        if explicit > 0.88 and defect.wrong:
            body.append(fill(rng.choice(_EXPLICIT)))
    if rng.random() < 0.4 or not lines:
        body.append(fill(rng.choice(_HELD_OUT_PURPOSES if held_out else _PURPOSES)))
    if rng.random() < 0.4:
        body.append(_example(rng, scene, words))
    body.append(fill(rng.choice(_HELD_OUT_CLOSINGS if held_out else _CLOSINGS)))
    text = rng.choice(("\n", "\n", " ", "\n\n")).join(part for part in body if part)
    return "\n".join([*lines, text]).strip("\n")
