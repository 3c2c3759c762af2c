"""The measurement: what counts as an edit, a repair and an interval."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.configs import InputError
from steergraph.pocket import PURPOSE, weights_path
from steergraph.pocket.corpus import draw_repair
from steergraph.pocket.evaluate import answer, judge, main, parse_block, wilson
from steergraph.pocket.speech import say_edit


def test_wilson_matches_the_textbook() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)


@given(hits=st.integers(0, 200), misses=st.integers(0, 200))
def test_the_interval_holds_the_share(hits: int, misses: int) -> None:
    low, high = wilson(hits, hits + misses)
    assert 0 <= low <= high <= 1
    if hits + misses:
        assert low - 1e-9 <= hits / (hits + misses) <= high + 1e-9


line = st.text(st.characters(exclude_characters="\n\r", exclude_categories=("Cs",)), max_size=20).filter(
    lambda text: not text.startswith(("<<<<", "====", ">>>>"))
)


@given(old=st.lists(line, min_size=1, max_size=4), new=st.lists(line, max_size=4))
def test_a_block_is_read_back(old: list[str], new: list[str]) -> None:
    assert parse_block(say_edit("a/b.py", old, new)) == ("a/b.py", old, new)


@pytest.mark.parametrize("text", ["", "no block", "a.py\n<<<<<<< SEARCH\nx\n=======\ny", "a\nb\nc\nd"])
def test_anything_else_is_no_block(text: str) -> None:
    assert parse_block(text) is None


def test_a_repair_counts_though_it_is_written_differently() -> None:
    sample = draw_repair(1, 2, "seen", notes=False)
    assert sample.scene is not None
    target = sample.scene.passages[sample.scene.target]
    whole = say_edit(target.path, list(target.lines), list(sample.scene.fixed))
    assert not judge(sample, whole).exact and judge(sample, whole).repaired
    elsewhere = judge(sample, say_edit("other.py", list(target.lines), list(sample.scene.fixed)))
    assert elsewhere.well_formed and not elsewhere.repaired
    unchanged = judge(sample, say_edit(target.path, list(target.lines), list(target.lines)))
    assert unchanged.well_formed and not unchanged.repaired


def test_a_folder_without_a_model_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(tmp_path)]) == 2
    assert "name a folder with --model" in capsys.readouterr().err


def _weights() -> Path:
    try:
        return weights_path()
    except InputError:
        pytest.skip("pocket's weights are not there")


def test_the_packaged_weights_are_small_and_safe() -> None:
    folder = _weights()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12_000_000
    assert {path.suffix for path in folder.iterdir()} <= {".safetensors", ".json", ".jinja"}
    assert "--model" in PURPOSE and "\n" not in PURPOSE


def test_the_packaged_weights_repair_what_they_never_saw() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = _weights()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    assert model.config.num_hidden_layers >= 12 and model.config.max_position_embeddings >= 1024
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    samples = [draw_repair(4, index, "held_out", notes=True) for index in range(24)]
    verdicts = [judge(s, text) for s, text in zip(samples, answer(model, tokenizer, samples, batch=8), strict=True)]
    assert sum(verdict.well_formed for verdict in verdicts) >= 20
    assert sum(verdict.repaired for verdict in verdicts) >= 8
