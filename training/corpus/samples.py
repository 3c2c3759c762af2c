"""Pocket's corpus: conversations drawn from a seed, in the very prompts the graph's specialists use.

Knows the specialists' sections and what pocket shall answer to them. Knows nothing of tokens.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from steergraph.configs.prompts import build_messages, format_passage
from training.corpus.calendar import SYSTEM, as_json, draw_case
from training.corpus.issues import draw_issue
from training.corpus.reasoning import domains, multiple_choice, word_problem
from training.corpus.scenes import Scene, draw_scene
from training.corpus.shapes import families
from training.corpus.speech import (
    edit_hunk,
    say_bug_analysis,
    say_code_reading,
    say_edit,
    say_mistaken_reading,
    say_patch,
    say_test_reasoning,
    wrong_lines,
)
from training.corpus.vocabulary import HELD_OUT, TRAIN, Words, invented_word, plural

Split = Literal["train", "seen", "names", "phrasings", "families"]
"""`train` and `seen` draw from the same, with other seeds. Of the others each has something that training never has:
names (words, and functions they are used in), phrasings of issues, families of defects."""


PRACTICE = 0.75
"""The share of training's repairs and readings that are drawn as `practice` draws them."""


@dataclass(frozen=True)
class Sample:
    kind: str
    """A specialist's name, or `copy`, `plain`."""
    family: str
    """The defect's family, "" where there is none."""
    messages: tuple[dict[str, str], ...]
    answer: str
    scene: Scene | None = None
    sections: Mapping[str, str] = field(default_factory=dict)
    """Of a repair: what its prompt is built from."""


def _context(rng: random.Random, scene: Scene) -> str:
    gap = rng.choice(("\n\n", "\n\n", "\n"))
    return gap.join(format_passage(p.path, p.first_line, p.lines) for p in scene.passages)


def _notes(rng: random.Random, scene: Scene, issue: str) -> str:
    said = {
        "bug_analysis": say_bug_analysis(rng, scene, issue),
        "test_reasoning": say_test_reasoning(rng, scene, issue),
        "code_reading": say_code_reading(rng, scene),
    }
    mistaken = rng.random()  # specialists guess, and the patch has to be right all the same
    if mistaken < 0.04:
        said["code_reading"] = say_code_reading(rng, draw_scene(rng, TRAIN, size=0))
    elif mistaken < 0.12:
        said["code_reading"] = say_mistaken_reading(rng, scene)
    if rng.random() < 0.2:
        said["bug_analysis"] = say_bug_analysis(rng, scene, issue, rng.choice(families()))
    names = [name for name in said if rng.random() < 0.75] or ["bug_analysis"]
    layout = rng.choice(
        ("{text}", "{text}", "{text}", "{text}", "{name}: {text}", "{name}:\n{text}", "- {text}", "[{name}] {text}")
    )
    return rng.choice(("\n", "\n", "\n\n")).join(layout.format(name=name, text=said[name]) for name in names)


def _feedback(rng: random.Random, scene: Scene) -> str:
    path = scene.passages[scene.target].path
    return rng.choice(
        (
            f"edit 1 of {path}: SEARCH is not in the file",
            f"edit 1 of {path}: no change: REPLACE says what is there already",
            f"edit 1 of {path}: SEARCH is in the file more than once",
            "with the patch the test command fails with exit code 1: FAILED (failures=1)",
            "with the patch the test command fails with exit code 1: FAILED (errors=1)",
            "there is no edit block in the answer",
            f"{path} does not parse any more: line {rng.randint(2, 60)}: invalid syntax",
        )
    )


def _practises(rng: random.Random, split: Split) -> bool:
    return split == "train" and rng.random() < PRACTICE


def patch_sample(
    rng: random.Random, split: Split, size: int, notes: bool | None = None, practice: bool = False
) -> Sample:
    """A repair. `notes` None draws whether earlier specialists have spoken."""
    words = HELD_OUT if split == "names" else TRAIN
    scene = draw_scene(
        rng,
        words,
        size=size,
        held_out_shapes=split == "names" and rng.random() < 0.5,
        held_out_families=split == "families",
        practice=practice,
    )
    held_out = split == "phrasings"
    sections = {"issue": draw_issue(rng, scene, words, held_out)}
    answer = say_patch(scene)
    with_notes = rng.random() < 0.5 if notes is None else notes
    target = scene.passages[scene.target]
    if notes is None and rng.random() < 0.04:  # no code: the path has to be in the issue
        sections["issue"] += (
            f"\nIt is in {target.path}: `{target.lines[wrong_lines(scene)[0]].strip() or 'pass'}`"
            if (wrong_lines(scene)[0] < len(target.lines))
            else f"\nIt is in {target.path}."
        )
        start, end, new_start, new_end = wrong_lines(scene)
        if start < end:
            answer = say_edit(
                target.path,
                *edit_hunk(
                    target.lines[start:end], scene.fixed[new_start:new_end], (0, end - start, 0, new_end - new_start)
                ),
            )
    else:
        sections["context"] = _context(rng, scene)
    if with_notes:
        sections["notes"] = _notes(rng, scene, sections["issue"])
    if notes is None and rng.random() < 0.08:
        sections["feedback"] = _feedback(rng, scene)
    return Sample(
        "patch_writing",
        scene.defect.family,
        tuple(build_messages("patch_writing", sections)),
        answer,
        scene,
        sections,
    )


