"""Contrast sets: texts that are of a domain against texts that are not, from which a vector is made.

Knows the YAML of configs/contrast and of a user's own file in the same shape. Knows nothing of models.

A set's texts become user messages. With `specialist` (its name in configs/specialists.yaml) or `system`, the positives
also stand under that system prompt and the neutral texts under `neutral_system`. The packaged sets do without: a system
prompt alone separates any two sides, so that the held-out AUROC would say nothing of the topic.
"""

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from steergraph.base.records import Frozen
from steergraph.base.text import is_text
from steergraph.configs import ConfigError, load_config, load_yaml
from steergraph.configs.prompts import fill_system
from steergraph.engine.activations import ReadPosition
from steergraph.vectors.extract.pairs import read_json

NEUTRAL_SYSTEM = "You are a helpful assistant."
PACKAGED_NEUTRALS = ("neutral", "neutral_fr")
MIN_TEXTS = 8
MAX_TEXTS = 4096
MAX_CHARACTERS = 20_000


class ContrastError(ConfigError):
    """A contrast set that can't be used. One line: which file, what, what to do."""


class ContrastSet(Frozen):
    """Positives against neutrals. Texts are in order; where `held_out_every` is 4, the 4th, 8th, ... of each side are
    kept out of the direction and used to measure it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """The vector's name unless its user calls it otherwise."""
    domain: str
    language: str = "en"
    kind: Literal["text", "question"] = "text"
    """What most positives are. Says something to people, does not change the vector."""
    description: str = ""
    positives: tuple[str, ...]
    neutrals: tuple[str, ...]
    system: str | None = None
    """System prompt of the positives; None: none."""
    neutral_system: str | None = None
    """System prompt of the neutrals; given exactly where `system` is."""
    held_out_every: int = Field(default=4, ge=2)
    read: ReadPosition = "last_prompt_token"
    """Where the texts are read. `answer_mean`: they are answers to `question`; `marker`: `marker` stands in each."""
    marker: str | None = None
    question: str | None = None
    source: str = ""
    """The dataset file and recipe that the texts are from, where they are from one."""
    positive_ids: tuple[str, ...] = ()
    neutral_ids: tuple[str, ...] = ()
    """The rows they are from, so that an evaluation can leave them out."""

    @model_validator(mode="after")
    def _usable(self) -> "ContrastSet":
        for side, texts in (("positives", self.positives), ("neutrals", self.neutrals)):
            if not MIN_TEXTS <= len(texts) <= MAX_TEXTS:
                raise ValueError(f"{side}: {len(texts)} texts; {MIN_TEXTS} to {MAX_TEXTS} are needed")
            if len(texts) < self.held_out_every:
                raise ValueError(f"{side}: with held_out_every {self.held_out_every} none of {len(texts)} is held out")
            if (blank := next((i for i, text in enumerate(texts) if not text.strip()), None)) is not None:
                raise ValueError(f"{side}[{blank}]: the text is empty")
            if (long := next((i for i, text in enumerate(texts) if len(text) > MAX_CHARACTERS), None)) is not None:
                raise ValueError(f"{side}[{long}]: more than {MAX_CHARACTERS} characters")
            if (odd := next((i for i, text in enumerate(texts) if not is_text(text)), None)) is not None:
                raise ValueError(f"{side}[{odd}]: half of a surrogate pair, which is no character")
            if len(set(texts)) < len(texts):
                raise ValueError(f"{side}: the same text twice: {next(t for t in texts if texts.count(t) > 1)[:60]!r}")
        both = set(self.positives) & set(self.neutrals)
        if both:
            raise ValueError(f"a text is among positives and neutrals: {sorted(both)[0][:60]!r}")
        if (self.system is None) != (self.neutral_system is None):
            raise ValueError("system and neutral_system are given together or not at all")
        for field, read in (("marker", "marker"), ("question", "answer_mean")):
            if (getattr(self, field) is not None) != (self.read == read) or getattr(self, field) == "":
                raise ValueError(f"{field} is given exactly where read is {read}")
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of all that the vector depends on (texts, system prompts, split, read position), hex, first 16
        characters. Names and the description do not count."""
        counted = [self.positives, self.neutrals, self.system, self.neutral_system, self.held_out_every]
        if self.read != "last_prompt_token":
            counted += [self.read, self.marker, self.question]
        return hashlib.sha256(json.dumps(counted, ensure_ascii=False).encode("utf-8", "replace")).hexdigest()[:16]

    @property
    def held_out(self) -> "tuple[tuple[int, ...], tuple[int, ...]]":
        """Indices of the held-out positives and neutrals."""
        every = self.held_out_every
        return tuple(range(every - 1, len(self.positives), every)), tuple(range(every - 1, len(self.neutrals), every))


def packaged_sets() -> tuple[str, ...]:
    """Names of the packaged contrast sets, in alphabetical order."""
    found = (entry.name for entry in files("steergraph.configs").joinpath("contrast").iterdir())
    return tuple(sorted(name[:-5] for name in found if name.endswith(".yaml") and not name.startswith("neutral")))


def has_contrast(domain: str) -> bool:
    """Whether a contrast set called `domain` is packaged."""
    return domain in packaged_sets()


def is_path(name: str | Path) -> bool:
    """Whether `name` means a user's file and not a packaged set."""
    return isinstance(name, Path) or "/" in name or "\\" in name or name.endswith((".yaml", ".yml", ".json"))


