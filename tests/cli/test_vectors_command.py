"""`steergraph vectors extract`, `list` and `show`, as a user calls them."""

from pathlib import Path

import pytest
import torch
import yaml
from tiny_models import tiny_model

from steergraph.base.errors import InputError
from steergraph.cli.app import invoke
from steergraph.engine.loading.models import load_model
from steergraph.vectors.extract.first_use import ensure_vectors
from steergraph.vectors.store.files import load_vector, save_vector
from steergraph.vectors.vector import make_vector


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("STEERGRAPH_CACHE", str(folder))
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "positives": [f"fix bug {n}" for n in range(8)]}))
    return path


def call(*arguments: str) -> int:
    return invoke(["vectors", *arguments])


def test_extract_makes_keeps_and_lists(own: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tiny_model("qwen3"))
    assert call("extract", "--model", model, "--contrast", str(own)) == 0
    shown = capsys.readouterr()
    for word in ("mine", "tiny-qwen3", "mean_difference", "unproven", "layer 2, 0.15 residual"):
        assert word in shown.out
    assert str(cache) in shown.err
    vector = ensure_vectors(load_model(model), [own])["mine"]
    assert call("list") == 0
    assert vector.hash in capsys.readouterr().out
    assert call("list", "--model", "TINY-qwen3") == 0
    assert vector.hash in capsys.readouterr().out
    assert call("list", "--model", model) == 0
    assert vector.hash in capsys.readouterr().out
    assert call("list", "--model", "other") == 0
    assert "no vectors of other yet" in capsys.readouterr().out


def test_copies_go_where_they_are_asked(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tiny_model("qwen3"))
    file, folder = tmp_path / "copy.safetensors", tmp_path / "folder"
    assert call("extract", "--model", model, "--contrast", str(own), "--out", str(file)) == 0
    assert call("extract", "--model", model, "--contrast", str(own), "--out", str(folder)) == 0
    assert load_vector(file) == load_vector(folder / "mine.safetensors")
    assert call("list", "--folder", str(folder)) == 0
    assert load_vector(file).hash in capsys.readouterr().out


def test_show_tells_provenance_and_every_layer(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vector = ensure_vectors(load_model(str(tiny_model("qwen3"))), [own])["mine"]
    copy = save_vector(vector, tmp_path / "copy.safetensors")
    for named in ("mine", str(copy)):
        assert call("show", named) == 0
        out = capsys.readouterr().out
        for word in (vector.hash, vector.revision, vector.contrast_hash, "last_prompt_token", "default cell"):
            assert word in out
        for layer in range(4):
            assert f"{vector.raw_norms[layer]:.3f}" in out
            assert f"{vector.median_residual_norms[layer]:.3f}" in out


def test_a_bare_vector_is_shown_with_what_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_vector(make_vector("bare", {3: torch.ones(8)}), tmp_path / "bare.safetensors")
    assert call("show", str(path)) == 0
    assert call("list", "--folder", str(tmp_path)) == 0
    assert "not known" in capsys.readouterr().out


def test_words_of_a_file_do_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = make_vector(
        "v", {0: torch.ones(8)}, model="\x1b[2Jm[red]x", method="a\nb", metadata={"contrast": "\x1b]0;x\x07"}
    )
    path = save_vector(evil, tmp_path / "v.safetensors")
    assert call("show", str(path)) == 0
    assert call("list", "--folder", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "m[red]x" in out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["show", "none"], "there is none yet"),
        (["show", "none.safetensors"], "no such file"),
        (["show", "none.pt"], "is not opened"),
        (["list", "--folder", "none"], "no such folder"),
        (["extract", "--contrast", "maths"], "no contrast set called 'maths'"),
        (["extract", "--contrast", "none.yaml"], "cannot read it"),
        (["extract", "--contrast", "math", "law", "--out", "one.safetensors"], "a folder for several"),
        (["extract", "--contrast", "math", "--out", "math.pt"], "a folder for several"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)


def test_a_wrong_name_gets_the_nearest(own: Path) -> None:
    ensure_vectors(load_model(str(tiny_model("qwen3"))), [own])
    with pytest.raises(InputError, match="nearest: mine"):
        call("show", "mime")


def test_two_models_with_one_name_of_vector(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for architecture in ("qwen3", "llama"):
        ensure_vectors(load_model(str(tiny_model(architecture))), [own])
    with pytest.raises(InputError, match=r"2 models have a vector called 'mine'.*--model tiny-llama"):
        call("show", "mine")
    assert call("show", "mine", "--model", "tiny-llama") == 0
    assert "tiny-llama" in capsys.readouterr().out
