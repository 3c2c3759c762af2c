"""Extraction: what a vector is made of, that padding and batches do not matter, and that the cache keeps it."""

import logging
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_models import ARCHITECTURES, LAYERS, tiny_model, tiny_network, tiny_tokenizer

from steergraph.base.errors import InputError
from steergraph.engine.loading.chat import Chat
from steergraph.engine.loading.models import LoadedModel, load_model, wrap_model
from steergraph.engine.protocol import Message
from steergraph.vectors.extract.contrast import ContrastSet, load_contrast
from steergraph.vectors.extract.difference import extract, read_side
from steergraph.vectors.extract.first_use import cached_vectors, ensure_vectors, model_folder
from steergraph.vectors.extract.methods import auroc
from steergraph.vectors.store.files import load_vector


@cache
def loaded(architecture: str = "qwen3") -> LoadedModel:
    return load_model(str(tiny_model(architecture)))


def contrast(positives: Sequence[str] = (), neutrals: Sequence[str] = (), **fields: Any) -> ContrastSet:
    return ContrastSet(
        name="small",
        domain="small",
        positives=tuple(positives) or tuple(f"fix the cause of bug {n}" + " please" * n for n in range(9)),
        neutrals=tuple(neutrals) or tuple(f"a pear, {n} plums" + " and a walk" * (n % 3) for n in range(8)),
        **fields,
    )


def test_the_direction_is_the_difference_of_means_without_the_held_out() -> None:
    model, small = loaded(), contrast()
    vector = extract(model, small)
    chat = Chat(model.tokenizer)

    def last(text: str) -> torch.Tensor:
        """[layers, hidden] at the generation prompt's last token, by transformers' own account of hidden states."""
        ids = torch.tensor([chat.prompt([Message(role="user", content=text)])])
        with torch.no_grad():
            states = model.model(ids, output_hidden_states=True).hidden_states
        return torch.stack([state[0, -1] for state in states[1:]]).double()

    used = [
        torch.stack([last(text) for n, text in enumerate(texts) if n % 4 != 3]).mean(dim=0)
        for texts in (small.positives, small.neutrals)
    ]
    for layer in range(LAYERS - 1):  # the last hidden state of transformers is behind the final norm
        torch.testing.assert_close(vector.directions[layer], (used[0] - used[1])[layer].float(), atol=1e-4, rtol=1e-4)
        assert vector.raw_norms[layer] == pytest.approx(float(vector.directions[layer].norm()), rel=1e-5)
    assert vector.metadata["used"] == {"positives": 7, "neutrals": 6}
    assert vector.metadata["held_out"] == {"positives": 2, "neutrals": 2}
    assert vector.metadata["model_type"] == model.model.config.model_type  # what exports say of it


def test_a_vector_says_where_it_is_from() -> None:
    model, small = loaded(), contrast()
    vector = extract(model, small, name="mine")
    assert vector.name == "mine"
    assert (vector.model, vector.revision, vector.hidden_size) == (model.info.name, model.info.revision, 32)
    assert (vector.method, vector.read_position) == ("mean_difference", "last_prompt_token")
    assert vector.contrast_hash == small.hash
    assert sorted(vector.directions) == list(range(LAYERS))
    assert set(vector.metadata["held_out_auroc"]) == {str(layer) for layer in range(LAYERS)}
    assert all(direction.dtype == torch.float32 for direction in vector.directions.values())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batches_do_not_matter(architecture: str) -> None:
    model, small = loaded(architecture), contrast()
    alone, together = (extract(model, small, batch_size=size) for size in (1, 8))
    assert set(alone.directions) == set(together.directions)
    for layer, direction in alone.directions.items():
        torch.testing.assert_close(together.directions[layer], direction, atol=2e-4, rtol=1e-3)
        assert together.median_residual_norms[layer] == pytest.approx(alone.median_residual_norms[layer], rel=1e-3)


