"""The trainer: a toy learns, survives a kill, refuses damaged checkpoints and exports what transformers loads."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from steergraph.base.errors import InputError
from training.lessons import Progress, batches
from training.network import hidden_states, new_model
from training.optimizer import Optimizer, orthogonalise
from training.train import CHECKPOINT, MODEL, Plan, copying_lesson, load_checkpoint, main, train

TINY = Plan(seed=1, steps=40, batch_tokens=1024, pool=32, size="tiny", vocab_size=512)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out: Path = tmp_path_factory.mktemp("pocket")
    first = train(Plan(**{**TINY.__dict__, "steps": 4}), out)
    second = train(TINY, out, resume=True)
    assert (first.step, second.step) == (4, 40)
    assert second.loss < first.loss
    return out


def test_the_fast_forward_computes_what_transformers_computes() -> None:
    model = new_model("tiny", 300, 0, 2, 128, seed=3).eval()
    ids = torch.randint(3, 300, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.model(input_ids=ids).last_hidden_state
        assert torch.allclose(hidden_states(model, ids, torch.float32), expected, atol=1e-4)


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    stack = torch.randn(3, 16, 48, generator=torch.Generator().manual_seed(0))
    for result in (orthogonalise(stack), orthogonalise(stack.transpose(1, 2))):
        values = torch.linalg.svdvals(result)
        assert values.min() > 0.5 and values.max() < 1.4


def test_a_resumed_run_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    plan = Plan(**{**TINY.__dict__, "steps": 3})
    train(plan, tmp_path)
    model = new_model("tiny", 512, 0, 2, 1280, seed=9)
    optimizer = Optimizer(model)
    progress = load_checkpoint(tmp_path, model, optimizer, plan)
    assert progress.step == 3 and progress.tokens > 0
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / MODEL).state_dict()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.detach().to(torch.bfloat16), saved[name].to(torch.bfloat16)), name
    assert any(value.abs().sum() > 0 for value in optimizer.momentum.values())


def test_the_export_loads_offline_and_is_half_precision(trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained / MODEL, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(trained / MODEL, local_files_only=True)
    assert model.dtype == torch.bfloat16 and model.config.model_type == "qwen3"
    assert model.config.tie_word_embeddings and len(tokenizer) == model.config.vocab_size


def test_a_lesson_asks_for_what_stands_before_it() -> None:
    from training.train import Progress

    ids, labels = copying_lesson(TINY, Progress(step=5), 512, 2)
    wanted = labels[0] != -100
    n = int(wanted.sum())
    row = ids[0].tolist()
    assert row[-n:] == labels[0][wanted].tolist()
    assert any(row[i : i + n] == row[-n:] for i in range(len(row) - 2 * n + 1))


def test_a_kill_loses_at_most_the_last_interval(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.train", "--out", str(tmp_path), "--tiny", "--threads", "1"]
    command += ["--device", "cpu", "--steps", "100000", "--save-minutes", "0.01"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)
    process.kill()
    process.wait()
    model = new_model("tiny", 512, 0, 2, 1280, seed=1)
    progress = load_checkpoint(tmp_path, model, Optimizer(model), TINY)
    assert progress.step > 0
    steps = str(progress.step + 2)
    assert (
        main(["--out", str(tmp_path), "--tiny", "--threads", "1", "--device", "cpu", "--steps", steps, "--resume"]) == 0
    )


def test_bad_checkpoints_are_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = new_model("tiny", 512, 0, 2, 1280, seed=1)
    with pytest.raises(InputError, match="no checkpoint"):
        load_checkpoint(tmp_path, model, Optimizer(model), TINY)
    (tmp_path / CHECKPOINT).write_bytes(b"\x00" * 50)
    with pytest.raises(InputError, match="not a checkpoint of this training"):
        load_checkpoint(tmp_path, model, Optimizer(model), TINY)
    assert main(["--out", str(tmp_path / "new"), "--tiny", "--steps", "1", "--resume", "--device", "cpu"]) == 2
    assert "leave out --resume" in capsys.readouterr().err


def test_what_cannot_be_trained_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    new = tmp_path / "new"
    for arguments, said in (
        (["--minutes", "0"], "--minutes 0"),
        (["--minutes", "nan"], "--minutes nan"),
        (["--steps", "-5"], "--steps -5"),
        (["--threads", "0"], "--threads 0"),
        (["--save-minutes", "-1"], "--save-minutes -1"),
        (["--device", "quux"], "--device quux"),
        (["--start", str(tmp_path / "nowhere")], "not the folder of a trained model"),
        (["--resume"], "leave out --resume"),
        (["--out", str(file)], "cannot make this folder"),
    ):
        assert main(["--out", str(new), "--tiny", "--device", "cpu", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error and len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [file]


def test_a_checkpoint_goes_on_with_its_own_plan_only(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / CHECKPOINT).read_bytes()
    command = ["--out", str(trained), "--tiny", "--device", "cpu", "--threads", "1", "--steps", "41"]
    for arguments, said in (
        ([], "holds a training already"),
        (["--resume", "--seed", "99"], "another seed"),
        (["--resume", "--base"], "another base"),
        (["--resume", "--start", str(trained / MODEL)], "another ramp_from"),
    ):
        assert main([*command, *arguments]) == 2
        assert said in capsys.readouterr().err
    assert (trained / CHECKPOINT).read_bytes() == before


def test_a_model_of_another_size_is_no_start(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--device", "cpu", "--steps", "1", "--start", str(trained / MODEL)]) == 2
    assert "not a model of this size" in capsys.readouterr().err
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "config.json").write_text("{}")
    out = tmp_path / "out"
    assert main(["--out", str(out), "--device", "cpu", "--steps", "1", "--start", str(tmp_path / "start")]) == 2
    assert "no tokenizer" in capsys.readouterr().err
    assert not list(out.iterdir())
    assert not (tmp_path / "tokenizer").exists()  # of the wrong model: the next start would go on with it


def test_resumed_batches_are_those_that_would_have_come(trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained / MODEL)
    progress = Progress()
    source = batches(TINY, tokenizer, progress)
    for stop in (3, 20):  # within the first pool and in a later one
        for _ in range(stop):
            progress.tokens += next(source)[0].numel()
        resumed = batches(TINY, tokenizer, replace(progress))
        ahead = batches(TINY, tokenizer, replace(progress))
        after = [next(ahead)[0] for _ in range(2)]
        for expected in after:
            assert torch.equal(next(resumed)[0], expected)
        following = next(source)[0]
        progress.tokens += following.numel()
        assert torch.equal(following, after[0])
