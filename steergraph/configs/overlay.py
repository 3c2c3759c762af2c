"""A user's file laid over a packaged one: merged by key, and by name in lists of named entries. One way for all files.

    rules: [{name: mine, ...}]       an entry of another name is added, one of the same name changes the fields it gives
    presets: {mine: {...}}           likewise, by key
    presets: {auto: null}            null takes an entry away
    replace: [rules]                 these keys are taken whole from the user's file

Knows mappings and lists. Knows nothing of what they mean.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from steergraph.configs import ConfigError

REPLACE = "replace"


def overlaid(packaged: Mapping[str, Any], own: Any, where: str, *, first: Collection[str] = ()) -> dict[str, Any]:
    """`own` over `packaged`. New entries of the lists called in `first` come before the packaged ones, others behind.

    Raises ConfigError, one line that begins with `where`, where `own` is no mapping or gives a list for named entries
    without their names.
    """
    if not isinstance(own, Mapping):
        raise ConfigError(f"{where}: not a mapping; its keys are {', '.join(packaged)}")
    whole = own.get(REPLACE, [])
    if not isinstance(whole, list) or not all(isinstance(key, str) and key in packaged for key in whole):
        raise ConfigError(f"{where}: {REPLACE} is a list of keys: {', '.join(packaged)}")
    merged = dict(packaged)
    for key, value in own.items():
        if key == REPLACE:
            continue
        merged[key] = value if key in whole else _merged(packaged.get(key), value, f"{where}: {key}", key in first)
    return {key: value for key, value in merged.items() if value is not None}


def sources(
    packaged: Mapping[str, Any], merged: Mapping[str, Any], own: str, path: str = ""
) -> Iterator[tuple[str, Any, str]]:
    """Every value of `merged` as (dotted key, value, where it is from): "packaged", or `own`."""
    for key, value in merged.items():
        before = packaged.get(key)
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            yield from sources(before if isinstance(before, Mapping) else {}, value, own, name)
        elif _named(value):
            known = _by_name(before) if before and _named(before) else {}
            named = {entry["name"]: {k: v for k, v in entry.items() if k != "name"} for entry in value}
            yield from sources(known, named, own, name)
        else:
            yield name, value, "packaged" if value == before else own


def layered(
    packaged: Mapping[str, Any], *over: tuple[str, Any], first: Collection[str] = ()
) -> list[tuple[str, Any, str]]:
    """Every value of `packaged` with the files of `over` (what each is called, what it says) laid over it in turn, as
    (dotted key, value, the last that changed it). Raises ConfigError as `overlaid`."""
    merged, last = dict(packaged), dict[str, str]()
    for name, table in over:
        after = overlaid(merged, table, name, first=first)
        last |= {key: name for key, _, where in sources(merged, after, name) if where == name}
        merged = after
    return [(key, value, last.get(key, "packaged")) for key, value, _ in sources(merged, merged, "")]


def _merged(packaged: Any, own: Any, where: str, first: bool) -> Any:
    if own is None:
        return None
    if isinstance(packaged, Mapping) and isinstance(own, Mapping):
        merged = {**packaged, **{k: _merged(packaged.get(k), v, f"{where}.{k}", first) for k, v in own.items()}}
        return {key: value for key, value in merged.items() if value is not None}
    if not _named(packaged):
        return own
    if not isinstance(own, Sequence) or not all(isinstance(one, Mapping) and "name" in one for one in own):
        raise ConfigError(f"{where}: every entry needs a name")
    names = [one["name"] for one in own]
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise ConfigError(f"{where}: {str(wrong[0])[:60]} is no name")
    if len({*names}) < len(names):
        raise ConfigError(f"{where}: two entries are called {next(name for name in names if names.count(name) > 1)!r}")
    known, changes = _by_name(packaged), {one["name"]: one for one in own}
    kept = [{**one, **changes.get(one["name"], {})} for one in packaged]
    new = [dict(change) for name, change in changes.items() if name not in known]
    return [*new, *kept] if first else [*kept, *new]


def _named(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(one, Mapping) and "name" in one for one in value)
    )


def _by_name(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["name"]: {key: value for key, value in one.items() if key != "name"} for one in entries}
