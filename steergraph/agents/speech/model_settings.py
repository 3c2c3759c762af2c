"""How a family of models is talked to: prompts, edit format, passages, sampling. One page of YAML each.

Knows configs/models/settings/ and a user's own file in the same shape. The first page whose `models` and `kind` fit a
model is its page; the user's file is laid over it.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from steergraph.agents.edits.formats import EditFormat, FormatName, edit_format
from steergraph.base.records import Frozen
from steergraph.configs import load_config, load_yaml, validated
from steergraph.configs.overlay import overlaid, sources
from steergraph.engine.protocol import ModelInfo

Kind = Literal["instruct", "base"]
PAGES = ("pocket", "small", "instruct", "base")
_OVER = "laid_over"
"""The page that another is laid over."""


class ModelSettings(Frozen):
    """The settings of one page, a user's file laid over it."""

    models: tuple[str, ...]
    """Names it is for, with the wildcards of file names; compared in lower case."""
    kind: Kind | None = None
    edit_format: FormatName
    constrained: bool = False
    """Whether an edit is held to the grammar of its format, where that has one, and an answer to its marked line; as
    far as the engine can."""
    numbered: bool = True
    """Whether passages carry line numbers; else they stand in fences, a file's together."""
    narrow: bool = True
    """Whether each repair round is shown half the passages."""
    context_tokens: int | None = Field(default=None, ge=1)
    """The most that passages take of the prompt; None: all that the window leaves."""
    temperatures: tuple[Annotated[float, Field(ge=0)], ...] = (0.7,)
    """Of the candidates after the first, in turn."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Of the candidates after the first: above 1 they copy what is in the prompt a little less."""
    roster: dict[str, Any] = Field(default_factory=dict)
    """Laid over specialists.yaml, below the user's own roster."""
    policy: dict[str, Any] = Field(default_factory=dict)
    """Laid over policy.yaml, below the user's own policy."""

    @property
    def format(self) -> EditFormat:
        return edit_format(self.edit_format)

    @classmethod
    def of(cls, info: ModelInfo, own: str | Path | None = None) -> "ModelSettings":
        """The settings for a model. Raises ConfigError where the user's file at `own` is none."""
        _, merged = settings_tables(info.name, info.kind, own)
        return validated(cls, merged, str(own or "configs/models/settings"))


def settings_sources(name: str, kind: Kind, own: str | Path | None = None) -> Iterator[tuple[str, Any, str]]:
    """Every value of a model's settings: its dotted key, the value, and "packaged" or the user's file."""
    page, merged = settings_tables(name, kind, own)
    return sources(page, merged, str(own))


def settings_tables(name: str, kind: Kind, own: str | Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model's page, and that with the user's file laid over it."""
    page = _page(page_of(name, kind))
    return page, overlaid(page, load_yaml(own), str(own)) if own is not None else page


def _page(name: str) -> dict[str, Any]:
    """A packaged page, over the one that it names."""
    own: dict[str, Any] = dict(load_config(f"models/settings/{name}"))
    below = own.pop(_OVER, None)
    return overlaid(_page(below), own, f"models/settings/{name}.yaml") if below else own


def page_of(name: str, kind: Kind) -> str:
    """The name of a model's page."""
    name = name.rsplit("/", 1)[-1].lower()
    for page in PAGES:
        table = load_config(f"models/settings/{page}")
        if table.get("kind") in (None, kind) and any(fnmatchcase(name, one) for one in table["models"]):
            return page
    raise AssertionError("the last two pages are for every model")


def model_plans() -> list[list[str]]:
    """The plans of all packaged pages: a graph is wired before its model is known."""
    pages = (_page(page) for page in PAGES)
    return [plan for page in pages for plan in page.get("roster", {}).get("plans", {}).values()]
