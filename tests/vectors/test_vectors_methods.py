"""Extraction methods against what they are defined to be, and read positions against a plain forward."""

from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from tiny_models import LAYERS, tiny_model, tiny_network, tiny_tokenizer

from steergraph.base.errors import InputError
from steergraph.engine.activations.texts import Frame, text_activations
from steergraph.engine.loading.chat import Chat
from steergraph.engine.loading.models import LoadedModel, load_model, wrap_model
from steergraph.engine.protocol import Message
from steergraph.vectors.extract.contrast import ContrastError, ContrastSet
from steergraph.vectors.extract.difference import extract
from steergraph.vectors.extract.first_use import ensure_vectors
from steergraph.vectors.extract.methods import (
    METHODS,
    auroc,
    auroc_of,
    direction,
    logistic_probe,
    paired_pca,
    whitened_difference,
)
from steergraph.vectors.store.files import load_vector, save_vector

TEXTS = ["a pear", "please fix the bug in row 3", "x", "Read the issue, find the cause, name the file"]


def sides(seed: int, n: int = 20, m: int = 16, width: int = 6, shift: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two clouds of one shape, whose means differ along the first axis and whose spread is largest along the second."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.ones(width, dtype=torch.float64)
    scale[1] = 8.0
    high, low = (torch.randn(k, width, generator=generator, dtype=torch.float64) * scale for k in (n, m))
    high[:, 0] += shift
    return high, low


# --- directions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_alpha_one_raw_carries_one_mean_to_the_other(method: str) -> None:
    high, low = sides(3, shift=9.0)
    found, _ = direction(method, high, low)
    moved = (low + found) @ (found / found.norm())
    assert float(moved.mean()) == pytest.approx(float((high @ (found / found.norm())).mean()), rel=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(1, 20))
def test_paired_pca_is_the_first_axis_of_differences_with_the_majoritys_sign(seed: int, n: int, m: int) -> None:
    high, low = sides(seed, n, m)
    unit, agree, explained = paired_pca(high, low)
    pairs = min(n, m)
    differences = high[:pairs] - low[:pairs]
    values, vectors = torch.linalg.eigh(differences.T @ differences)
    assert abs(float(unit @ vectors[:, -1])) == pytest.approx(1.0, abs=1e-6)
    assert explained == pytest.approx(float(values[-1] / values.sum()), abs=1e-9)
    assert float(unit.norm()) == pytest.approx(1.0)
    assert agree >= 0.5
    turned, _, _ = paired_pca(low, high)
    assert torch.allclose(turned, -unit, atol=1e-6) or agree == 0.5


def test_the_sign_is_the_majoritys_even_where_one_pair_outweighs_it() -> None:
    low = torch.zeros(5, 3)
    high = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0], [-30.0, 0, 0]])
    unit, agree, _ = paired_pca(high, low)
    assert unit.tolist() == pytest.approx([1, 0, 0])
    assert agree == pytest.approx(0.8)


@pytest.mark.parametrize(("n", "width"), [(12, 40), (200, 5)])
def test_whitened_is_the_shrunk_covariance_solved(n: int, width: int) -> None:
    high, low = sides(1, n, n, width)
    found, shrinkage = whitened_difference(high, low)
    centred = torch.cat([high - high.mean(0), low - low.mean(0)])
    count = len(centred)
    covariance = centred.T @ centred / count
    mean = covariance.trace() / width
    # Ledoit and Wolf 2004, written out in the space of the dimensions.
    spread = ((covariance - mean * torch.eye(width)) ** 2).sum() / width
    noise = sum(((row[:, None] * row[None, :] - covariance) ** 2).sum() for row in centred) / count**2 / width
    expected = float(min(noise, spread) / spread)
    assert shrinkage == pytest.approx(expected, rel=1e-9)
    shrunk = (1 - expected) * covariance + expected * mean * torch.eye(width)
    assert torch.allclose(shrunk @ found, high.mean(0) - low.mean(0), atol=1e-8)


def test_whitening_separates_what_a_noisy_axis_hides() -> None:
    high, low = sides(5, 400, 400)
    new_high, new_low = sides(6, 400, 400)
    plain, _ = direction("mean_difference", high, low)
    for method in ("whitened", "logistic"):
        found, _ = direction(method, high, low)
        assert auroc(new_high, new_low, found) > auroc(new_high, new_low, plain)