@pytest.mark.parametrize("architecture", ["gemma3", "lfm2"])
def test_a_layer_that_sees_only_the_template_has_no_direction(architecture: str) -> None:
    # The first block's short convolution or window ends inside the generation prompt, the same in every text.
    assert 0 not in extract(loaded(architecture), contrast()).directions


def test_the_median_norm_leaves_out_first_tokens() -> None:
    model, small = loaded(), contrast()
    vector = extract(model, small)
    chat = Chat(model.tokenizer)
    medians = []
    for text in (*small.positives, *small.neutrals):
        ids = torch.tensor([chat.prompt([Message(role="user", content=text)])])
        with torch.no_grad():
            states = model.model(ids, output_hidden_states=True).hidden_states
        medians.append([float(state[0, 1:].norm(dim=-1).quantile(0.5)) for state in states[1:]])
    for layer in range(LAYERS - 1):
        wanted = torch.tensor([row[layer] for row in medians]).quantile(0.5)
        assert vector.median_residual_norms[layer] == pytest.approx(float(wanted), rel=1e-4)


def test_auroc_by_hand() -> None:
    direction = torch.tensor([2.0, 0.0])
    high = torch.tensor([[3.0, 9.0], [1.0, -9.0]])
    low = torch.tensor([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]])
    # 3 beats 0, 1 and 2; 1 beats 0, ties with 1, loses to 2: (3 + 1 + 0.5) / 6
    assert auroc(high, low, direction) == pytest.approx(4.5 / 6)
    assert auroc(low, high, direction) == pytest.approx(1.5 / 6)
    assert auroc(high, high, direction) == 0.5
    assert auroc(high, low, -direction) == pytest.approx(1.5 / 6)


def test_a_system_prompt_is_read_on_its_own_side() -> None:
    model = loaded()
    plain, framed = contrast(), contrast(system="You fix bugs.", neutral_system="You chat.")
    assert extract(model, plain).hash != extract(model, framed).hash
    sides = [read_side(model, each, "positives").at["last_prompt_token"] for each in (plain, framed)]
    assert not torch.equal(*sides)


def test_a_text_longer_than_the_window_is_named() -> None:
    long = contrast([*contrast().positives[:-1], "very long " * 400])
    with pytest.raises(InputError, match=r"contrast set 'small': .*more than the window") as caught:
        extract(loaded(), long)
    assert "\n" not in str(caught.value)


def test_activations_that_overflow_are_refused() -> None:
    network = tiny_network("qwen3")
    with torch.no_grad():
        network.model.layers[1].mlp.down_proj.weight.fill_(float("inf"))
    broken = wrap_model(network, tiny_tokenizer(), name="broken", revision="x")
    with pytest.raises(InputError, match="overflow"):
        extract(broken, contrast())


# --- on first use, and from then on from the cache --------------------------------------------------------------------


def write_set(path: Path, word: str = "fix") -> Path:
    table = {"name": path.stem, "positives": [f"{word} bug {n}" for n in range(8)]}
    path.write_text(yaml.safe_dump(table))
    return path


def test_vectors_are_made_once(tmp_path: Path) -> None:
    model, seen = loaded(), []

    def progress(*told: Any) -> None:
        seen.append(told)

    first = ensure_vectors(model, ["math", "law"], cache_dir=tmp_path, progress=progress)
    assert set(first) == {"math", "law"}
    assert [told for told in seen if told[0] == "math"] == [("math", done, 64) for done in (16, 32, 48, 64)]
    assert [told for told in seen if told[0] == "law"] == [
        ("law", done, 64) for done in (48, 64)
    ]  # neutrals are read once
    seen.clear()
    second = ensure_vectors(model, ["math", "law"], cache_dir=tmp_path, progress=progress)
    assert seen == [("math", 64, 64), ("law", 64, 64)]
    assert dict(second) == dict(first)
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]


def test_the_shared_neutral_side_changes_nothing(tmp_path: Path) -> None:
    model = loaded()
    one, two = write_set(tmp_path / "one.yaml"), write_set(tmp_path / "two.yaml", word="mend")
    together = ensure_vectors(model, [one, two], cache_dir=tmp_path / "cache")
    assert together["two"] == extract(model, load_contrast(two))


