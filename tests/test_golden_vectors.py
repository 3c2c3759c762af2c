"""Golden files of `steergraph vectors`: pocket's own, one that was put together here, and every format to and fro."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from golden_help import Golden, golden_place

FORMATS = {  # files that a vector of three layers is exported to, and how
    "ramp.gguf": "",
    "dosed.gguf": "--alpha 4 --model-type qwen3 --layer 2 3",
    "cast.svec": "--format cast --model-type qwen3",
    "aisteer.svec": "--format aisteer360 --alpha 0.5 --unit raw",
    "easysteer.json": "--format easysteer --layer 2 --alpha 4 --positions generated --model-type qwen3",
    "neuronpedia.json": "--format neuronpedia --layer 2 --alpha 2 --model-type qwen3-4b",
    "copy.safetensors": "",
    "lm_eval.pt": "--layer 1 3 --alpha 2",
}


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Golden:
    return golden_place(tmp_path / "here", tmp_path / "cache", monkeypatch, capsys.readouterr)


@pytest.fixture
def ramp(golden: Golden) -> Golden:
    """With ramp.safetensors, of three layers and numbers that every machine writes alike."""
    entries = {
        f"layers.{k}": {"action": "add", "steering_coefficient": 1.0, "steering_vector": k * torch.arange(1.0, 9.0)}
        for k in (1, 2, 3)
    }
    torch.save(entries, "ramp.pt")
    assert golden.say("vectors import ramp.pt --out ramp.safetensors --name ramp --model org/ramp").code == 0
    return golden


def test_vectors_of_pocket(golden: Golden) -> None:
    golden.check(
        "vectors-pocket.txt",
        golden.say("vectors extract --contrast math law --out copies"),
        golden.say("vectors list"),
        golden.say("vectors list --folder copies"),
        golden.say("vectors list --model other"),
        golden.say("vectors show math"),
        golden.say("vectors compose math=0.5 law=-0.5 --unit --layer 6 --out sum.safetensors"),
        golden.say("vectors verify sum.safetensors --model pocket --layer 3 6"),
        golden.say("vectors lens math --layer 6 11 --top 3"),
        golden.say("vectors lens --text 'What is 3 plus 4?' --layer 11 --top 3"),
        golden.say("vectors extract --contrast history --method paired_pca --read prompt_mean"),
        golden.listing("copies"),
    )


def test_a_dose_that_is_found(golden: Golden) -> None:
    golden.say("vectors extract --contrast math")
    said = golden.say("vectors calibrate math --limit 2 --tokens 4 --no-text --out dose.json")
    golden.check("vectors-calibrate.txt", said, golden.record("dose.json"))


@pytest.mark.slow
def test_a_vector_that_is_carried_over(golden: Golden) -> None:
    said = golden.say("vectors project math --source pocket --target pocket --out carried")
    golden.check("vectors-project.txt", said, golden.listing("carried"))


def test_a_vector_that_was_made_here(ramp: Golden) -> None:
    ramp.check(
        "vectors-ramp.txt",
        ramp.say("vectors import tilt.json --out tilt.safetensors"),
        ramp.say("vectors show ramp.safetensors"),
        ramp.say("vectors verify ramp.safetensors"),
        exact=True,
    )
    both = "vectors compose ramp.safetensors=2 tilt.safetensors --orthogonal --layer 3 --name both"
    said = ramp.say(f"{both} --out both.safetensors")
    ramp.check("vectors-both.txt", said, ramp.say("vectors show both.safetensors"))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_there_and_back(ramp: Golden, name: str) -> None:
    before = set(Path.cwd().iterdir())
    parts = [ramp.say(f"vectors export ramp.safetensors --to {name} {FORMATS[name]}")]
    parts += [contents(path) for path in sorted(set(Path.cwd().iterdir()) - before)]
    model = "" if name in ("ramp.gguf", "copy.safetensors") else "--model org/ramp"
    parts += ["", ramp.say(f"vectors import {name} --out back {model}")]
    parts += [ramp.say(f"vectors show back/{path.name}") for path in sorted(Path("back").iterdir())]
    ramp.check(f"format-{name}.txt", *parts, exact=True)


def contents(path: Path) -> str:
    """What is in an exported file: its text, or its hash, as far as it is the same on every machine."""
    data = path.read_bytes()
    if path.suffix == ".pt":  # written by torch, by each version in its own way
        return path.name
    if path.suffix == ".safetensors":  # the order of the metadata changes from one writing to the next
        size = int.from_bytes(data[:8], "little")
        header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, indent=1)
        return f"{path.name}: {len(data)} bytes, tensors {sha256(data[8 + size :]).hexdigest()}\n{header}"
    told = f"{path.name}: {len(data)} bytes, sha256 {sha256(data).hexdigest()}"
    return told if path.suffix == ".gguf" else f"{told}\n{data.decode()}"
