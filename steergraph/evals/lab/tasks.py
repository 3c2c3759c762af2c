"""What an experiment asks and how its answers are judged: objects that whoever measures brings, `--tasks MODULE:NAME`.

A sweep wants SweepTasks, a switching study SwitchingTasks; one object may be both. The repository has pocket's,
`training.tasks:POCKET`. Knows their shapes. Knows nothing of arms.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from steergraph.base.errors import InputError, first_problem
from steergraph.engine.protocol import Message
from steergraph.sandbox.run import Sandbox

Prompt = Literal["own", "open"]
"""With the specialist's own system prompt, as the graph asks, or with nothing but the question."""
Split = Literal["select", "report"]
"""The questions that cells are chosen on, and those that the chosen are reported on."""
Tasks = TypeVar("Tasks")
EXAMPLE = "training.tasks:POCKET"


@dataclass(frozen=True)
class Question:
    """What is asked under the specialist's own prompt."""

    messages: tuple[Message, ...]
    """The system prompt first; the open prompt is what is left without it."""
    truth: Any = None
    """Whatever grading needs; it never reaches a prompt."""
    max_new_tokens: int = 64


class Classifier(Protocol):
    """Tells domains apart by how an answer is written."""

    def tell(self, texts: Sequence[str]) -> Sequence[str]:
        """The likeliest domain of each text; any other word for none."""
        ...


class SweepTasks(Protocol):
    """Questions in every domain, and their grades."""

    @property
    def domains(self) -> Sequence[str]:
        """Names of domains, each with a contrast set of the same name."""
        ...

    def questions(self, domain: str, split: Split, seed: int, n: int) -> Sequence[Question]:
        """The first `n` questions of a domain, or all that there are; the splits share none. Always the same."""
        ...

    def grade(self, truths: Sequence[Any], texts: Sequence[str], sandbox: Sandbox) -> Sequence[float]:
        """How right each answer is, 0 to 1, by the truth of its question, whatever the other answers are."""
        ...

    def prompts(self, domain: str, seed: int) -> Iterable[tuple[str, str]]:
        """System prompt and question, pair after pair, of questions that no split has: what the prompts' vectors are
        made of."""
        ...

    def classifier(self) -> Classifier: ...

    def spoken(self) -> Sequence[tuple[str, str]]:
        """(text, domain) that the classifier is judged on, none of which it has learnt from."""
        ...


class IssueCase(Protocol):
    """An issue with the files that it is about."""

    @property
    def id(self) -> str: ...

    @property
    def kind(self) -> str:
        """Cases are counted by kind too, in a few of them."""
        ...

    @property
    def issue(self) -> str: ...

    @property
    def quoted(self) -> str:
        """The issue with the line that it is about, so that it can be repaired unseen."""
        ...

    @property
    def files(self) -> Mapping[str, str]:
        """Text by path: the whole repository of this case."""
        ...

    @property
    def target(self) -> str:
        """The path of the file to change."""
        ...

    @property
    def function(self) -> str:
        """The name of what is wrong in it, with its class where it has one."""
        ...

    @property
    def passages(self) -> Sequence[Mapping[str, str]]:
        """Its code as retrieval would hand it to a prompt: {"text": ...}, best first."""
        ...


class SwitchingTasks(Protocol):
    """Issues, and whether they are resolved."""

    def cases(self, seed: int, n: int) -> Sequence[IssueCase]:
        """The first `n` cases of a seed. Always the same."""
        ...

    def repaired(self, cases: Sequence[Any], texts: Sequence[str | None], sandbox: Sandbox) -> Sequence[bool]:
        """Whether each case is resolved by the text of its target file; None stands for an edit that can't be made."""
        ...


def load_tasks(name: str | None, shape: type[Tasks], experiment: str) -> Tasks:
    """The object MODULE:NAME, of a module that is installed or in the working folder; importing it runs it.

    Raises InputError, in one line, where none is named, it can't be imported, or lacks something of `shape`.
    """
    if name is None:
        raise InputError(
            f"lab {experiment} needs --tasks MODULE:NAME, what is asked and how it is judged; a clone of the repository"
            f" has pocket's: --tasks {EXAMPLE}"
        )
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise InputError(f"--tasks {name}: not MODULE:NAME, as in {EXAMPLE}")
    if str(Path.cwd()) not in sys.path:  # what `python -m` does and a console script does not
        sys.path.append(str(Path.cwd()))
    try:
        tasks = getattr(import_module(module), attribute)
    except Exception as error:
        raise InputError(f"--tasks {name}: {first_problem(error)}") from error
    wanted = [member for member in vars(shape) if not member.startswith("_")]
    lacking = [member for member in wanted if not hasattr(tasks, member)]
    if lacking or isinstance(tasks, type):
        what = f"it lacks {', '.join(lacking)}" if lacking else "it is a class; name an object of it"
        raise InputError(f"--tasks {name}: no {shape.__name__}: {what}")
    return tasks  # type: ignore[no-any-return]
