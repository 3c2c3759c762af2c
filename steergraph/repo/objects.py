"""Blobs' bytes out of a repository's object database, streamed from processes of git that stay open, and kept a while.

Knows `git cat-file --batch` and how to give up on it. Knows nothing of trees, paths or text. What was read lately is
kept up to a number of bytes, so that issues of one repository, whose commits share most blobs, read each blob once.
"""

import os
import select
import tempfile
import weakref
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

from steergraph.base.errors import InputError
from steergraph.repo.git import TIMEOUT_S, GitError, kill_git, last_words, run_git, start_git

KEPT_BYTES = 32_000_000
_WINDOW = 400  # requests under way; at 65 bytes each they fit the pipe, so that neither side can block the other
_IDLE = 2
_CHUNK = 1 << 18
_NAMED = 3


class ObjectReader:
    """Reads blobs of the repository of ours at `git_dir`. Safe to use from several threads, and after a fork."""

    def __init__(self, git_dir: Path, kept_bytes: int = KEPT_BYTES) -> None:
        self.fetched = 0
        """How many blobs git was asked for so far; those that were still at hand do not count."""
        self._git_dir = git_dir
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._held = 0
        self._idle: list[_CatFile] = []
        self._lock = Lock()
        self._finalizer = weakref.finalize(self, _end, self._idle)

    def read(self, blobs: Sequence[str], keep: bool = True) -> Iterator[bytes]:
        """The bytes of `blobs`, in their order, one at a time. Raises InputError naming those that are missing.

        `keep` says whether what had to be fetched may be asked for again soon.
        """
        wanted = Counter(blobs)
        with self._lock:
            at_hand = {blob: self._kept[blob] for blob in wanted if blob in self._kept}
            for blob in at_hand:
                self._kept.move_to_end(blob)
            self.fetched += len(wanted) - len(at_hand)
        fetched = self._fetch([blob for blob in wanted if blob not in at_hand])
        for blob in blobs:
            if blob not in at_hand:
                at_hand[blob] = next(fetched)
                if keep:
                    self._keep(blob, at_hand[blob])
            wanted[blob] -= 1
            yield at_hand[blob] if wanted[blob] else at_hand.pop(blob)

    def close(self) -> None:
        """End the processes. It can be read from again after it. Idempotent."""
        with self._lock:
            _end(self._idle)

    def _fetch(self, blobs: Sequence[str]) -> Iterator[bytes]:
        if not blobs:
            return
        process = self._take()
        done = False
        try:
            for number, data in enumerate(process.read(blobs), 1):
                if data is None:
                    raise self._missing(blobs[number - 1 :])
                if number == len(blobs):  # given back before the last one is handed on: nobody may ask for more
                    done = True
                    self._give(process)
                yield data
        finally:
            if not done:
                process.end()

    def _take(self) -> "_CatFile":
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.is_usable():
                    return process
        return _CatFile(self._git_dir)

    def _give(self, process: "_CatFile") -> None:
        with self._lock:
            if len(self._idle) < _IDLE and self._finalizer.alive:
                self._idle.append(process)
                return
        process.end()

    def _keep(self, blob: str, data: bytes) -> None:
        with self._lock:
            if blob in self._kept or len(data) > self._kept_bytes // 4:
                return
            self._kept[blob] = data
            self._held += len(data)
            while self._held > self._kept_bytes:
                self._held -= len(self._kept.popitem(last=False)[1])

    def _missing(self, rest: Sequence[str]) -> InputError:
        said = run_git(["cat-file", "--batch-check"], self._git_dir, "\n".join([*rest, ""]).encode("ascii"))
        missing = [line.split()[0] for line in said.decode("ascii", "replace").splitlines() if " blob " not in line]
        return missing_objects(missing) or GitError(f"git cat-file: {rest[0]} is no blob that can be read")


def find_missing(git_dir: Path, sha: str) -> list[str]:
    """The ids of the trees and blobs of commit `sha` that the repository at `git_dir` lacks, as far as it can tell."""
    try:
        said = run_git(["rev-list", "--objects", "--no-walk", "--missing=print", sha], git_dir)
    except GitError:
        return []
    return sorted(line[1:].split()[0] for line in said.decode("utf-8", "replace").splitlines() if line.startswith("?"))


def missing_objects(names: Sequence[str]) -> GitError | None:
    """The one line that names the objects which a repository lacks; None where it lacks none."""
    if not names:
        return None
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    what = "the object {} is" if len(names) == 1 else "the objects {} are"
    return GitError(
        f"{what.format(', '.join(names[:_NAMED]) + more)} missing from the repository: "
        "fetch the rest of it (a partial or damaged clone?)"
    )


class _CatFile:
    """One process of `git cat-file --batch`. Used by one reader at a time."""

    def __init__(self, git_dir: Path) -> None:
        self._words = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = start_git(["cat-file", "--batch"], git_dir, self._words)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)
        self._buffer = bytearray()
        self._at = 0
        self._owner = os.getpid()

    def is_usable(self) -> bool:
        """Not after a fork: the answers would be the other side's."""
        return self._owner == os.getpid() and self._process.poll() is None

    def read(self, blobs: Sequence[str]) -> Iterator[bytes | None]:
        """The bytes of each of `blobs`; None for one that is missing or no blob."""
        sent = 0
        for number in range(len(blobs)):
            if sent < len(blobs) and sent - number <= _WINDOW // 2:
                some = blobs[sent : number + _WINDOW]
                self._send("\n".join([*some, ""]).encode("ascii"))
                sent += len(some)
            header = self._until_newline().split()
            if len(header) != 3 or not header[2].isdigit():
                yield None
                continue
            data = self._take(int(header[2]) + 1)[:-1]
            yield data if header[1] == b"blob" else None

    def end(self) -> None:
        if self._owner != os.getpid():
            return
        kill_git(self._process)
        self._words.close()

    def _send(self, asked: bytes) -> None:
        try:
            self._stdin.write(asked)
            self._stdin.flush()
        except OSError as error:
            raise self._broken() from error

    def _until_newline(self) -> bytes:
        while (end := self._buffer.find(b"\n", self._at)) < 0:
            self._fill()
        return self._take(end + 1 - self._at)[:-1]

    def _take(self, size: int) -> bytes:
        while len(self._buffer) - self._at < size:
            self._fill()
        taken = bytes(memoryview(self._buffer)[self._at : self._at + size])
        self._at += size
        if self._at > _CHUNK:
            del self._buffer[: self._at]
            self._at = 0
        return taken

    def _fill(self) -> None:
        if not self._poll.poll(TIMEOUT_S * 1000):
            raise GitError(f"git cat-file: gave no answer for {TIMEOUT_S:g} s and was stopped")
        data = os.read(self._stdout.fileno(), _CHUNK)
        if not data:
            raise self._broken()
        self._buffer += data

    def _broken(self) -> GitError:
        self._words.seek(0)
        return GitError(f"git cat-file: {last_words(self._words.read(10_000))}")


def _end(idle: list[_CatFile]) -> None:
    while idle:
        idle.pop().end()
