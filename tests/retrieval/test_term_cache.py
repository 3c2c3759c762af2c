"""The cache on disk: several processes at once, kill -9 at any moment, damage, limits. It never raises at its users."""

import logging
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from steergraph.retrieval.term_cache import Key, TermCache

WRITER = """
import random, sys
from steergraph.retrieval.term_cache import Key, TermCache
folder, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
cache = TermCache(folder)
print("ready", flush=True)
for _ in range(rounds):
    numbers = [chance.randrange(3000) for _ in range(60)]
    cache.put_many({Key("terms", 1, f"{n:040x}"): f"{n} ".encode() * (n % 900 + 1) for n in numbers})
    for key, value in cache.get_many([Key("terms", 1, f"{n:040x}") for n in numbers]).items():
        assert value == f"{int(key.blob, 16)} ".encode() * (int(key.blob, 16) % 900 + 1)
"""


def key(number: int, version: int = 1) -> Key:
    return Key("terms", version, f"{number:040x}")


def start(folder: Path, seed: int, rounds: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(seed), str(rounds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(folder: Path) -> int:
    """How many entries there are; each is whole."""
    with TermCache(folder) as cache:
        found = cache.get_many(key(n) for n in range(3000))
    for entry, value in found.items():
        number = int(entry.blob, 16)
        assert value == f"{number} ".encode() * (number % 900 + 1)
    return len(found)


def test_what_was_put_is_there_for_the_next(tmp_path, caplog):
    with TermCache(tmp_path / "new" / "folder") as cache:
        assert cache.get_many([]) == {} and cache.get_many([key(1)]) == {}
        cache.put_many({key(1): b"one", key(2): b"", Key("more", 1, "x"): b"\0\xff"})
        cache.put_many({})
    cache = TermCache(tmp_path / "new" / "folder")
    assert cache.get_many([key(1), key(2), key(3), Key("more", 1, "x"), key(1)]) == {
        key(1): b"one",
        key(2): b"",
        Key("more", 1, "x"): b"\0\xff",
    }
    cache.put_many({key(1): b"another"})
    assert cache.get_many([key(1)]) == {key(1): b"one"}
    cache.close()
    cache.close()
    assert cache.get_many([key(1)]) == {key(1): b"one"}
    assert not caplog.records


def test_a_new_version_never_reads_what_an_old_one_wrote(tmp_path):
    cache = TermCache(tmp_path)
    cache.put_many({key(1, version=1): b"old"})
    assert cache.get_many([key(1, version=2), Key("pieces", 1, key(1).blob)]) == {}
    cache.put_many({key(1, version=2): b"new"})
    assert cache.get_many([key(1, version=2)]) == {key(1, version=2): b"new"}
    assert cache.get_many([key(1, version=1)]) == {key(1, version=1): b"old"}


def test_thousands_of_entries_at_once(tmp_path):
    entries = {key(n): bytes([n % 256]) * (n % 5000) for n in range(4000)}
    TermCache(tmp_path).put_many(entries)
    assert TermCache(tmp_path).get_many(entries) == entries


def test_the_default_place(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "c"))
    TermCache().put_many({key(1): b"one"})
    assert TermCache(tmp_path / "c" / "terms").get_many([key(1)]) == {key(1): b"one"}


def test_it_is_bounded_and_what_was_used_last_stays(tmp_path, monkeypatch):
    clock = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    cache = TermCache(tmp_path, max_bytes=400_000)
    value = os.urandom(10_000)
    for number in range(100):
        clock[0] += 10_000
        cache.put_many({key(number): value})
        assert cache.get_many([key(0)]), "used again and again"
        assert cache.size() <= 400_000
    kept = {int(k.blob, 16) for k in cache.get_many(key(n) for n in range(100))}
    assert 0 in kept and 99 in kept and 1 not in kept and kept - {0} == set(range(min(kept - {0}), 100))
    assert len(kept) > 20
    cache.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * 400_000
    cache.put_many({key(n): value for n in range(200, 400)})
    assert cache.size() <= 400_000


def test_several_processes_and_threads_write_at_once(tmp_path, caplog):
    writers = [start(tmp_path, seed, 15) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        cache = TermCache(tmp_path)

        def work(number: int) -> int:
            cache.put_many({key(number): f"{number} ".encode() * (number % 900 + 1)})
            return len(cache.get_many([key(number)]))

        assert list(pool.map(work, range(50))) == [1] * 50
    for writer in writers:
        _, err = writer.communicate(timeout=60)
        assert writer.returncode == 0 and not err, err
    assert check(tmp_path) >= 50 and not caplog.records


@pytest.mark.parametrize("seed", range(3))
def test_a_writer_killed_at_any_moment_leaves_whole_entries(tmp_path, seed, caplog):
    chance = random.Random(seed)
    before = 0
    for turn in range(3):
        writer = start(tmp_path, seed * 100 + turn, 10_000)
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(chance.random() * 0.25)
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        found = check(tmp_path)
        assert found >= before
        before = found
    with TermCache(tmp_path) as cache:
        cache.put_many({key(1): b"1 1 "})
        assert cache.get_many([key(1)])
    assert before > 0 and not caplog.records


def test_a_damaged_entry_is_told_and_dropped(tmp_path, caplog):
    value = b"a value that is long enough to be found in the file " * 3
    with TermCache(tmp_path) as cache:
        cache.put_many({key(1): value, key(2): b"whole"})
    (file,) = tmp_path.glob("*.sqlite3")
    file.write_bytes(file.read_bytes().replace(b"long enough", b"LONG enough"))
    cache = TermCache(tmp_path)
    assert cache.get_many([key(1), key(2)]) == {key(2): b"whole"}
    assert "1 damaged" in caplog.text
    cache.put_many({key(1): value})
    assert cache.get_many([key(1)]) == {key(1): value}


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_file_costs_work_and_raises_nothing(tmp_path, seed, caplog):
    entries = {key(n): bytes([n]) * 3000 for n in range(60)}
    with TermCache(tmp_path) as cache:
        cache.put_many(entries)
    (file,) = tmp_path.glob("*.sqlite3")
    content = bytearray(file.read_bytes())
    chance = random.Random(seed)
    if seed == 0:
        content[:] = b"not a database, but long enough to look like one" * 100
    elif seed == 1:
        content = content[: len(content) // 2]
    elif seed == 2:
        content = bytearray(100)
    else:
        for _ in range(200):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    with TermCache(tmp_path) as cache:
        for _ in range(3):
            found = cache.get_many(entries)
            assert found.items() <= entries.items()
            cache.put_many(entries)
        # An entry that a bent index hides for good is only worked out again each time; a wrong one would be worse.
        assert len(cache.get_many(entries)) > 50
    assert caplog.records
    caplog.clear()
    found = TermCache(tmp_path).get_many(entries)
    assert len(found) > 50 and found.items() <= entries.items() and not caplog.records


def test_a_damaged_file_of_long_ago_is_removed(tmp_path):
    for number in (1, 2):
        (tmp_path / f"terms-1-{number:06d}.sqlite3").write_bytes(b"no" * 600)
    os.utime(tmp_path / "terms-1-000001.sqlite3", (0, 0))
    cache = TermCache(tmp_path)
    cache.put_many({key(1): b"one"})
    cache.put_many({key(1): b"one"})
    assert cache.get_many([key(1)]) == {key(1): b"one"}
    assert [file.name for file in sorted(tmp_path.glob("*.sqlite3"))] == [
        "terms-1-000002.sqlite3",
        "terms-1-000003.sqlite3",
    ]


def test_without_a_place_there_is_no_cache_and_no_error(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with TermCache(tmp_path / "file" / "folder") as cache:
        cache.put_many({key(1): b"one"})
        assert cache.get_many([key(1)]) == {} and cache.size() == 0
    assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.WARNING


def test_a_file_of_another_shape_is_left_behind(tmp_path, caplog):
    import sqlite3

    with sqlite3.connect(tmp_path / "terms-1-000001.sqlite3") as connection:
        connection.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, other TEXT)")
    cache = TermCache(tmp_path)
    for _ in range(2):
        cache.put_many({key(1): b"one"})
    assert cache.get_many([key(1)]) == {key(1): b"one"}
    assert len(caplog.records) == 1


def test_after_a_fork_both_sides_go_on(tmp_path):
    cache = TermCache(tmp_path)
    cache.put_many({key(1): b"one"})
    child = os.fork()
    if child == 0:
        ok = cache.get_many([key(1)]) == {key(1): b"one"}
        cache.put_many({key(2): b"two"})
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    cache.put_many({key(3): b"three"})
    assert len(cache.get_many(key(n) for n in range(5))) == 3