def load_contrast(name: str | Path) -> ContrastSet:
    """The packaged set called `name`, or the one in the user's file at that path: YAML, or pairs in JSON (`pairs`).

    In a file, `neutrals` may be a list, the path of a YAML list beside the file, the name of packaged neutral texts
    (neutral, neutral_fr), or left out: then the English ones are taken.

    Args:
        name: of a packaged set, or the path of a file: a Path, or a text with a slash or ending in .yaml or .json.

    Returns:
        The set, its texts checked.

    Raises:
        ContrastError: there is no such set, or it can't be used. A ConfigError, and so an InputError.
    """
    try:
        if is_path(name):
            path = Path(name)
            return _build(read_json(path) if path.suffix == ".json" else load_yaml(path), str(path), path.parent)
        if not has_contrast(str(name)):
            raise ContrastError(
                f"no contrast set called {name!r}; packaged are {', '.join(packaged_sets())}; "
                "your own is named by its path, as in ./mine.yaml"
            )
        return _build(load_config(f"contrast/{name}"), f"configs/contrast/{name}.yaml", None)
    except ContrastError:
        raise
    except ConfigError as error:
        raise ContrastError(" ".join(str(error).split())) from error


def _build(table: Any, where: str, folder: Path | None) -> ContrastSet:
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        raise ContrastError(f"{where}: a contrast set is a mapping with name, domain and positives")
    fields = dict(table)
    for side in ("positives", "neutrals"):
        if side == "neutrals" and not isinstance(fields.get(side), list):
            fields[side] = _neutrals(fields.get(side), where, folder)
        fields[side] = _texts(fields.get(side), f"{where}: {side}")
    fields |= _systems(fields, where)
    fields.pop("specialist", None)
    fields.setdefault("domain", fields.get("name"))
    try:
        return ContrastSet.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise ContrastError(f"{where}: {f'{place}: ' if place else ''}{message}") from error


def _neutrals(named: Any, where: str, folder: Path | None) -> Any:
    if named is None or named in PACKAGED_NEUTRALS:
        return load_config(f"contrast/{named or 'neutral'}")
    if isinstance(named, str) and folder is not None:
        return load_yaml(folder / named)
    raise ContrastError(f"{where}: neutrals is a list of texts, a YAML file beside this one, or left out")


def _texts(values: Any, where: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise ContrastError(f"{where} is a list of texts")
    for index, value in enumerate(values):
        if not isinstance(value, str):
            hint = "; put it in quotes, it has a colon" if isinstance(value, dict) else ""
            raise ContrastError(f"{where}[{index}] is not a text{hint}")
    return tuple(values)


def _systems(fields: dict[str, Any], where: str) -> dict[str, Any]:
    specialist, system = fields.get("specialist"), fields.get("system")
    if specialist is not None and system is not None:
        raise ContrastError(f"{where}: give specialist or system, not both")
    if specialist is not None:
        roster = {entry["name"]: entry["system"] for entry in load_config("specialists")["specialists"]}
        if specialist not in roster:
            raise ContrastError(f"{where}: no specialist called {specialist!r}; there are {', '.join(roster)}")
        system = fill_system(roster[specialist])
    if system is None:
        return {}
    return {"system": system, "neutral_system": fields.get("neutral_system") or NEUTRAL_SYSTEM}
