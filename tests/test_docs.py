"""The docs are run, and what they name exists: places in the code, links, messages, commands."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml
from docs_help import ROOT, blocks, run_page

from steergraph.cli import main

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
RUN = ("docs/howto/test_without_a_model.md", "docs/index.md", "CONTRIBUTING.md")
RUN_SLOWLY = ("docs/howto/own_rule.md", "docs/howto/own_specialist.md", "docs/howto/own_vectors.md")
_PLACE = re.compile(r"`((?:steergraph|training|tests|docs|examples|benchmarks|\.ci|\.github)/[\w./-]+?)(?::([\w.]+))?`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("page", [*RUN, *(pytest.param(name, marks=pytest.mark.slow) for name in RUN_SLOWLY)])
def test_a_page_runs(
    page: str,
    tmp_path: Path,
    cache_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEERGRAPH_CACHE", str(cache_folder))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    assert blocks(ROOT / page)
    run_page(ROOT / page, capsys)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    """`path/file.py:Class.method` in backticks is a place in the code, and links lead somewhere."""
    text = page.read_text(encoding="utf-8")
    lost = [f"{path}:{name}" for path, name in _PLACE.findall(text) if not stands(path, name)]
    for target in _LINK.findall(text):
        path, _, anchor = target.partition("#")
        if target.startswith(("http://", "https://", "mailto:")) or (page.parent / path).with_suffix(".ipynb").exists():
            continue
        there = page.parent / path if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            lost.append(target)
    assert not lost


def test_the_five_ways_are_told_by_places() -> None:
    text = (ROOT / "docs" / "follow.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\| \d\. ", text, re.MULTILINE)) == 8
    assert sum(bool(name) for _, name in _PLACE.findall(text)) >= 40


TERMS = (
    "intervention, kv_cache, prefix_cache, sample, sequence, activations, probe, score, condition vector, "
    "stop sequences, decontamination, curriculum, sanitize, call options, receipt, decision, situation, specialist, "
    "dose, cell, own_cell, AUROC, residual, unproven, window"
)
FIRST_SHOWN = {
    "README.md": ("receipt", "Cells", "residual", "unproven", "`own_cell`", "window"),
    "docs/pocket.md": ("window",),
    "docs/vectors.md": ("residuals", "AUROC"),
    "docs/policy.md": ("`own_cell`", "cell"),
}
"""Words that a newcomer had to guess, by page."""


def test_the_glossary_has_the_fields_terms_and_where_they_are() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and " | " in line]
    terms = {term for row in rows for term in row[0].removeprefix("| ").split(", ")}
    assert set(TERMS.split(", ")) <= terms
    assert all(_PLACE.search(row[2]) for row in rows if row[0] != "| term")


def test_words_that_a_newcomer_meets_lead_to_the_glossary() -> None:
    for page, words in FIRST_SHOWN.items():
        text = (ROOT / page).read_text(encoding="utf-8")
        assert all(re.search(rf"\[{re.escape(word)}\]\([\w/]*glossary\.md", text) for word in words), page


@pytest.mark.slow
def test_the_sum_on_the_page_of_vectors_can_be_made(
    tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines above it extract what it sums."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEERGRAPH_CACHE", str(cache_folder))
    page = (ROOT / "docs" / "vectors.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    steergraph (vectors (?:extract|compose).*?)(?:  +#.*)?$", page, re.MULTILINE)
    lines = [line for line in lines if "--data" not in line]
    assert "compose" in lines[-1] and len(lines) > 1
    for line in lines:
        assert main(shlex.split(line)) == 0
    assert (tmp_path / "mix.safetensors").is_file()


def test_every_page_is_in_the_menu() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = set(re.findall(r"[\w/]+\.md", str(settings["nav"])))
    top = {str(path.relative_to(ROOT / "docs")) for path in PAGES if path.is_relative_to(ROOT / "docs")}
    notebooks = {f"tutorial/{path.stem}.md" for path in (ROOT / "docs" / "tutorial").glob("*.ipynb")}
    aside = {name for name in top if name.startswith(("lab/", "grading/"))}
    assert named == (top - aside) | notebooks | {"contributing.md", "changelog.md"}


def test_every_command_has_its_help_in_the_reference() -> None:
    shown = re.findall(r"^<!-- help: (.*?) -->$", (ROOT / "docs/reference/cli.md").read_text("utf-8"), re.MULTILINE)
    options = (ROOT / "tests/golden/options.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(shown) == sorted(line.partition(":")[0] for line in options if not line.startswith("steergraph:"))


def test_every_public_name_is_in_the_reference() -> None:
    import steergraph

    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: steergraph\.(\w+)$", text, re.MULTILINE)) == sorted(steergraph.__all__)


def test_the_errors_page_quotes_what_is_said() -> None:
    """A heading in backticks is a message; a word in capitals, or three dots, stands for what varies."""
    said = " ".join(" ".join(texts(path)) for path in sorted((ROOT / "steergraph").rglob("*.py")))
    headings = re.findall(r"^### `(.+)`$", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(headings) >= 30
    lost = []
    for heading in headings:
        pieces = [piece.strip() for piece in re.split(r"\b[A-Z]+\b|…|'", heading)]
        if not all(piece in said for piece in pieces if len(piece) > 3):
            lost.append(heading)
    assert not lost


def test_configuration_files_are_all_told() -> None:
    text = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    files = {path.name for path in (ROOT / "steergraph" / "configs").glob("*.yaml")}
    assert files <= set(re.findall(r"`([\w./]+\.yaml)`", text))
    for path in (ROOT / "steergraph").rglob("*.py"):
        for name in re.findall(r"\"(STEERGRAPH_[A-Z_]+)\"", path.read_text(encoding="utf-8")):
            assert f"`{name}`" in text or name in INTERNAL, f"{path.name} reads {name}"


INTERNAL = {"STEERGRAPH_USERNAME", "STEERGRAPH_PASSWORD", "STEERGRAPH_SANDBOX"}
"""Between processes of ours."""


@cache
def names(path: Path) -> set[str]:
    """Every function, class, method and module-level name of a file, dotted."""
    found: set[str] = set()

    def walk(nodes: list[ast.stmt], above: str) -> None:
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(above + node.name)
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{above}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(above + target.id for target in targets if isinstance(target, ast.Name))

    walk(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


def stands(path: str, name: str) -> bool:
    there = ROOT / path
    return there.exists() and (not name or name in names(there))


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown's toc makes them."""
    headings = re.findall(r"^#{1,6} (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def texts(path: Path) -> list[str]:
    """Every text in a file; of an f-string, what stands around its fields."""
    return [
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_settings_of_the_site_are_plain_yaml() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["theme"]["font"] is False
    assert not {"repo_url", "site_url", "site_author"} & settings.keys()
