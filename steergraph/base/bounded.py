"""A cache in memory up to a number of bytes; the least recently used go first. Safe to use from several threads.

Knows sizes as it is told them. Knows nothing of what the values are.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """At most `most_bytes` of values, by the sizes given with them."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.held = 0
        """Bytes of what is kept now."""
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """Those of `keys` that are here; they count as used."""
        with self._lock:
            found = {key: self._values[key][0] for key in keys if key in self._values}
            for key in found:
                self._values.move_to_end(key)
            return found

    def put(self, key: K, value: V, size: int) -> None:
        """Keep `value`, of `size` bytes, unless there is one for `key`."""
        with self._lock:
            if key in self._values:
                return
            self._values[key] = value, size
            self.held += size
            while self.held > self._most_bytes:
                self.held -= self._values.popitem(last=False)[1][1]