def test_the_probe_is_the_minimum_of_its_loss() -> None:
    high, low = sides(7, 9, 14, 5)
    found = logistic_probe(high, low)
    texts = torch.cat([high, low])
    centred = texts - texts.mean(0)
    scale = float(centred.norm(dim=1).median())
    features = (centred / scale).numpy()
    labels = torch.cat([torch.ones(9), torch.zeros(14)]).double().numpy()
    weights = torch.cat([torch.full((9,), 23 / 18), torch.full((14,), 23 / 28)]).double().numpy()

    def loss(at):  # type: ignore[no-untyped-def]
        import numpy as np

        scores = features @ at[:-1] + at[-1]
        return float((weights * (np.logaddexp(0, scores) - labels * scores)).sum() + 0.5 * (at[:-1] ** 2).sum())

    best = minimize(loss, [0.0] * 6, tol=1e-12)
    assert (found * scale).tolist() == pytest.approx(list(best.x[:-1]), abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", ["same", "single", "separable", "huge"])
def test_hard_sides_give_finite_directions(method: str, case: str) -> None:
    high, low = sides(2, 8, 8)
    if case == "same":
        low = high.clone()
    elif case == "single":
        high, low = high[:1], low[:1]
    elif case == "separable":
        high = high + 1000
    else:
        high, low = high * 1e6, low * 1e6
    found, chosen = direction(method, high, low)
    assert bool(torch.isfinite(found).all())
    assert isinstance(chosen, dict)
    if case == "same":
        assert float(found.norm()) == pytest.approx(0.0, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_auroc_by_ranks_is_auroc_by_pairs(high: list[int], low: list[int]) -> None:
    wins = sum((a > b) + 0.5 * (a == b) for a in high for b in low) / len(high) / len(low)
    assert auroc_of(torch.tensor(high), torch.tensor(low)) == pytest.approx(wins)


# --- read positions ---------------------------------------------------------------------------------------------------


@cache
def loaded(architecture: str = "qwen3", chat: bool = True) -> LoadedModel:
    return load_model(str(tiny_model(architecture, chat=chat)))


def states(model: LoadedModel, ids: list[int]) -> torch.Tensor:
    """[layers - 1, tokens, hidden] by transformers' own account; its last is behind the final norm and left out."""
    with torch.no_grad():
        found = model.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    return torch.stack([state[0] for state in found[1:-1]])


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_prompt_positions_are_where_they_say(architecture: str) -> None:
    model = loaded(architecture)
    found = text_activations(model, TEXTS, ("last_prompt_token", "prompt_mean"), batch_size=3)
    for index, text in enumerate(TEXTS):
        seen = states(model, Chat(model.tokenizer).prompt([Message(role="user", content=text)]))
        torch.testing.assert_close(found.at["last_prompt_token"][:-1, index], seen[:, -1], atol=1e-4, rtol=1e-4)
        norms = seen[:, 1:].norm(dim=-1)
        kept = norms <= 10 * norms.quantile(0.5, dim=1, keepdim=True)
        for layer in range(LAYERS - 1):
            mean = seen[layer, 1:][kept[layer]].mean(dim=0)
            torch.testing.assert_close(found.at["prompt_mean"][layer, index], mean, atol=1e-4, rtol=1e-4)


def test_answers_are_read_behind_their_question() -> None:
    model, frame = loaded(), Frame(system="Be brief.", question="What now?")
    found = text_activations(model, TEXTS, ("answer_mean",), frame=frame)
    chat = Chat(model.tokenizer)
    opening = (Message(role="system", content="Be brief."), Message(role="user", content="What now?"))
    for index, text in enumerate(TEXTS):
        prompt, answer = chat.prompt(opening), chat.text(text)
        seen = states(model, prompt + answer)[:, len(prompt) :].mean(dim=1)
        torch.testing.assert_close(found.at["answer_mean"][:-1, index], seen, atol=1e-4, rtol=1e-4)


def test_a_marker_is_read_where_it_is_complete() -> None:
    model = loaded()
    text = "the cause is bug, and é bug: then the end"
    found = text_activations(model, [text], ("marker",), frame=Frame(marker="é bug:"))
    ids = Chat(model.tokenizer).prompt([Message(role="user", content=text)])
    lengths = [len(model.tokenizer.decode(ids[:k])) for k in range(len(ids) + 1)]
    whole = model.tokenizer.decode(ids)
    place = next(k for k, n in enumerate(lengths) if n >= whole.index("é bug:") + len("é bug:"))
    assert "é bug:" in model.tokenizer.decode(ids[:place])
    assert "é bug:" not in model.tokenizer.decode(ids[: place - 1])
    torch.testing.assert_close(found.at["marker"][:-1, 0], states(model, ids)[:, place - 1], atol=1e-4, rtol=1e-4)


def test_massive_tokens_are_left_out_of_means_and_counted() -> None:
    network = tiny_network("llama")
    huge = 77
    with torch.no_grad():
        network.model.embed_tokens.weight[huge] *= 10_000
    model = wrap_model(network, tiny_tokenizer(chat=False), name="massive")
    text = model.tokenizer.decode([50, 60, huge, 70, 80])
    ids = Chat(model.tokenizer).prompt([Message(role="user", content=text)])
    assert huge in ids[1:]
    found = text_activations(model, [text], ("prompt_mean",))
    keep = torch.tensor([index > 0 and token != huge for index, token in enumerate(ids)])
    wanted = states(model, ids)[:, keep].mean(dim=1)
    torch.testing.assert_close(found.at["prompt_mean"][:-1, 0], wanted, atol=1e-4, rtol=1e-4)
    assert found.massive.tolist() == [1] * LAYERS


def test_what_cannot_be_read_is_one_line() -> None:
    for positions, frame, word in (
        (("marker",), Frame(marker="nowhere"), "text 0: the marker 'nowhere' is not in the prompt"),
        (("answer_mean",), Frame(), "give the question"),
        (("answer_mean", "prompt_mean"), Frame(question="?"), "no other position"),
    ):
        with pytest.raises(InputError, match=word):
            text_activations(loaded(), TEXTS, positions, frame=frame)
    with pytest.raises(InputError, match="no texts"):
        text_activations(loaded(), [])


# --- from a set to a vector, and what it says of itself ---------------------------------------------------------------


def small(**fields: object) -> ContrastSet:
    return ContrastSet(
        name="small",
        domain="small",
        positives=tuple(f"fix the cause of bug {n}" + " please" * n for n in range(9)),
        neutrals=tuple(f"a pear, {n} plums" + " and a walk" * (n % 3) for n in range(8)),
        **fields,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("read", ["last_prompt_token", "answer_mean"])
def test_every_method_and_position_is_kept_in_a_file(method: str, read: str, tmp_path: Path) -> None:
    contrast = small(read=read, question="What is it?" if read == "answer_mean" else None)
    library = ensure_vectors(loaded(), [contrast], method=method, cache_dir=tmp_path)
    vector = library["small"]
    assert (vector.method, vector.read_position, vector.contrast_hash) == (method, read, contrast.hash)
    assert set(vector.held_out_auroc) == set(vector.directions)
    assert vector.settings.get("question") == contrast.question
    copy = load_vector(save_vector(vector, tmp_path / "copy.safetensors"))
    assert copy == vector
    assert (copy.settings, copy.parents) == (vector.settings, ())
    again = ensure_vectors(loaded(), [contrast], method=method, cache_dir=tmp_path, progress=_once)
    assert again["small"] == vector


def _once(_name: str, done: int, total: int) -> None:
    assert done == total, "made again instead of taken from the cache"


def test_methods_do_not_take_each_others_cache_entries(tmp_path: Path) -> None:
    made = [ensure_vectors(loaded(), [small()], method=m, cache_dir=tmp_path)["small"] for m in METHODS]
    assert len({vector.hash for vector in made}) == len(METHODS)
    assert [ensure_vectors(loaded(), [small()], method=m, cache_dir=tmp_path)["small"] for m in METHODS] == made


def test_what_depends_on_the_read_position_is_in_the_hash() -> None:
    hashes = {small().hash, small(read="prompt_mean").hash, small(read="marker", marker="bug").hash}
    assert len(hashes) == 3
    assert small().hash == small(source="elsewhere", positive_ids=("1",)).hash
    for fields in ({"read": "marker"}, {"read": "answer_mean"}, {"marker": "x"}, {"question": "x"}, {"read": "end"}):
        with pytest.raises(ValueError, match=r"read|given exactly"):
            small(**fields)
    assert issubclass(ContrastError, InputError)


def test_a_vector_made_before_settings_and_parents_keeps_its_hash() -> None:
    vector = extract(loaded(), small())
    assert (vector.settings, vector.parents) == ({}, ())
    with_more = vector.model_copy(update={"settings": {"weights": {"10": 1.5, "9": 2}}, "parents": ("a" * 16,)})
    assert len({vector.hash, with_more.hash, with_more.model_copy(update={"parents": ()}).hash}) == 3
