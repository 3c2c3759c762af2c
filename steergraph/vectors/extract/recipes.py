"""Recipes: contrast sets made from the rows of a dataset file, one for each group of its rows.

Knows the YAML of configs/contrast/recipes, a user's own in the same shape, and parquet, JSON and JSONL. Of a row only
the columns that the recipe names are ever read: answers, patches and tests stay on disk. Knows nothing of models.
"""

import json
import random
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.configs import ConfigError, load_config, load_yaml
from steergraph.engine.activations import ReadPosition
from steergraph.vectors.extract.contrast import MAX_CHARACTERS, MIN_TEXTS, ContrastError, ContrastSet

MAX_ROWS = 2_000_000


class Recipe(Frozen):
    """How the sets are made. The same file, seed and exclusions give the same sets."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    text: str
    """The column of the texts."""
    group: str
    """The column that says of which set a row is."""
    id: str
    """The column that names a row."""
    clusters: bool = False
    """The group is a repository, and its cluster in configs/clusters.yaml is the set."""
    kind: Literal["text", "question"] = "text"
    description: str = ""
    per_group: int = Field(default=32, ge=MIN_TEXTS, le=4096)
    characters: tuple[int, int] = (1, MAX_CHARACTERS)
    longer: Literal["skip", "cut"] = "skip"
    neutrals: Literal["others", "packaged"] = "others"
    needs_exclude: bool = False
    read: ReadPosition = "last_prompt_token"
    held_out_every: int = Field(default=4, ge=2)
    seed: int = 1

    @model_validator(mode="after")
    def _possible(self) -> "Recipe":
        low, high = self.characters
        if not 1 <= low < high <= MAX_CHARACTERS:
            raise ValueError(f"characters: from at least 1 to at most {MAX_CHARACTERS}")
        return self


class Text(Frozen):
    """One usable row."""

    id: str
    group: str
    text: str


def packaged_recipes() -> tuple[str, ...]:
    """Names of the packaged recipes."""
    folder = files("steergraph.configs").joinpath("contrast", "recipes")
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load_recipe(named: str | Path) -> Recipe:
    """The packaged recipe of that name, or a user's YAML file. Raises ContrastError (one line)."""
    own = isinstance(named, Path) or str(named).endswith((".yaml", ".yml")) or "/" in str(named)
    if not own and str(named) not in packaged_recipes():
        raise ContrastError(f"no recipe called {named!r}; packaged are {', '.join(packaged_recipes())}")
    where = str(named) if own else f"configs/contrast/recipes/{named}.yaml"
    try:
        return Recipe.model_validate(load_yaml(named) if own else load_config(f"contrast/recipes/{named}"))
    except ValidationError as error:
        first = error.errors()[0]
        place, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise ContrastError(f"{where}: {f'{place}: ' if place else ''}{message}") from error
    except ConfigError as error:
        raise ContrastError(" ".join(str(error).split())) from error


def excluded_ids(path: str | Path, recipe: Recipe) -> frozenset[str]:
    """Ids to leave out: those of a dataset file with the recipe's id column, or a text file with one on each line.

    Raises InputError where there are none: a wrong file must not pass for "nothing to exclude".
    """
    if Path(path).suffix in (".parquet", ".json", ".jsonl"):
        found = {str(row[recipe.id]) for row in read_rows(path, (recipe.id,)) if row.get(recipe.id) is not None}
    else:
        found = {line.strip() for line in _content(Path(path)).splitlines() if line.strip()}
    if not found:
        raise InputError(f"{path}: no ids to exclude: neither a column {recipe.id} nor an id on each line")
    return frozenset(found)


def sets_from(recipe: Recipe, path: str | Path, exclude: Collection[str] | None = None) -> tuple[ContrastSet, ...]:
    """One contrast set for each group of the dataset at `path` that has enough texts, in alphabetical order.

    Raises InputError where the file can't be read, lacks a column, or no two groups have enough texts.
    """
    if recipe.needs_exclude and exclude is None:
        raise InputError(f"recipe {recipe.name}: name what is under evaluation, as in --exclude verified_test.parquet")
    texts = usable_texts(recipe, path, exclude or ())
    groups = {name: found for name, found in texts.items() if len(found) >= recipe.per_group}
    if not groups or (recipe.neutrals == "others" and len(groups) < 2):
        most = ", ".join(f"{name} {len(found)}" for name, found in sorted(texts.items())) or "none"
        raise InputError(f"{path}: too few usable texts for {recipe.per_group} a group (found: {most})")
    return tuple(_set(recipe, name, groups, Path(path).name) for name in sorted(groups))


