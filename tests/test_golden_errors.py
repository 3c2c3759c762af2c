"""What every command says to bad input: the one line on standard error, and exit code 2."""

import re
import shutil
from pathlib import Path

import pytest
from golden_help import Golden, golden_place

ON = "--repo pantry.bundle --issue 'it fails'"
LINES = {
    "run": (
        "run --repo nowhere --issue 'it fails'",
        "run --repo . --issue 'it fails'",
        "run --repo pantry.bundle --issue x --commit 0000000000000000000000000000000000000000",
        "run --repo pantry.bundle --issue x --commit=--output=x",
        "run --repo 'ext::sh -c x' --issue x",
        "run --repo=--upload-pack=x --issue x",
        "run --repo pantry.bundle --issue ''",
        "run --repo pantry.bundle --issue no/such.md",
        "run --repo pantry.bundle --issue binary.md",
        "run --repo pantry.bundle",
        "run --issue 'it fails'",
        f"run {ON} --swebench rows.jsonl",
        "run --swebench rows.jsonl",
        "run --swebench none.parquet --instance a",
        "run --swebench rows.jsonl --instance steergraph__pantry-stokc --repo pantry.bundle",
        f"run {ON} --model empty",
        f"run {ON} --model ./none",
        f"run {ON} --preset fast",
        f"run {ON} --vectors nowhere",
        f"run {ON} --vectors narrow",
        f"run {ON} --roster none.yaml",
        f"run {ON} --roster bad.yaml",
        f"run {ON} --policy none.yaml",
        f"run {ON} --policy bad.yaml",
        f"run {ON} --apply",
        f"run {ON} --state mysql://u:p4ss@host/x",
        f"run {ON} --out rows.jsonl",
        "run --resume empty",
    ),
    "ask": (
        "ask ' '",
        "ask",
        "ask 'Which?' --choices a",
        "ask 'Which?' --choices a b c d e f g h i j k",
        "ask 'Which?' --examples none.txt",
        "ask 'Which?' --examples bad.json",
        "ask 'Which?' --preset fast",
        "ask --resume nowhere",
    ),
    "find": (
        "find --repo pantry.bundle",
        "find --issue 'it fails'",
        "find --repo nowhere --issue 'it fails'",
        f"find {ON} --commit dead",
        f"find {ON} --tokenizer none",
        "find --repo https://u:s3cret@exa_mple.org/x --issue 'it fails'",
    ),
    "vectors": (
        "vectors list --folder none",
        "vectors show none",
        "vectors show none.safetensors",
        "vectors show none.pt",
        "vectors show narrow/tilt.safetensors --plot tilt.exe",
        "vectors extract --contrast maths",
        "vectors extract --contrast none.yaml",
        "vectors extract --contrast math law --out one.safetensors",
        "vectors extract --recipe mmlu_pro",
        "vectors extract --recipe nope --data x.json",
        "vectors extract --data x.json",
        "vectors extract --read marker",
        "vectors compose narrow/tilt.safetensors=x",
        "vectors compose narrow/tilt.safetensors=0",
        "vectors compose narrow/tilt.safetensors --layer 9",
        "vectors compose narrow/tilt.safetensors --out x.gguf",
        "vectors verify none.safetensors",
        "vectors verify narrow/tilt.safetensors --model pocket",
        "vectors lens --model pocket",
        "vectors lens narrow/tilt.safetensors --top 0",
        "vectors lens --text x --layer 12",
        "vectors calibrate narrow/tilt.safetensors",
        "vectors calibrate narrow/tilt.safetensors --nats -1",
        "vectors calibrate narrow/tilt.safetensors --limit 0",
        "vectors project maths --source pocket --target pocket",
        "vectors project math --source pocket --target pocket --random -1",
        "vectors export narrow/tilt.safetensors --to x.svec",
        "vectors export narrow/tilt.safetensors --to x.pt --layer 9",
        "vectors export none.safetensors --to x.gguf",
        "vectors import none.gguf --out x",
        "vectors import tilt.json --out x.gguf",
        "vectors import tilt.json --out x --hidden-size 7",
        "vectors import tilt.json --out x --side input",
        "vectors import bad.json --out x",
        "vectors import rows.jsonl --out x",
    ),
    "evals": (
        "eval --gold --dataset none.jsonl",
        "eval --gold --dataset rows.jsonl",
        "eval --predictions none.jsonl --dataset rows.jsonl",
        "bench swebench --dataset none.jsonl",
        "bench swebench --dataset rows.jsonl --run-id ../x",
        "bench swebench --dataset rows.jsonl --repos nowhere",
        "bench swebench --dataset rows.jsonl --repos https://u:p4ss@host/x",
        "bench swebench --dataset rows.jsonl --repos . --presets best",
        "bench swebench --dataset rows.jsonl --repos . --presets ,",
        "bench swebench --dataset rows.jsonl --repos . --instances pantry-1",
        "bench swebench --dataset rows.jsonl --repos . --roster none.yaml",
        "bench retrieval --dataset rows.jsonl --repos . --jobs 1 --instances nope",
        "bench retrieval --dataset rows.jsonl --repos . --jobs 1 --tokenizer none",
        "report",
        "report nowhere",
        "report empty",
        "route-bench --tests 0",
        "route-bench --per-group 2",
        "route-bench --data none.parquet",
        "lab sweep --out out",
        "lab sweep --out out --tasks training.tasks",
        "lab sweep --out out --tasks nowhere:TASKS",
        "lab sweep --out out --tasks json:NOTHING",
        "lab switching --out out --tasks json:decoder",
        "lab sweep --out out --tasks training.tasks:POCKET --settings none.yaml",
        "lab sweep --out out --tasks training.tasks:POCKET --settings bad.yaml",
        "lab sweep --out rows.jsonl --tasks training.tasks:POCKET",
        "lab sweep --out out --tasks training.tasks:POCKET --model ./none",
        "lab switching --out out --tasks training.tasks:POCKET --settings bad.yaml",
        "lab switching --out out --tasks training.tasks:POCKET --examples empty",
    ),
}
USAGE = (
    "",
    "nonsense",
    "vectors",
    "vectors nonsense",
    "bench",
    "lab",
    "run --nonsense",
    f"run {ON} --steering loud",
    f"run {ON} --retrieval maybe",
    f"run {ON} --router dice",
    f"run {ON} --max-repairs -1",
    f"run {ON} --max-repairs x",
    f"run {ON} --max-seconds -1",
    f"run {ON} --seed x",
    "ask 'Which?' 'What?'",
    f"find {ON} --budget 0",
    f"find {ON} --files x",
    "vectors show",
    "vectors export tilt --to x --format word",
    "vectors export tilt",
    "vectors calibrate tilt --unit mile",
    "vectors import tilt.json",
    "eval --dataset rows.jsonl",
    "eval --gold",
    "eval --gold --controls --dataset rows.jsonl",
    "eval --gold --dataset rows.jsonl --jobs 0",
    "bench swebench",
    "bench swebench --dataset rows.jsonl --samples 0",
    "lab sweep",
    "serve --port x",
    "serve --max-batch 0",
)


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Golden:
    place = golden_place(tmp_path / "here", tmp_path / "cache", monkeypatch, capsys.readouterr)
    Path("bad.json").write_text('{"a": ', encoding="utf-8")
    Path("bad.yaml").write_text("surely: not this\n", encoding="utf-8")
    Path("binary.md").write_bytes(b"\xff\xfe\x00it fails")
    assert place.say("vectors import tilt.json --out narrow").code == 0
    return place


