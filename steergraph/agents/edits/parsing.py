"""Does a file still parse? One parser for each kind of file that has a grammar worth checking.

Knows bytes and grammars. Runs nothing of what it reads.
"""

import ast
import json
import tomllib
import warnings
from collections.abc import Callable

import yaml


def program(source: str | bytes) -> ast.Module | str:
    """Python source as a syntax tree, or what is wrong with it in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            return ast.parse(source)
    except SyntaxError as error:
        line = (error.text or "").strip()
        return f"line {error.lineno}: {error.msg}" + (f": `{line[:100]}`" if line else "")
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        return str(error) or "it is nested too deeply"


def _parse_python(source: bytes) -> str | None:
    tree = program(source)
    return tree if isinstance(tree, str) else None


def _parse_with(read: Callable[[str], object], error_type: type[Exception]) -> Callable[[bytes], str | None]:
    def parse(source: bytes) -> str | None:
        try:
            read(source.decode("utf-8"))
        except (UnicodeDecodeError, RecursionError, error_type) as error:
            return " ".join(str(error).split())[:200]
        return None

    return parse


def _yaml_events(text: str) -> int:
    return sum(1 for _ in yaml.parse(text, Loader=yaml.SafeLoader))


PARSERS: dict[str, Callable[[bytes], str | None]] = {
    ".py": _parse_python,
    ".pyi": _parse_python,
    ".json": _parse_with(json.loads, ValueError),
    ".toml": _parse_with(tomllib.loads, ValueError),
    ".yaml": _parse_with(_yaml_events, yaml.YAMLError),
    ".yml": _parse_with(_yaml_events, yaml.YAMLError),
}
"""By suffix, lower case: bytes to what is wrong with them, in one line, or None."""
