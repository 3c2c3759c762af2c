"""The term cache's SQLite file against the simplest thing that could hold the same: one file that is only appended to.

    python benchmarks/retrieval_cache.py [--entries 1000] [--bytes 8000] [--runs 7]

Both keep `--entries` values of `--bytes` under blobs' hashes, with a checksum each, and are read back as a new process
would: opened, then asked for all of them. The pack has neither eviction nor a way to remove a damaged record, which the
cache has; its index is read by walking over the records. Interleaved, medians of `--runs`, in milliseconds.
"""

import argparse
import fcntl
import os
import statistics
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from steergraph.retrieval.term_cache import Key, TermCache

_HEAD = struct.Struct("<40sII")


class Pack:
    """Records one after the other: key, length, checksum, value."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put_many(self, entries: Mapping[Key, bytes]) -> None:
        records = (_HEAD.pack(k.blob.encode(), len(v), zlib.crc32(v)) + v for k, v in entries.items())
        with self.path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(b"".join(records))

    def get_many(self, keys: Iterable[Key]) -> dict[Key, bytes]:
        wanted = {key.blob.encode(): key for key in keys}
        found = {}
        with self.path.open("rb") as file:
            while head := file.read(_HEAD.size):
                blob, size, crc = _HEAD.unpack(head)
                if blob not in wanted:
                    file.seek(size, os.SEEK_CUR)
                elif zlib.crc32(value := file.read(size)) == crc:
                    found[wanted[blob]] = value
        return found

    def close(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"entries": 1000, "bytes": 8000, "runs": 7}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    entries = {Key("terms", 1, f"{n:040x}"): os.urandom(arguments.bytes) for n in range(arguments.entries)}
    times: dict[tuple[str, str], list[float]] = {}
    makers: dict[str, Callable[[Path], TermCache | Pack]] = {
        "sqlite": TermCache,
        "pack": lambda folder: Pack(folder / "pack"),
    }
    for _ in range(arguments.runs):
        for name, make in makers.items():
            with tempfile.TemporaryDirectory() as folder:
                for what in ("write", "read"):
                    began = time.perf_counter()
                    cache = make(Path(folder))
                    if what == "write":
                        cache.put_many(entries)
                    else:
                        assert cache.get_many(entries) == entries
                    cache.close()
                    times.setdefault((name, what), []).append((time.perf_counter() - began) * 1000)
    print(f"{arguments.entries} entries of {arguments.bytes} bytes, medians of {arguments.runs}, ms")
    for (name, what), values in times.items():
        print(f"{name:8} {what:6} {statistics.median(values):8.1f}")


if __name__ == "__main__":
    main()
