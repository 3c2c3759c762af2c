"""Models from GGUF files: the same network, the same tokens; one clear line for every file that can't be read."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from engine_help import TEXTS, ask
from gguf_help import FAMILIES, network_for_gguf, tiny_gguf, tokenizer_fields
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_network, tiny_tokenizer

from steergraph.base.errors import InputError
from steergraph.base.files import held
from steergraph.engine.loading.gguf.convert import converted
from steergraph.engine.loading.gguf.reader import GGUFFile, read_gguf
from steergraph.engine.loading.gguf.tokenizer import tokenizer_of
from steergraph.engine.loading.models import load_model
from steergraph.engine.local import LocalEngine

Types = gguf.GGMLQuantizationType


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_network_of_a_gguf_file_is_the_one_that_was_written(tmp_path: Path, family: str) -> None:
    network = network_for_gguf(family)
    loaded = load_model(str(tiny_gguf(tmp_path / f"{family}-tiny.gguf", family, network=network)))
    ids = torch.tensor([[5, 17, 200, 3, 44, 60, 61, 62, 63, 64]])
    with torch.no_grad():
        assert torch.allclose(loaded.model(ids).logits, network(ids).logits, atol=1e-5)
    info = loaded.info
    assert (info.name, info.kind, info.quantization) == (f"{family}-tiny", "instruct", "F32 as float32")
    assert info.revision == info.file_sha256[:16] and len(info.file_sha256) == 64
    assert loaded.eos_ids == {2} and loaded.pad_id == 0


def test_a_quantized_file_says_how_and_is_close(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "q.gguf", quantized=Types.Q8_0, fields={"general.file_type": 7})
    loaded, network = load_model(str(path), weights="bfloat16"), tiny_network("llama")
    assert loaded.info.quantization == "Q8_0 as bfloat16" and loaded.model.dtype == torch.bfloat16
    weights = network.model.layers[0].mlp.up_proj.weight
    assert torch.allclose(loaded.model.model.layers[0].mlp.up_proj.weight.float(), weights, atol=0.02)
    found = read_gguf(path, "q")
    assert list(found.shares) == ["Q8_0", "F32"] and sum(found.shares.values()) == pytest.approx(1)


def test_a_gguf_model_speaks_as_its_folder_does(tmp_path: Path) -> None:
    from tiny_models import tiny_model

    requests = [ask(text) for text in TEXTS]
    with (
        LocalEngine(str(tiny_gguf(tmp_path / "tiny.gguf", "qwen3"))) as one,
        LocalEngine(str(tiny_model("qwen3"))) as other,
    ):
        assert [c.token_ids for c in one.generate(requests)] == [c.token_ids for c in other.generate(requests)]


def test_a_files_shape_is_known_without_loading_it(tmp_path: Path) -> None:
    from steergraph.engine.loading.weights import config_at_hand

    path = tiny_gguf(tmp_path / "tiny.gguf", "gemma3")
    told = {"hidden_size": 32, "num_hidden_layers": 6, "model_type": "gemma3_text"}
    assert config_at_hand(str(path)) == ("tiny", told)


def test_what_the_file_does_not_say_is_not_in_the_records(tmp_path: Path) -> None:
    from tiny_models import tiny_model

    assert "quantization" not in load_model(str(tiny_model("llama"))).info.model_dump()


def test_the_second_load_converts_nothing(tmp_path: Path, cache: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf")
    made = converted(path, "tiny", torch.float32)
    before = (made.folder / "model.safetensors").stat()
    again = converted(path, "tiny", torch.float32)
    assert again == made and (again.folder / "model.safetensors").stat() == before
    assert converted(path, "tiny", torch.bfloat16).folder != made.folder
    # Another file in its place is another model, though it has the same name and length.
    other = tiny_gguf(tmp_path / "other.gguf", network=tiny_network("llama", seed=1))
    other.replace(path)
    assert converted(path, "tiny", torch.float32).sha256 != made.sha256
    assert not list((cache / "gguf").glob(".*draft"))


@settings(deadline=None, max_examples=100)
@given(st.text())
def test_the_tokenizer_gives_the_ids_of_the_one_that_was_written(text: str) -> None:
    assert BUILT(text)["input_ids"] == tiny_tokenizer()(text)["input_ids"]


def _file(**fields: Any) -> GGUFFile:
    values = {"general.architecture": "llama", "llama.context_length": 256, **tokenizer_fields(), **fields}
    return GGUFFile(Path("none"), {key: value for key, value in values.items() if value is not None}, {})


BUILT = tokenizer_of(_file(), "tiny")


def test_added_tokens_and_what_ends_a_turn(tmp_path: Path) -> None:
    fields = {"tokenizer.ggml.eot_token_id": 3, "tokenizer.ggml.add_bos_token": True}
    loaded = load_model(str(tiny_gguf(tmp_path / "tiny.gguf", fields=fields)))
    assert loaded.eos_ids == {2, 3}
    tokenizer = loaded.tokenizer
    assert tokenizer("<|end|>a<think>")["input_ids"][:2] == [1, 2]
    special = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
    assert special["<|end|>"] and special["<|start|>"] and special["<think>"] is False
    assert tokenizer.chat_template == tiny_tokenizer().chat_template


@pytest.mark.parametrize(
    ("rule", "text", "pieces"),
    [
        ("gpt-2", "a 123", ["a", "Ġ123"]),
        ("smollm", "a 123", ["a", "Ġ", "1", "2", "3"]),
        ("qwen2", "a 123\n\n b", ["a", "Ġ", "1", "2", "3", "ĊĊ", "Ġb"]),
        ("llama-bpe", "a 1234 DON'T", ["a", "Ġ", "123", "4", "ĠDON", "'T"]),
    ],
)
def test_text_is_split_by_the_rule_that_the_file_names(rule: str, text: str, pieces: list[str]) -> None:
    backend = tokenizer_of(_file(**{"tokenizer.ggml.pre": rule}), "tiny").backend_tokenizer
    assert [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)] == pieces
    assert (backend.normalizer is not None) == (rule == "qwen2")


def test_a_file_without_a_rule_is_split_as_gpt2_does_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer_of(_file(**{"tokenizer.ggml.pre": None}), "tiny")
    assert "tiny: its file does not say how text is split into words" in caplog.text


NASTY = (
    "cafe\u0301 café",
    "\r\n\r\n \n x",
    "    for i in range(10):\n\t\tprint(1234)",
    "don't DON'T we'Ll",
    "½ ² ٣ 1٣",
    "東京タワー 🙂👍🏽 é",
    "a\u00a0b\u200bc",
    "<|im_end|>x<|im_start|>",
    " ",
    "",
    "\ufeffx",
    "\x00\x1b[0m",
    "ﬁ Å Å",
    "١٢٣",
)


@pytest.mark.realdata
def test_qwen2_tokens_are_qwen2s_own(data: Path) -> None:
    import json

    from transformers import AutoTokenizer

    folder = data / "tokenizers" / "qwen2"
    own = AutoTokenizer.from_pretrained(folder)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    special = {index: token.content for index, token in own.added_tokens_decoder.items()}
    tokens = [text for text, _ in sorted(vocabulary.items(), key=lambda item: item[1])]
    tokens += [special[index] for index in range(len(tokens), len(tokens) + 3)]
    merges = [line for line in (folder / "merges.txt").read_text().splitlines() if line and not line.startswith("#ver")]
    types = [3 if index in special else 1 for index in range(len(tokens))]
    fields = {"pre": "qwen2", "tokens": tokens, "token_type": types, "merges": merges}
    fields |= {"eos_token_id": 151645, "bos_token_id": None, "padding_token_id": None}
    built = tokenizer_of(_file(**{f"tokenizer.ggml.{key}": value for key, value in fields.items()}), "qwen2")
    texts = (*NASTY, *(path.read_text() for path in Path(__file__).parent.glob("*.py")))
    for text in texts:
        assert built(text)["input_ids"] == own(text)["input_ids"], text[:60]


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["gpt-2", "starcoder", "refact", "phi-3", "llama-spm"])
def test_tokens_are_llama_cpps(data: Path, name: str) -> None:
    path = data / "tokenizers" / "gguf_vocab" / f"ggml-vocab-{name}.gguf"
    built = tokenizer_of(read_gguf(path, name), name)
    texts = Path(f"{path}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    expected = [[int(word) for word in line.split()] for line in Path(f"{path}.out").read_text().split("\n")]
    for text, ids in zip(texts, expected, strict=False):
        assert built(text, add_special_tokens=False)["input_ids"] == ids, repr(text)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "llama", "fields": {"general.architecture": "mamba"}}, "a GGUF file of 'mamba'"),
        ({"fields": {"llama.block_count": None}}, "its llama.block_count is missing"),
        ({"fields": {"llama.block_count": 2**31}}, "it says 2147483648 layers and has"),
        ({"fields": {"llama.block_count": 3}}, "'blk.3.attn_q.weight' that its architecture has no place for"),
        ({"fields": {"llama.block_count": 5}}, "weights are missing"),
        ({"fields": {"llama.feed_forward_length": 96}}, "where its hyperparameters say"),
        ({"fields": {"llama.rope.scaling.type": "yarn"}}, "rotary positions are scaled"),
        ({"fields": {"llama.rope.dimension_count": 4}}, "its rope.dimension_count is 4 where heads are 8 wide"),
        ({"extra": {"rope_freqs.weight": np.ones(4, dtype=np.float32)}}, "rotary positions are scaled"),
        ({"without": ("output_norm.weight",)}, "1 weights are missing (such as model.norm.weight)"),
        ({"fields": {"tokenizer.ggml.model": None}}, "no tokenizer in this file"),
        ({"fields": {"tokenizer.ggml.tokens": None}}, "no tokenizer in this file"),
        ({"fields": {"tokenizer.ggml.pre": "martian"}}, "by the rule 'martian'"),
        ({"fields": {"tokenizer.ggml.model": "rwkv"}}, "its tokenizer ('rwkv') can't be converted"),
        ({"fields": {"tokenizer.ggml.merges": ["a b c"]}}, "a merge that is no pair"),
        ({"fields": {"tokenizer.ggml.merges": ["qq zz"]}}, "its tokenizer is damaged"),
        ({"fields": {"tokenizer.chat_template": ""}, "without": ("blk.1.ffn_up.weight",)}, "1 weights are missing"),
        ({"quantized": Types.Q8_K}, "can't be read; get the file in another quantization"),
    ],
)
def test_a_file_that_cannot_be_used_gets_one_clear_line(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(
        gguf,
        "quantize",
        lambda weights, _: np.zeros((weights.shape[0], 292), np.uint8),  # gguf writes no Q8_K
    )
    with pytest.raises(InputError) as caught:
        load_model(str(tiny_gguf(tmp_path / "spoiled.gguf", **change)))
    message = str(caught.value)
    assert words in message and message.startswith("spoiled: ") and "\n" not in message and len(message) < 400
    assert not [path for path in (cache / "gguf").iterdir() if path.suffix != ".lock"]


@pytest.fixture(scope="module")
def folder_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_cut_or_damaged_file_gets_one_clear_line_or_is_read(folder_once: Path, data: Any) -> None:
    path = folder_once / "tiny.gguf"
    whole = tiny_gguf(path).read_bytes()
    if data.draw(st.booleans(), label="cut"):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 64))])
        with pytest.raises(InputError, match="tiny: truncated, damaged or not a GGUF file"):
            read_gguf(path, "tiny")
        return
    at = data.draw(st.integers(0, 20_000))
    path.write_bytes(whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :])
    try:
        read_gguf(path, "tiny")
    except InputError as error:
        assert "\n" not in str(error)


def test_a_folder_with_a_gguf_file_is_told_to_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    tiny_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(InputError, match=r"name the file in it \(tiny.gguf\)"):
        load_model(str(tmp_path))


def test_of_two_who_convert_at_once_the_second_waits(tmp_path: Path, cache: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf")
    made = converted(path, "tiny", torch.float32)
    results: list[Any] = []
    with held(cache / "gguf" / f"{made.folder.name}.lock"):
        waiting = threading.Thread(target=lambda: results.append(converted(path, "tiny", torch.float32)))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive() and not results
    waiting.join(30)
    assert results == [made]


def test_what_a_killed_conversion_left_is_cleared_away(tmp_path: Path, cache: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf")
    made = converted(path, "tiny", torch.float32)
    (made.folder / "gguf.json").unlink()  # as if it had not been whole
    draft = made.folder.with_name(f".{made.folder.name}.draft")
    draft.mkdir()
    (draft / "model.safetensors").write_bytes(b"half")
    assert converted(path, "tiny", torch.float32) == made
    assert not draft.exists() and (made.folder / "gguf.json").is_file()


FULL_DISK = """
import resource, sys, torch
from pathlib import Path
from steergraph.base.errors import InputError
from steergraph.engine.loading.gguf.convert import converted
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    converted(Path(sys.argv[1]), "tiny", torch.float32)
except InputError as error:
    print(error)
"""


def test_a_full_disk_gets_one_clear_line_and_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, env={**os.environ}, timeout=120
    )
    assert done.stdout.startswith(f"tiny: can't be converted into {cache / 'gguf'}: "), done.stderr
    assert done.stdout.count("\n") == 1
    assert not [found for found in (cache / "gguf").iterdir() if found.suffix != ".lock"]


def test_too_little_room_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 10))
    with pytest.raises(InputError, match=r"tiny: 0\.0 GB are needed in .* and 0\.0 are free; make room"):
        load_model(str(tiny_gguf(tmp_path / "tiny.gguf")))
