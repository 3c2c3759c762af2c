"""The public API: its names, that each can be imported, and that each says what it takes, gives and raises."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import steergraph

PUBLIC = [
    "BM25Retriever",
    "Completion",
    "Component",
    "ConfigError",
    "Context",
    "ContrastSet",
    "Decision",
    "Engine",
    "InputError",
    "Library",
    "LocalEngine",
    "Message",
    "Outcome",
    "Policy",
    "Receipt",
    "RemoteEngine",
    "Request",
    "Retrieved",
    "Retriever",
    "Roster",
    "Sampling",
    "ScoreRequest",
    "Scores",
    "ScriptedEngine",
    "Specialist",
    "SteeredChat",
    "Steering",
    "SteeringError",
    "SteeringVector",
    "Task",
    "build_graph",
    "ensure_vectors",
    "load_contrast",
    "load_vector",
    "make_vector",
    "open_engine",
    "save_vector",
]
"""A name that goes from here breaks somebody's program: say so in CHANGELOG.md."""
RAISING = {
    "BM25Retriever": ("retrieve", "search"),
    "Engine": ("submit", "generate", "score"),
    "Library": ("open", "save"),
    "LocalEngine": ("__init__",),
    "Policy": ("load", "axes"),
    "RemoteEngine": ("__init__", "submit", "generate", "score"),
    "Retriever": ("retrieve",),
    "Roster": ("load",),
}
"""Methods that refuse what they are given, and say so under `Raises:`."""


def public() -> list[tuple[str, Any]]:
    return [(name, getattr(steergraph, name)) for name in PUBLIC]


def test_the_names() -> None:
    assert steergraph.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(steergraph))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        steergraph.nonsense  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(steergraph.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.asname: node.module for node in block.body for alias in getattr(node, "names", ())}
    assert imported == {name: f"steergraph.{module}" for name, module in steergraph._WHERE.items()}


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, steergraph; print(*[m for m in sys.modules if m.startswith('steergraph.')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.parametrize(("name", "item"), public())
def test_it_says_what_it_is(name: str, item: Any) -> None:
    """A class by a docstring, and its methods that refuse something; a function by Args, Returns and Raises."""
    text = inspect.getdoc(item) if inspect.isfunction(item) else vars(item).get("__doc__")
    assert text and text.strip()[-1] in ".)`", f"{name}: no docstring"
    if inspect.isfunction(item):
        assert sections(item) == ["Args", "Returns", "Raises"]
        assert documented(item) == list(inspect.signature(item).parameters)
        return
    for method in RAISING.get(name, ()):
        called = inspect.unwrap(getattr(item, method))
        assert "Raises" in sections(called), f"{name}.{method}"
        names = [n for n in inspect.signature(called).parameters if n not in ("self", "cls")]
        assert documented(called) in ([], names), f"{name}.{method}"


def sections(function: Any) -> list[str]:
    """The headings of Google's style in a docstring, in order."""
    return re.findall(r"^(Args|Returns|Yields|Raises):$", inspect.getdoc(function) or "", re.MULTILINE)


def documented(function: Any) -> list[str]:
    """The parameters under `Args:`."""
    block = re.search(r"^Args:\n((?:[ ]+.*\n|\n)*)", (inspect.getdoc(function) or "") + "\n", re.MULTILINE)
    return re.findall(r"^    (\w+): ", block[1], re.MULTILINE) if block else []