@pytest.mark.parametrize("command", LINES)
def test_bad_input_is_one_line_and_exit_code_2(golden: Golden, command: str) -> None:
    told = []
    for line in LINES[command]:
        said = golden.say(line)
        assert said.code == 2, line
        assert re.fullmatch("steergraph: .+\n", said.err), line
        assert "p4ss" not in said.err
        assert "s3cret" not in said.err
        told.append(said)
    golden.check(f"errors-{command}.txt", *told, exact=True)
    assert not {path.name for path in Path.cwd().iterdir()} & {"runs", "x", "report"}  # `lab` makes its --out first


@pytest.mark.parametrize("line", USAGE)
def test_wrong_usage_is_exit_code_2(golden: Golden, line: str) -> None:
    before = sorted(path.name for path in Path.cwd().iterdir())
    said = golden.say(line)
    assert said.code == 2
    assert said.out == ""
    assert said.err
    assert "Traceback" not in said.err
    assert sorted(path.name for path in Path.cwd().iterdir()) == before


def test_a_vector_that_was_changed_is_refused(golden: Golden) -> None:
    data = bytearray(Path("narrow", "tilt.safetensors").read_bytes())
    shutil.rmtree("narrow")
    data[-1] ^= 1
    Path("changed.safetensors").write_bytes(data)
    golden.check("errors-changed.txt", golden.say("vectors show changed.safetensors"), exact=True)
