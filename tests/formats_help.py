"""Other programs' vector files as they write them, and files that are refused."""

from pathlib import Path
from typing import Any

import gguf as oracle
import pytest
import torch

from steergraph.base.errors import InputError
from steergraph.vectors.formats import read_vectors


def build(path: Path, tensors: dict[str, torch.Tensor], **texts: str) -> None:
    """A control-vector file by the library's own writer."""
    writer = oracle.GGUFWriter(path, "controlvector")
    for name, text in texts.items():
        writer.add_string(name, text)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def refused(path: Path, *words: str, **how: Any) -> None:
    with pytest.raises(InputError) as caught:
        read_vectors(path, **how)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    for word in words:
        assert word in message
