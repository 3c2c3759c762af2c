"""`steergraph vectors compose`, `calibrate`, `lens`, `verify`, `project`, recipes and figures, as a user calls them."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml
from tiny_models import HIDDEN, LAYERS, tiny_model

from steergraph.base.errors import InputError
from steergraph.cli.app import invoke
from steergraph.cli.vectors.extract import Method
from steergraph.engine.loading.models import load_model
from steergraph.engine.local import LocalEngine
from steergraph.vectors.compare.algebra import weighted_sum
from steergraph.vectors.compare.verify import verify
from steergraph.vectors.extract.methods import METHODS
from steergraph.vectors.library import Library
from steergraph.vectors.store.files import load_vector, save_vector
from steergraph.vectors.vector import make_vector

MODEL = str(tiny_model("qwen3"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def call(*arguments: str) -> int:
    return invoke(["vectors", *arguments])


def kept(name: str, seed: int = 0, **fields: Any) -> str:
    generator = torch.Generator().manual_seed(seed)
    directions = {layer: torch.randn(HIDDEN, generator=generator) for layer in range(LAYERS)}
    fields = {"median_residual_norms": dict.fromkeys(directions, 20.0), "metadata": {"n_layers": LAYERS}, **fields}
    save_vector(make_vector(name, directions, **fields), f"{name}.safetensors")
    return f"{name}.safetensors"


def test_names_of_methods_are_the_methods() -> None:
    assert get_args(Method) == METHODS


def test_extract_by_recipe_method_and_position(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"i": f"{g}{n}", "t": f"{g} says {n} things", "g": g} for g in ("red", "blue") for n in range(12)]
    Path("d.json").write_text(json.dumps(rows))
    Path("out.txt").write_text("red0\nblue0")
    recipe = {"name": "own", "text": "t", "group": "g", "id": "i", "per_group": 8}
    Path("own.yaml").write_text(yaml.safe_dump(recipe))
    given = ["extract", "--model", MODEL, "--recipe", "./own.yaml", "--data", "d.json", "--out", "made"]
    assert call(*given, "--exclude", "out.txt", "--method", "whitened", "--read", "prompt_mean") == 0
    vector = load_vector("made/red.safetensors")
    assert (vector.method, vector.read_position) == ("whitened", "prompt_mean")
    assert vector.metadata["source"] == "d.json, recipe own"
    assert len(vector.metadata["positive_ids"]) == 8
    assert "red0" not in vector.metadata["positive_ids"]
    assert 0 <= min(vector.settings["shrinkage"].values()) <= max(vector.settings["shrinkage"].values()) <= 1
    capsys.readouterr()
    assert call("show", "made/red.safetensors") == 0
    assert "prompt_mean" in capsys.readouterr().out


def test_compose_prints_tables_and_writes_the_sum(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = kept("one", 1), kept("two", 2)
    assert call("compose", one, f"{two}=-0.5", "--unit", "--orthogonal", "--out", "mix.safetensors") == 0
    out = capsys.readouterr().out
    assert "layer 2" in out
    assert "1.000" in out
    parts = [load_vector(one), load_vector(two)]
    wanted = weighted_sum(parts, [1, -0.5], name="mix", orthogonal=True, scale="unit_vector")
    assert load_vector("mix.safetensors") == wanted
    assert call("compose", one, "--layer", "0") == 0
    assert call("show", "mix.safetensors") == 0
    assert wanted.parents[0] in capsys.readouterr().out


def test_calibrate_writes_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    Path("prompts.yaml").write_text(yaml.safe_dump(["fix the bug", "a pear"]))
    given = [
        "calibrate",
        kept("one", 1),
        "--model",
        MODEL,
        "--nats",
        "0.2",
        "--tokens",
        "4",
        "--prompts",
        "prompts.yaml",
    ]
    assert call(*given, "--layer", "1") == 0
    out = capsys.readouterr().out
    assert "perplexity" in out
    assert "unproven: spends" in out
    evidence = json.loads(Path("one.calibration.json").read_text())
    assert evidence["chosen"]["p95"] == pytest.approx(0.2, rel=0.1)
    assert evidence["layer"] == 1
    assert call(*given, "--negative", "--no-text", "--out", "turned.json") == 0
    assert json.loads(Path("turned.json").read_text())["chosen"]["alpha"] < 0


def test_lens_shows_both_ends_and_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("lens", kept("one", 1), "--model", MODEL, "--layer", "1", "2", "--top", "3") == 0
    out = capsys.readouterr().out
    assert "promoted" in out
    assert "demoted" in out
    assert call("lens", "--text", "fix the bug", "--model", MODEL) == 0
    assert "read as" in capsys.readouterr().out


def test_verify_says_what_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("verify", kept("one", 1)) == 0
    assert "not tried on a model" in capsys.readouterr().out
    info = load_model(MODEL).info
    named = kept("own", 1, model=info.name, revision=info.revision)
    assert call("verify", named, "--model", MODEL) == 0
    out = capsys.readouterr().out
    assert out.count("changes a token by up to") == LAYERS
    assert "\nok " in out


def test_verify_finds_a_layer_that_is_never_steered() -> None:
    class Deaf(LocalEngine):
        def score(self, requests: Any) -> Any:
            return super().score([request.model_copy(update={"steering": None}) for request in requests])

    vector = load_vector(kept("one", 1))
    with Deaf(MODEL, Library({"one": vector})) as engine:
        checks = verify(vector, engine, [1, 2])
    assert [check.change for check in checks] == [0.0, 0.0]
    assert not any(check.ok for check in checks)


@pytest.mark.slow
def test_project_carries_a_domain_over(capsys: pytest.CaptureFixture[str]) -> None:
    other = str(tiny_model("llama"))
    given = ["project", "math", "--source", MODEL, "--target", other, "--layer", "1", "--out", "carried"]
    assert call(*given) == 0
    out = capsys.readouterr().out
    assert "math: 1 to 1, R2" in out
    carried = load_vector("carried/math.safetensors")
    assert (carried.model, carried.method) == ("tiny-llama", "projected_ridge")
    assert carried.settings["source_model"] == "tiny-qwen3"
    assert set(carried.metadata["held_out_r2"]) == {str(layer) for layer in carried.directions}


def test_a_figure_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    vector = kept("one", 1, model="m$\x1b^x", metadata={"held_out_auroc": {"0": 0.5, "1": 0.9}})
    assert call("show", vector, "--plot", "one.png") == 0
    assert Path("one.png").read_bytes().startswith(b"\x89PNG")
    assert "wrote one.png" in capsys.readouterr().out
    assert not [path for path in Path().iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["compose", "one=x"], "math=0.5"),
        (["compose", "=1"], "math=0.5"),
        (["compose", "one=nan"], "math=0.5"),
        (["compose", "ONE=0"], "zero at every layer"),
        (["compose", "ONE", "--layer", "9"], "no direction at layer 9"),
        (["compose", "ONE", "--out", "x.gguf"], "ends in .safetensors"),
        (["calibrate", "ONE", "--model", "MODEL", "--layer", "9"], "out of range"),
        (["calibrate", "ONE", "--model", "MODEL", "--nats", "-1"], "above 0"),
        (["calibrate", "ONE", "--model", "MODEL", "--limit", "0"], "at least 1"),
        (["calibrate", "ONE", "--model", "MODEL", "--tokens", "0"], "at least one prompt and one token|greater"),
        (["calibrate", "ONE", "--model", "MODEL", "--prompts", "none.yaml"], "cannot read it"),
        (["lens", "--model", "MODEL"], "give a vector, or --text"),
        (["lens", "ONE", "--text", "x"], "give a vector, or --text"),
        (["lens", "--text", "x", "--model", "MODEL", "--layer", "9"], "has layers 0 to 3"),
        (["lens", "ONE", "--model", "MODEL", "--top", "0"], "at least 1"),
        (["verify", "none.safetensors"], "no such file"),
        (["verify", "WIDE", "--model", "MODEL"], "width"),
        (["show", "ONE", "--plot", "one.exe"], "a figure ends in"),
        (["show", "one.pt"], "steergraph vectors import one.pt"),
        (["project", "maths", "--source", "MODEL", "--target", "MODEL"], "no contrast set called 'maths'"),
        (["project", "math", "--source", "MODEL", "--target", "MODEL", "--random", "-1"], "0 or more"),
        (["extract", "--recipe", "mmlu_pro"], "from --data FILE"),
        (["extract", "--data", "x.json"], "belong to --recipe"),
        (["extract", "--recipe", "swebench_clusters", "--data", "x.json"], "under evaluation"),
        (["extract", "--recipe", "nope", "--data", "x.json"], "no recipe called"),
        (["extract", "--read", "marker"], "--marker TEXT"),
        (["extract", "--marker", "x"], "belongs to --read marker"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], word: str) -> None:
    names = {"ONE": kept("one", 1), "MODEL": MODEL}
    save_vector(make_vector("wide", {0: torch.ones(8)}), "wide.safetensors")
    said = [
        argument.replace("ONE", names["ONE"]).replace("MODEL", MODEL).replace("WIDE", "wide.safetensors")
        for argument in arguments
    ]
    with pytest.raises(InputError, match=word) as caught:
        call(*said)
    assert "\n" not in str(caught.value)
