"""The SHA-256 of a large file, taken once for as long as it does not change."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from steergraph.base.errors import InputError
from steergraph.base.files import CannotWrite, read_record, write_whole
from steergraph.base.folders import cache_folder


def sha256_of(path: Path, cache_dir: Path | None = None) -> str:
    """The SHA-256 of a file. It is noted with the file's size, inode and time of change, and taken anew when one of
    them is another. Raises InputError where the file can't be read; a cache that can't be written costs time alone."""
    try:
        place = path.resolve()
        found = place.stat()
        note = cache_folder(cache_dir) / "hashes" / f"{hashlib.sha256(str(place).encode()).hexdigest()[:32]}.json"
        state = [found.st_size, found.st_mtime_ns, found.st_ino]
        known = read_record(note) or {}
        if known.get("state") == state and isinstance(known.get("sha256"), str):
            return str(known["sha256"])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path.name}: can't be read: {error.strerror or error}") from error
    with suppress(CannotWrite):
        write_whole(note, json.dumps({"state": state, "sha256": digest}) + "\n", parents=True, durable=False)
    return digest
