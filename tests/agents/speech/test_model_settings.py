"""Which page of settings a model gets, and what a user's own file changes of it."""

from pathlib import Path

import pytest

from steergraph.agents.graph import build_graph
from steergraph.agents.speech.model_settings import Kind, ModelSettings, page_of, settings_sources, settings_tables
from steergraph.configs import ConfigError
from steergraph.configs.prompts import format_passage, in_fences
from steergraph.engine.protocol import ModelInfo


def info(name: str, kind: str = "instruct") -> ModelInfo:
    return ModelInfo.model_validate(
        {
            "name": name,
            "revision": "0",
            "architecture": "X",
            "n_layers": 2,
            "hidden_size": 4,
            "window": 100,
            "kind": kind,
        }
    )


@pytest.mark.parametrize(
    ("name", "kind", "page"),
    [
        ("pocket", "instruct", "pocket"),
        ("pocket-base", "base", "pocket"),
        ("Qwen/Qwen2.5-Coder-0.5B-Instruct", "instruct", "small"),
        ("Qwen/Qwen2.5-Coder-7B-Instruct", "instruct", "instruct"),
        ("smollm2", "instruct", "small"),
        ("gemma-270m", "base", "base"),
    ],
)
def test_the_page_of_a_model(name: str, kind: Kind, page: str) -> None:
    assert page_of(name, kind) == page


def test_a_file_of_ones_own_changes_what_it_names(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("edit_format: search_replace\nroster: {plans: {issue_with_retrieval: [retrieve, patch_writing]}}\n")
    packaged, mine = ModelSettings.of(info("coder")), ModelSettings.of(info("coder"), own)
    assert (packaged.edit_format, mine.edit_format) == ("whole_function", "search_replace")
    assert mine.roster["specialists"] == packaged.roster["specialists"]
    told = {key: (value, where) for key, value, where in settings_sources("coder", "instruct", own)}
    assert told["edit_format"] == ("search_replace", str(own))
    assert told["numbered"] == (False, "packaged")


@pytest.mark.parametrize("text", ["edit_format: poem\n", "candidates_: 3\n", "[1]\n"])
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(text)
    with pytest.raises(ConfigError, match=r"own\.yaml") as error:
        ModelSettings.of(info("coder"), own)
    assert "\n" not in str(error.value)


def test_the_graph_is_wired_for_the_plans_of_every_page() -> None:
    drawn = build_graph().get_graph()
    edges = {(edge.source, edge.target) for edge in drawn.edges}
    assert {("route", "retrieve"), ("bug_analysis", "retrieve"), ("retrieve", "patch_writing")} <= edges


def test_passages_in_fences_hold_each_file_once_and_in_order() -> None:
    passages = [
        format_passage("a.py", 5, ["x = 5", "", "y = 7"]),
        format_passage("b.md", 1, ["```", "code", "```"]),
        format_passage("a.py", 1, ["import os"]),
    ]
    assert in_fences("\n\n".join(passages)) == (
        "a.py\n```python\nimport os\n...\nx = 5\n\ny = 7\n```\n\nb.md\n````\n```\ncode\n```\n````"
    )
    assert in_fences("another retriever's text") == "another retriever's text"


def test_a_page_laid_over_another_has_all_of_it() -> None:
    small, whole = settings_tables("smollm2", "instruct", None)[0], settings_tables("qwen3-4b", "instruct", None)[0]
    assert small["context_tokens"] < whole["context_tokens"] and small["models"] != whole["models"]
    assert {k: v for k, v in small.items() if k not in ("context_tokens", "models")} == {
        k: v for k, v in whole.items() if k not in ("context_tokens", "models")
    }