def speech_sample(rng: random.Random, specialist: str, size: int, split: Split = "train") -> Sample:
    """A few lines of bug_analysis, test_reasoning or code_reading."""
    words = HELD_OUT if split == "names" else TRAIN
    practice = _practises(rng, split)
    scene = draw_scene(rng, words, size=size, held_out_families=split == "families", practice=practice)
    held_out = split == "phrasings"
    sections = {"issue": draw_issue(rng, scene, words, held_out), "context": _context(rng, scene)}
    if specialist == "bug_analysis":
        answer = say_bug_analysis(rng, scene, sections["issue"])
    elif specialist == "test_reasoning":
        answer = say_test_reasoning(rng, scene, sections["issue"])
    else:
        answer = say_code_reading(rng, scene)
        if rng.random() < 0.08:  # nothing was retrieved
            del sections["context"]
            answer = f"`{scene.defect.function}` is not shown. Look for it in `{scene.module}.py`."
    return Sample(specialist, scene.defect.family, tuple(build_messages(specialist, sections)), answer, scene)


def copy_sample(rng: random.Random, words: Words) -> Sample:
    """Words or code to repeat: the cheapest lesson in copying."""
    if rng.random() < 0.5:
        glue = rng.choice((" ", "_", "\n", ", ", ".", " + ", "(", " = "))
        count = rng.randint(4, 16)
        text = glue.join(rng.choice((words.noun(rng), invented_word(rng))) for _ in range(count))
    else:
        scene = draw_scene(rng, words, size=0)
        text = "\n".join(scene.passages[0].lines)
    ask = rng.choice(("Repeat:", "Copy this:", "Say it again:", "Write the same:"))
    return Sample("copy", "", ({"role": "user", "content": f"{ask}\n{text}"},), text)


_PLAIN = (
    ("What is {a} plus {b}?", "{a} plus {b} is {sum}."),
    ("What is {a} minus {b}?", "{a} minus {b} is {difference}."),
    ("Which number is larger, {a} or {b}?", "The larger number is {largest}."),
    ("Write a sentence about the {x}.", "The {x} stands near the {y}, and nobody minds."),
    (
        "Tell me about the {x} and the {y}.",
        "The {x} came first. The {y} followed a little later, and both are still in use.",
    ),
    ("What is the plural of {x}?", "The plural of {x} is {xs}."),
    ("Name two things.", "A {x} and a {y}."),
    ("Where did you put the {x}?", "The {x} is beside the {y}."),
    ("Hello!", "Hello. How can I help you today?"),
    ("Spell {x} in capitals.", "{X}"),
    ("Does the {x} need the {y}?", "Yes, the {x} needs the {y} on most days."),
    ("Describe the weather.", "It is mild and cloudy, with a little wind from the west."),
)


def reasoning_sample(rng: random.Random, words: Words) -> Sample:
    """A word problem, or a question with options about the invented world."""
    if rng.random() < 0.4:
        question, answer = word_problem(rng, words)
        return Sample("math", "", tuple(build_messages("math", {"question": question})), answer)
    domain = rng.choice(domains())
    question, choices, _, answer = multiple_choice(rng, domain, rng.choice((4, 4, 4, 5, 6)))
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip("ABCDEFGHIJ", choices, strict=False))
    specialist = domain if domain in ("law", "history") else rng.choice(("law", "history"))
    return Sample(
        domain, "", tuple(build_messages(specialist, {"question": f"{question}\nOptions:\n{options}"})), answer
    )


def calendar_sample(rng: random.Random, split: Split = "train") -> Sample:
    """A request for an appointment, answered by JSON or by a sentence."""
    case = draw_case(rng, split == "phrasings")
    form = rng.choice(("json", "prose"))
    messages = ({"role": "system", "content": SYSTEM[form]}, {"role": "user", "content": case.request})
    return Sample(f"calendar_{form}", case.language, messages, as_json(case.entry) if form == "json" else case.prose)


def plain_sample(rng: random.Random, words: Words) -> Sample:
    """Neutral talk."""
    a, b = rng.randint(2, 60), rng.randint(2, 39)
    x, y = rng.choice(words.nouns), rng.choice(words.nouns)
    values = {"a": a, "b": b, "sum": a + b, "difference": a - b, "largest": max(a, b)}
    names = {"x": x, "y": y, "X": x.upper(), "xs": plural(x)}
    question, answer = (text.format(**values, **names) for text in rng.choice(_PLAIN))
    return Sample("plain", "", ({"role": "user", "content": question},), answer)


def draw_sample(seed: int, index: int, split: Split = "train", stage: float = 1.0) -> Sample:
    """Sample `index` of the corpus of `seed`; `stage` from 0 (short ones, copying) to 1 (as in use)."""
    rng = random.Random(f"{seed}/{split}/{index}")
    words = HELD_OUT if split == "names" else TRAIN
    kind = rng.random()
    if kind < max(0.0, 0.4 - 2 * stage) + 0.02:
        return copy_sample(rng, words)
    size = rng.choices(
        (0, 1, 2, 3), ((1 - stage) ** 2 + 0.12, 0.3 * stage + (1 - stage) * stage, stage * 0.4, stage**2 * 0.22)
    )[0]
    kind = rng.random()
    if kind < 0.02:
        return plain_sample(rng, words)
    if kind < 0.17:  # short ones: a few per cent of the tokens
        return reasoning_sample(rng, words)
    if kind < 0.24:
        return calendar_sample(rng, split)
    if kind < 0.29:
        return speech_sample(rng, "bug_analysis", 0, split)
    if kind < 0.34:
        return speech_sample(rng, "test_reasoning", 0, split)
    if kind < 0.45:
        return speech_sample(rng, "code_reading", size, split)
    return patch_sample(rng, split, size, practice=_practises(rng, split))


def draw_repair(seed: int, index: int, split: Split, notes: bool) -> Sample:
    """Repair `index` for measuring: as in use (one to five passages), the same scene with and without notes."""
    rng = random.Random(f"{seed}/{split}/repair/{index}")
    return patch_sample(rng, split, rng.choice((1, 2, 2, 3)), notes)
