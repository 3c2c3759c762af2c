"""What each specialist says about a scene, each in a register of its own, and the edit that repairs it.

Knows the registers and the edit format. Knows nothing of prompts, tokens or training.
"""

import random
from collections.abc import Sequence
from difflib import SequenceMatcher

from steergraph.configs import load_config
from training.corpus.behaviour import Call
from training.corpus.scenes import Scene

CAUSES = {
    "accumulator": "a running value that is overwritten or never grows",
    "case": "upper and lower case that are told apart",
    "container": "the wrong kind of container",
    "conversion": "a value that is never converted",
    "duplicate": "repeats that nobody removes",
    "early_return": "a return inside the loop that comes too early",
    "empty": "an empty input that nobody thought of",
    "exception": "an except clause for the wrong exception",
    "loop_variable": "the wrong loop variable",
    "mutable_default": "a default that all calls share",
    "none": "a None that nobody checks for",
    "ordering": "the wrong order",
    "rounding": "rounding to the wrong place or in the wrong direction",
    "self": "a method that forgets its own object",
    "slice_bound": "a slice with the wrong bound",
    "unit": "a factor between units that is wrong",
    "update": "a line that should move the state on and is missing",
    "arithmetic": "an arithmetic slip: the wrong operator combines the values",
    "comparison": "a comparison that points the wrong way or forgets its boundary",
    "constant": "a constant with the wrong value",
    "default": "a default with the wrong value",
    "guard": "a case nobody guards against, the empty or missing one",
    "key": "a wrong key or field",
    "logic": "a condition that is negated or joined the wrong way",
    "off_by_one": "an index or a count that is off by one",
    "return": "a lost return value",
    "sign": "a wrong sign: plus and minus are confused",
    "string_method": "the wrong string method",
    "strip": "whitespace that is never stripped",
    "swapped": "two things in swapped order",
    "variable": "a mixed-up name: the wrong variable is used",
}


def wrong_lines(scene: Scene) -> tuple[int, int, int, int]:
    """The differing ranges (start, end) in the target passage as it is and as it should be, 0-based, half-open."""
    before, after = scene.passages[scene.target].lines, scene.fixed
    codes = [c for c in SequenceMatcher(None, before, after, autojunk=False).get_opcodes() if c[0] != "equal"]
    return codes[0][1], codes[-1][2], codes[0][3], codes[-1][4]


def edit_hunk(
    lines: Sequence[str], fixed: Sequence[str], span: tuple[int, int, int, int]
) -> tuple[list[str], list[str]]:
    """Old and new lines of the smallest edit whose old lines stand in `lines` once: never empty, never blank only."""
    start, end, new_start, new_end = span
    if start == end:  # an insertion hangs on the line it comes before, or after where that one is blank
        if end < len(lines) and lines[end].strip():
            end, new_end = end + 1, new_end + 1
        else:
            start, new_start = start - 1, new_start - 1

    def occurrences() -> int:
        old = list(lines[start:end])
        return sum(list(lines[i : i + len(old)]) == old for i in range(len(lines) - len(old) + 1))

    while occurrences() > 1:
        if start > 0:
            start, new_start = start - 1, new_start - 1
        else:
            end, new_end = end + 1, new_end + 1
    return list(lines[start:end]), list(fixed[new_start:new_end])


def say_edit(path: str, old: Sequence[str], new: Sequence[str]) -> str:
    """One edit block."""
    layout = load_config("edit_format")
    return "\n".join([path, layout["search"], *old, layout["divider"], *new, layout["replace"]])


def say_patch(scene: Scene) -> str:
    """What patch_writing answers: the smallest unique edit."""
    target = scene.passages[scene.target]
    return say_edit(target.path, *edit_hunk(target.lines, scene.fixed, wrong_lines(scene)))


def _named(scene: Scene, issue: str) -> str:
    """The function as the issue names it, or its module; "" where it names neither: nobody can know then."""
    fn = scene.defect.function
    known = (fn, fn.split(".")[-1], scene.piece.name, f"{scene.module}.py", scene.module)
    return next((name for name in known if name in issue), "")


def say_bug_analysis(rng: random.Random, scene: Scene, issue: str, family: str = "") -> str:
    """Suspicions, from the issue alone; of another family where `family` names one."""
    cause = CAUSES[family or scene.defect.family]
    named = _named(scene, issue)
    suspects = f"Suspects: `{named}`" if named else "No suspect is named"
    if named and scene.module in issue and rng.random() < 0.7:
        suspects += f" in `{scene.module}.py`"
    return rng.choice(
        (f"Likely cause: {cause}.\n{suspects}.", f"Probably {cause}.\n{suspects}.", f"Root cause: {cause}. {suspects}.")
    )


def told_calls(scene: Scene, issue: str) -> list[Call]:
    """The calls that show the defect and that the issue gives, with their results."""
    return [
        c.expected for c in scene.piece.cases if c.reveals and c.expected.text in issue and c.expected.result in issue
    ]


def say_test_reasoning(rng: random.Random, scene: Scene, issue: str) -> str:
    """A requirement for a test, from the issue alone: the very call that it tells, where it tells one."""
    name = _named(scene, issue)
    told = told_calls(scene, issue)
    check = next((text for text in (scene.defect.symptom, scene.piece.doc) if text in issue), "")
    if told and rng.random() < 0.85:
        said = rng.choice(
            (
                f"A test must check that `{told[0].text}` gives `{told[0].result}`.",
                f"Assert `{told[0].text} == {told[0].result}`.",
            )
        )
    elif check and rng.random() < 0.7:
        call = f"call `{name}` and " if name else ""
        said = f"A test must {call}assert the opposite of this: {check}"
    elif not name:
        said = "Assert the expected result of the issue."
    else:
        said = rng.choice(
            (
                f"Assert that `{name}` returns the expected value of the issue.",
                f"The test calls `{name}` as the issue does and compares the result with the expected one.",
            )
        )
    endings = ["It fails before the fix and passes after it."]
    if name:
        endings.append(f"Name it `test_{name.split('.')[-1].lower()}`.")
    return f"{said}\n{rng.choice(endings)}"


def say_code_reading(rng: random.Random, scene: Scene) -> str:
    """What the code does, and which numbered line is wrong."""
    target = scene.passages[scene.target]
    start, end, new_start, _ = wrong_lines(scene)
    number = target.first_line + start
    old = target.lines[start].strip() if start < end else ""
    new = scene.fixed[new_start].strip()
    purpose = f"`{scene.piece.name}`: {scene.piece.doc}"
    if not old:
        return f"{purpose}\nBefore line {number} `{new}` is missing."
    return f"{purpose}\n" + rng.choice(
        (f"Line {number} is wrong: `{old}` should be `{new}`.", f"Line {number} reads `{old}` and should read `{new}`.")
    )


_SLIPS = (
    (" < ", " > "),
    (" > ", " < "),
    (" + ", " - "),
    (" - ", " + "),
    (" == ", " != "),
    ("= 0", "= 1"),
    ("return ", ""),
)


def say_mistaken_reading(rng: random.Random, scene: Scene) -> str:
    """What code_reading says when it takes a good line for the wrong one."""
    target = scene.passages[scene.target]
    index = rng.choice([i for i, line in enumerate(target.lines) if line.strip()])
    line = target.lines[index].strip()
    changed = next((line.replace(*slip) for slip in _SLIPS if slip[0] in line), f"{line} + 1")
    number = target.first_line + index
    return f"`{scene.piece.name}`: {scene.piece.doc}\nLine {number} is wrong: `{line}` should be `{changed}`."
