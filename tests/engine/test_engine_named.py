"""Models with short names: where they are found, that they are the very files, and how one is fetched."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gguf_help import tiny_gguf
from named_help import MEMBER, entry, sha256, use_catalog, wheel_with

from steergraph.base.errors import InputError
from steergraph.engine.loading.models import load_model
from steergraph.engine.loading.named.catalog import cached_file, catalog, place_of
from steergraph.engine.loading.named.fetch import fetch


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STEERGRAPH_MODELS", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    yield tmp_path
    catalog.cache_clear()


@pytest.fixture
def tiny(places: Path) -> bytes:
    return tiny_gguf(places / "made.gguf").read_bytes()


def test_the_packaged_catalog() -> None:
    found = catalog()
    assert {"smollm2", "coder", "qwen3-0.6b", "qwen3-4b"} <= set(found)
    for one in found.values():
        assert one.licence and (one.file or one.hub)
    fetched = found["smollm2"].package
    assert fetched and fetched.member.endswith("SmolLM2-135M-Instruct.Q4_1.gguf")


def test_a_named_model_is_found_in_the_users_folder_first_and_then_in_the_cache(
    places: Path, monkeypatch: pytest.MonkeyPatch, tiny: bytes
) -> None:
    use_catalog(monkeypatch, {"tiny": entry(tiny)})
    with pytest.raises(
        InputError, match=r"^tiny: not on this machine; put tiny\.gguf into the folder that STEERGRAPH_M"
    ):
        load_model("tiny")
    cached_file("tiny").parent.mkdir(parents=True)
    cached_file("tiny").write_bytes(tiny)
    assert place_of("tiny") == (cached_file("tiny"), "the cache")
    loaded = load_model("tiny")
    assert loaded.info.name == "tiny" and loaded.info.file_sha256 == sha256(tiny)
    folder = places / "models"
    folder.mkdir()
    (folder / "tiny.gguf").write_bytes(tiny)
    monkeypatch.setenv("STEERGRAPH_MODELS", str(folder))
    assert place_of("tiny") == (folder / "tiny.gguf", "STEERGRAPH_MODELS")
    monkeypatch.setenv("STEERGRAPH_MODELS", str(folder / "nowhere"))
    with pytest.raises(InputError, match="STEERGRAPH_MODELS: no such folder"):
        load_model("tiny")


def test_another_file_of_that_name_is_refused(places: Path, monkeypatch: pytest.MonkeyPatch, tiny: bytes) -> None:
    use_catalog(monkeypatch, {"tiny": entry(tiny)})
    monkeypatch.setenv("STEERGRAPH_MODELS", str(places))
    (places / "tiny.gguf").write_bytes(tiny[:-1] + b"\1")
    with pytest.raises(InputError, match=r"^tiny: .*tiny\.gguf is not the file of the catalog \(sha256"):
        load_model("tiny")
    (places / "tiny.gguf").write_bytes(tiny[:-1])
    with pytest.raises(InputError, match=r"^tiny: .* bytes, where the catalog's file has"):
        load_model("tiny")


def test_a_file_is_hashed_once(places: Path, monkeypatch: pytest.MonkeyPatch, tiny: bytes) -> None:
    use_catalog(monkeypatch, {"tiny": entry(tiny)})
    monkeypatch.setenv("STEERGRAPH_MODELS", str(places))
    (places / "tiny.gguf").write_bytes(tiny)
    taken: list[Any] = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: (taken.append(given), real(*given))[1])
    for _ in range(3):
        place_of("tiny")
    assert len(taken) == 1
    (places / "tiny.gguf").write_bytes(tiny)  # another time of change
    place_of("tiny")
    assert len(taken) == 2


def test_a_fetched_model_is_one_file_of_a_wheel(places: Path, monkeypatch: pytest.MonkeyPatch, tiny: bytes) -> None:
    use_catalog(monkeypatch, {"tiny": entry(tiny, wheel_with(places, tiny), hub="somebody/tiny")})
    with pytest.raises(
        InputError, match=r"^tiny: not on this machine; steergraph models fetch tiny .*, or use --model so"
    ):
        load_model("tiny")
    said: list[str] = []
    path = fetch("tiny", said.append)
    assert path == cached_file("tiny") and path.read_bytes() == tiny and len(said) == 2
    assert not (places / "ran").exists()
    assert {found.suffix for found in path.parent.iterdir()} == {".gguf", ".lock"}
    monkeypatch.setenv("PIP_FIND_LINKS", str(places / "nowhere"))
    assert fetch("tiny") == path  # nothing is asked for again
    assert load_model("tiny").info.file_sha256 == sha256(tiny)


def _wrong_wheel(table: dict[str, Any]) -> None:
    table["package"]["sha256"] = "0" * 64


def _wrong_file(table: dict[str, Any]) -> None:
    table["file"]["sha256"] = "0" * 64


def _longer_file(table: dict[str, Any]) -> None:
    table["file"]["bytes"] -= 1


def _no_member(table: dict[str, Any]) -> None:
    table["package"]["member"] = "../../etc/passwd"


def _no_such_version(table: dict[str, Any]) -> None:
    table["package"]["version"] = "2.0"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_wrong_wheel, "is not the one of the catalog"),
        (_wrong_file, f"{MEMBER} in tiny_model-1.0-py3-none-any.whl is not the file of the catalog"),
        (_longer_file, "is not the file of the catalog"),
        (_no_member, "can't be taken out of"),
        (_no_such_version, "pip can't download tiny-model 2.0"),
    ],
)
def test_what_is_not_the_catalogs_is_refused_and_nothing_is_kept(
    places: Path, monkeypatch: pytest.MonkeyPatch, tiny: bytes, spoil: Any, words: str
) -> None:
    table = entry(tiny, wheel_with(places, tiny))
    spoil(table)
    use_catalog(monkeypatch, {"tiny": table})
    with pytest.raises(InputError) as caught:
        fetch("tiny")
    message = str(caught.value)
    assert words in message and message.startswith("tiny: ") and "\n" not in message and len(message) < 400
    assert not [path for path in cached_file("tiny").parent.iterdir() if path.suffix != ".lock"]


def test_a_named_model_of_the_hub_that_cannot_be_reached_gets_one_clear_line(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(places))
    with pytest.raises(InputError) as caught:
        load_model("qwen3-0.6b")
    message = str(caught.value)
    assert message.startswith("qwen3-0.6b: no qwen3-0.6b.gguf in STEERGRAPH_MODELS or the cache; Qwen/Qwen3-0.6B: ")
    assert "hub can't be reached" in message and "\n" not in message
