"""`steergraph vectors export` and `import`, as a user calls them."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch

from steergraph.cli import main
from steergraph.cli.vectors.exchange import FormatName
from steergraph.vectors.formats import FORMATS
from steergraph.vectors.store.files import load_vector, save_vector
from steergraph.vectors.vector import make_vector


@pytest.fixture
def made(tmp_path: Path) -> Path:
    vector = make_vector("math", {k: torch.arange(1.0, 7.0) + k for k in range(4)}, model="org/model")
    return save_vector(vector, tmp_path / "math.safetensors")


def test_the_command_knows_every_format() -> None:
    assert tuple(FORMATS) == get_args(FormatName)


def test_there_and_back(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "math.gguf"
    assert main(["vectors", "export", str(made), "--to", str(out), "--skip-layer-0"]) == 0
    assert f"wrote {out}, no dose in it" in capsys.readouterr().out
    assert main(["vectors", "import", str(out), "--out", str(tmp_path / "back"), "--hidden-size", "6"]) == 0
    shown = capsys.readouterr().out
    assert "asked for" not in shown
    back = load_vector(tmp_path / "back" / "math.safetensors")
    assert sorted(back.directions) == [1, 2, 3]
    assert back.model == "org/model"


def test_a_dose_is_told(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "math.json"
    arguments = ["--to", str(out), "--format", "easysteer", "--layer", "2", "--alpha", "4", "--positions", "generated"]
    assert main(["vectors", "export", str(made), *arguments]) == 0
    assert "alpha 4 (unit_vector) in it" in capsys.readouterr().out
    assert json.loads(out.read_text())["vectors"][0]["layers"] == [2]
    copy = tmp_path / "x.safetensors"
    assert main(["vectors", "import", str(out), "--out", str(copy), "--name", "other", "--model", "org/else"]) == 0
    assert "asked for: layer 2, alpha" in capsys.readouterr().out
    assert (load_vector(copy).name, load_vector(copy).model) == ("other", "org/else")


def test_what_was_guessed_or_not_compared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "vec_layer_2_some-model.pt"
    torch.save(torch.ones(6), file)
    arguments = ["vectors", "import", str(file), "--out", str(tmp_path), "--name", "x"]
    assert main([*arguments, "--model", "org/nowhere"]) == 0
    said = capsys.readouterr().out
    assert "  layer 2, as the file's name says\n" in said
    assert "  width 6 not compared with org/nowhere, whose config is not on this machine\n" in said
    assert main([*arguments, "--layer", "3"]) == 0
    assert "as the file's name says" not in capsys.readouterr().out
    assert load_vector(tmp_path / "x.safetensors").layers == (3,)


def test_a_model_on_this_machine_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(torch.ones(6), tmp_path / "layer_2.pt")
    assert main(["vectors", "import", str(tmp_path / "layer_2.pt"), "--out", "x", "--model", "pocket"]) == 2
    assert "6 wide, not 128 as pocket" in capsys.readouterr().err


def test_an_unknown_architecture_is_said(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["vectors", "export", str(made), "--to", str(tmp_path / "x.gguf"), "--skip-layer-0"]
    assert main(arguments) == 0
    assert "--model-type TYPE" in capsys.readouterr().out
    assert main([*arguments, "--model-type", "qwen3"]) == 0
    assert "--model-type TYPE" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "FILE", "--out", "vectors/"],
        ["export", "FILE", "--to", "vectors/x.gguf", "--skip-layer-0"],
        ["compose", "FILE", "--out", "vectors/x.safetensors"],
        ["extract", "--contrast", "math", "--out", "vectors/"],
        ["project", "math", "--source", "pocket", "--target", "pocket-base", "--out", "vectors/"],
        ["calibrate", "FILE", "--out", "vectors/x.json"],
    ],
)
def test_nothing_is_written_into_the_package_by_the_way(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    """`vectors/` at the top of a clone is a link into the source."""
    (tmp_path / "package" / "vectors").mkdir(parents=True)
    (tmp_path / "vectors").symlink_to(tmp_path / "package" / "vectors")
    monkeypatch.setattr("steergraph.base.folders.PACKAGE", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    words = ["vectors", *(str(made) if argument == "FILE" else argument for argument in arguments)]
    assert main(words) == 2
    assert "steergraph's own source" in capsys.readouterr().err
    assert not list((tmp_path / "package" / "vectors").iterdir())
    if arguments[0] in ("import", "export", "compose"):
        assert main([*words, "--into-package"]) == 0
        assert len(list((tmp_path / "package" / "vectors").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["export", "FILE", "--to", "x.gguf"], "can't steer layer 0"),
        (["export", "FILE", "--to", "x.svec"], "say the format"),
        (["export", "FILE", "--to", "x.pt"], "say which of layers 0 to 3"),
        (["export", "FILE", "--to", "x.pt", "--layer", "9"], "no direction at layer 9"),
        (["export", "none.safetensors", "--to", "x.gguf"], "no such file"),
        (["import", "none.gguf", "--out", "x"], "no such file"),
        (["import", "FILE", "--out", "x.gguf"], "a .safetensors file takes one vector"),
        (["import", "FILE", "--out", "x", "--hidden-size", "7"], "6 wide, not 7"),
        (["import", "FILE", "--out", "x", "--side", "input"], "side is for .svec"),
        (["import", "FILE", "--out", "x", "--layer", "2"], "bare tensors in a .pt"),
        (["import", "FILE", "--out", "x", "--rows", "outputs"], "bare tensors in a .pt"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    word: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["vectors", *(str(made) if argument == "FILE" else argument for argument in arguments)]) == 2
    said = capsys.readouterr().err
    assert word in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("x*"))