def usable_texts(recipe: Recipe, path: str | Path, exclude: Collection[str] = ()) -> dict[str, list[Text]]:
    """Every usable row by group, in a random order that the seed fixes; equal texts once."""
    left_out, clusters = set(exclude), _clusters() if recipe.clusters else None
    low, high = recipe.characters
    found: dict[str, list[Text]] = {}
    seen: set[str] = set()
    for row in read_rows(path, (recipe.text, recipe.group, recipe.id)):
        group, text, name = (row.get(column) for column in (recipe.group, recipe.text, recipe.id))
        if not isinstance(text, str) or not isinstance(group, str) or name is None or str(name) in left_out:
            continue
        if clusters is not None:
            group = clusters.get(group.lower(), "")
        text = text.strip()
        if len(text) > high:
            text = _cut(text, high) if recipe.longer == "cut" else ""
        if not group or len(text) < low or text in seen:
            continue
        seen.add(text)
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "_", group).strip("_.-") or "group"
        found.setdefault(slug, []).append(Text(id=str(name), group=slug, text=text))
    for group, texts in found.items():
        texts.sort(key=lambda text: text.id)
        random.Random(f"{recipe.seed}:{group}").shuffle(texts)
    return found


def _set(recipe: Recipe, name: str, groups: Mapping[str, Sequence[Text]], source: str) -> ContrastSet:
    positives = groups[name][: recipe.per_group]
    if recipe.neutrals == "packaged":
        neutrals: Sequence[Text] = [Text(id="", group="", text=t) for t in load_config("contrast/neutral")]
    else:
        neutrals = _partners(positives, {k: list(v) for k, v in groups.items() if k != name})
    return ContrastSet(
        name=name,
        domain=name,
        kind=recipe.kind,
        description=recipe.description.format(group=name),
        positives=tuple(text.text for text in positives),
        neutrals=tuple(text.text for text in neutrals),
        held_out_every=recipe.held_out_every,
        read=recipe.read,
        source=f"{source}, recipe {recipe.name}",
        positive_ids=tuple(text.id for text in positives),
        neutral_ids=tuple(text.id for text in neutrals if text.id),
    )


def _partners(positives: Sequence[Text], others: dict[str, list[Text]]) -> list[Text]:
    """For each positive a text of another group, as long as possible alike, the groups evenly in turn: what is left is
    the topic and not the length, and a pair can be a pair of `paired_pca`."""
    order, partners = sorted(others), []
    for index, text in enumerate(positives):
        turns = (order[(index + step) % len(order)] for step in range(len(order)))
        left = next((others[name] for name in turns if others[name]), None)
        if left is None:
            break
        nearest = min(left, key=lambda other: abs(len(other.text) - len(text.text)))
        left.remove(nearest)
        partners.append(nearest)
    return partners


def _cut(text: str, most: int) -> str:
    """The beginning of `text`, up to the last line or sentence that fits, else the last word."""
    head = text[: most + 1]
    for mark in ("\n", ". ", " "):
        at = head.rfind(mark)
        if at >= most // 2:
            return head[: at + 1].strip()
    return head[:most].strip()


def _clusters() -> dict[str, str]:
    table = load_config("clusters")["clusters"]
    return {repository: str(name) for name, repositories in table.items() for repository in repositories}


def read_rows(path: str | Path, columns: Sequence[str]) -> Iterable[Mapping[str, Any]]:
    """The named columns of every row of a parquet, JSON or JSONL file. Raises InputError (one line)."""
    path = Path(path)
    if path.suffix not in (".parquet", ".json", ".jsonl"):
        raise InputError(f"{path}: a dataset is a .parquet, .json or .jsonl file")
    if not path.is_file():
        raise InputError(f"no dataset at {path}: give a parquet, JSON or JSONL file")
    try:
        rows = _parquet(path, columns) if path.suffix == ".parquet" else _json(path)
    except InputError:
        raise
    except Exception as error:  # every reader has exceptions of its own; the user needs one line
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path}: not a readable {path.suffix} file: {said}") from error
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(f"{path}: a dataset is a list of rows, and it needs at least one")
    missing = [column for column in columns if not any(row.get(column) is not None for row in rows)]
    if missing:
        raise InputError(f"{path}: no column {missing[0]}, so the recipe is not for this dataset")
    return [{column: row.get(column) for column in columns} for row in rows]


def _parquet(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    if file.metadata.num_rows > MAX_ROWS:
        raise InputError(f"{path}: {file.metadata.num_rows} rows; at most {MAX_ROWS} are read")
    present = set(file.schema_arrow.names)
    rows: list[dict[str, Any]] = file.read(columns=[c for c in columns if c in present]).to_pylist()
    return rows


def _json(path: Path) -> list[Any]:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    loaded = json.loads(text)
    return list(loaded.values()) if isinstance(loaded, dict) else list(loaded)


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read it: {error}") from error