def test_ones_own_set_works_the_same(tmp_path: Path) -> None:
    model, own = loaded(), write_set(tmp_path / "own.yaml")
    by_path = ensure_vectors(model, [str(own)], cache_dir=tmp_path / "cache")
    named = ensure_vectors(model, {"django_web/mine": str(own), "math": None}, cache_dir=tmp_path / "cache")
    assert set(by_path) == {"own"}
    assert set(named) == {"django_web/mine", "math"}
    assert named["django_web/mine"].hash == by_path["own"].hash
    write_set(own, word="mend")  # a changed set is another vector, not the old one from the cache
    assert ensure_vectors(model, [own], cache_dir=tmp_path / "cache")["own"].hash != by_path["own"].hash


def test_another_revision_of_the_model_has_its_own_vectors(tmp_path: Path) -> None:
    own = write_set(tmp_path / "own.yaml")
    revisions = [
        wrap_model(tiny_network("qwen3", seed=seed), tiny_tokenizer(), name="same", revision=str(seed))
        for seed in (1, 2)
    ]
    made = [ensure_vectors(model, [own], cache_dir=tmp_path)["own"] for model in revisions]
    assert made[0].hash != made[1].hash
    assert [ensure_vectors(model, [own], cache_dir=tmp_path)["own"] for model in revisions] == made
    assert model_folder(revisions[0].info, tmp_path) != model_folder(revisions[1].info, tmp_path)


def test_a_model_of_unknown_revision_is_not_cached(tmp_path: Path) -> None:
    unnamed = wrap_model(tiny_network("qwen3"), tiny_tokenizer(), name="same")
    ensure_vectors(unnamed, [write_set(tmp_path / "own.yaml")], cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", ["truncated", "noise", "another vector", "empty"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    model, own = loaded(), write_set(tmp_path / "own.yaml")
    made = ensure_vectors(model, [own], cache_dir=tmp_path)["own"]
    ((path, _),) = cached_vectors(cache_dir=tmp_path)
    whole = path.read_bytes()
    other = write_set(tmp_path / "other.yaml", word="mend")
    ensure_vectors(model, [other], cache_dir=tmp_path / "second")
    ((foreign, _),) = cached_vectors(cache_dir=tmp_path / "second")
    path.write_bytes(
        {"truncated": whole[:-9], "noise": b"\x00" * 99, "another vector": foreign.read_bytes(), "empty": b""}[damage]
    )
    with caplog.at_level(logging.WARNING):
        assert ensure_vectors(model, [own], cache_dir=tmp_path)["own"] == made
    assert load_vector(path) == made
    assert ("made again" in caplog.text) == (damage != "another vector")


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    own = write_set(tmp_path / "own.yaml")
    with caplog.at_level(logging.WARNING):
        assert "own" in ensure_vectors(loaded(), [own], cache_dir=tmp_path / "file")
    assert "made again next time" in caplog.text


def test_several_at_once_agree(tmp_path: Path) -> None:
    own, results = write_set(tmp_path / "own.yaml"), []
    models = [load_model(str(tiny_model("qwen3"))) for _ in range(3)]

    def make(model: LoadedModel) -> None:
        results.append(ensure_vectors(model, [own], cache_dir=tmp_path)["own"])

    threads = [threading.Thread(target=make, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert len({vector.hash for vector in results}) == 1
    ((path, kept),) = cached_vectors(cache_dir=tmp_path)
    assert load_vector(path) == kept == results[0]


def test_a_wrong_set_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no contrast set called 'maths'"):
        ensure_vectors(loaded(), ["math", "maths"], cache_dir=tmp_path)
    two = [write_set(tmp_path / "own.yaml"), tmp_path / "sub" / "own.yaml"]
    two[1].parent.mkdir()
    write_set(two[1], word="mend")
    with pytest.raises(InputError, match="two contrast sets are called 'own'"):
        ensure_vectors(loaded(), two, cache_dir=tmp_path)
    assert not (tmp_path / "vectors").exists()
