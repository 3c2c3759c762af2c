"""What a GGUF file says of its model: keys, tokens, kinds of tensors. Maps the file; reads no weights.

Knows the container, through the library gguf. Knows nothing of networks or tokenizers.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, LlamaFileType

from steergraph.base.errors import InputError, one_line


class BoundedReader(GGUFReader):
    """gguf's reader, which takes a file's word for its counts and lengths, held to the bytes that are there; and arrays
    are read at one go, where the library takes half a minute for a vocabulary."""

    def _get(self, offset: int, dtype: npt.DTypeLike, count: int = 1, *order: Any, **options: Any) -> npt.NDArray[Any]:
        if int(offset) + np.dtype(dtype).itemsize * int(count) > len(self.data):
            raise ValueError("something reaches beyond its end")
        found: npt.NDArray[Any] = super()._get(offset, dtype, count, *order, **options)
        return found

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> tuple[int, list[Any], list[int], list[GGUFValueType]]:
        if GGUFValueType(raw_type) != GGUFValueType.ARRAY:
            found: tuple[int, list[Any], list[int], list[GGUFValueType]] = super()._get_field_parts(orig_offs, raw_type)
            return found
        kind = GGUFValueType(int(self._get(orig_offs, np.uint32)[0]))
        count, start = int(self._get(orig_offs + 4, np.uint64)[0]), orig_offs + 12
        if kind == GGUFValueType.STRING:
            texts, end = self._texts(start, count)
            return end - orig_offs, [texts], [0], [GGUFValueType.ARRAY, kind]
        if kind not in self.gguf_scalar_to_np:
            raise ValueError(f"an array of {kind.name}")
        values = self._get(start, self.gguf_scalar_to_np[kind], count)
        return 12 + int(values.nbytes), [values], [0], [GGUFValueType.ARRAY, kind]

    def _texts(self, start: int, count: int) -> tuple[list[str], int]:
        if start + 8 * count > len(self.data):
            raise ValueError("something reaches beyond its end")
        data, order = np.asarray(self.data).data, "big" if self.endianess else "little"
        at, texts = start, []
        for _ in range(count):
            size = int.from_bytes(data[at : at + 8], order)  # type: ignore[arg-type]
            if at + 8 + size > len(data):
                raise ValueError("something reaches beyond its end")
            texts.append(str(data[at + 8 : at + 8 + size], "utf-8"))
            at += 8 + size
        return texts, at


@dataclass(frozen=True)
class GGUFFile:
    """A file's metadata."""

    path: Path
    values: Mapping[str, Any]
    """By key; arrays are lists."""
    tensors: Mapping[str, tuple[str, int]]
    """Type and number of weights by name."""

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    def of_model(self, key: str, default: Any = None) -> Any:
        """The value of `ARCHITECTURE.key`."""
        return self.values.get(f"{self.architecture}.{key}", default)

    def of_tokenizer(self, key: str, default: Any = None) -> Any:
        return self.values.get(f"tokenizer.ggml.{key}", default)

    @cached_property
    def parameters(self) -> int:
        return sum(count for _, count in self.tensors.values())

    @cached_property
    def shares(self) -> dict[str, float]:
        """Of each type of tensor the share of all weights, the largest first."""
        counts: Counter[str] = Counter()
        for kind, count in self.tensors.values():
            counts[kind] += count
        return {kind: count / max(self.parameters, 1) for kind, count in counts.most_common()}

    @property
    def quantization(self) -> str:
        """The file's own name for how it is quantized ("Q4_K_M"), else the type of most of its weights."""
        try:
            name = LlamaFileType(self.values["general.file_type"]).name
        except (KeyError, ValueError):
            return next(iter(self.shares), "")
        return name.removeprefix("MOSTLY_").removeprefix("ALL_")


def read_gguf(path: Path, label: str) -> GGUFFile:
    """The metadata of the file at `path`. Raises InputError, one line that begins with `label`."""
    try:
        with np.errstate(over="raise"):  # an offset near 2**64 would come round to the file's beginning
            found = BoundedReader(path)
        if sum(tensor.n_bytes for tensor in found.tensors) > len(found.data):
            raise ValueError("its tensors are larger than the file")
        values = {key: _value(field) for key, field in found.fields.items() if not key.startswith("GGUF.")}
        tensors = {
            tensor.name: (GGMLQuantizationType(tensor.tensor_type).name, int(tensor.n_elements))
            for tensor in found.tensors
        }
    except Exception as error:  # whatever numpy and the reader run into on bytes that mean nothing
        raise InputError(
            f"{label}: truncated, damaged or not a GGUF file ({one_line(str(error), 120)}); get it again"
        ) from error
    return GGUFFile(path, values, tensors)


def _value(field: Any) -> Any:
    if GGUFValueType.ARRAY in field.types:
        values = field.parts[field.data[0]]
        return values if isinstance(values, list) else values.tolist()
    return field.contents()
