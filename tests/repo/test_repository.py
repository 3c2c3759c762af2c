"""Opening repositories, meaning commits, reading odd files, and working copies that know one commit alone."""

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from git_repos import add_commit, git, make_bundle, make_repository, snapshot

from steergraph.base.errors import InputError
from steergraph.repo.contents import MAX_TEXT_BYTES
from steergraph.repo.git import GitError
from steergraph.repo.repository import Repository

ODD = {
    "plain.py": "x = 1\n",
    "crlf.py": b"a = 1\r\nb = 2\r\n",
    "cr.py": b"a = 1\rb = 2\r",
    "bom.py": b"\xef\xbb\xbfx = 1\n",
    "binary.dat": b"\x00\x01\x02",
    "latin.py": "# caf\xe9\n".encode("latin-1"),
    "big.py": b"#" * (MAX_TEXT_BYTES + 1),
    "just.py": b"#" * MAX_TEXT_BYTES,
    "lfs.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "empty.py": "",
    "a folder/na me é\u4e2d.py": "y = 2\n",
    'quo"te\t\n.py': "z = 3\n",
    "-dash.py": "d = 1\n",
    ":(glob)*.py": "e = 1\n",
}


@pytest.fixture
def odd(tmp_path):
    where = tmp_path / "odd"
    make_repository(where, ODD)
    (where / "inside.py").symlink_to("plain.py")
    (where / "outside").symlink_to("/etc/passwd")
    (where / "a folder" / "up").symlink_to("../../..")
    (where / "a folder" / "root").symlink_to("..")
    (where / "sneaky").symlink_to("a folder/root/../x")
    (where / "gitdir").symlink_to(".git/config")
    (where / "loop").symlink_to("loop")
    (where / "run.sh").write_text("#!/bin/sh\n")
    (where / "run.sh").chmod(0o755)
    git(where, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    git(where, "add", "-A", "--", "inside.py", "outside", "a folder", "sneaky", "gitdir", "loop", "run.sh")
    git(where, "commit", "-q", "-m", "links")
    return where


def test_odd_files_are_read_or_told_why_not(odd):
    repository = Repository.open(odd)
    sha = repository.resolve()
    read = {path: repository.read(sha, path) for path in [*ODD, "inside.py", "sub", "none.py"]}
    for path in ("plain.py", "crlf.py", "cr.py", "bom.py", "just.py", "empty.py", 'quo"te\t\n.py', "-dash.py"):
        assert (read[path].text or "").encode() == (ODD[path].encode() if isinstance(ODD[path], str) else ODD[path])
        assert read[path].reason is None
    assert read["a folder/na me é\u4e2d.py"].text == "y = 2\n" and read[":(glob)*.py"].text == "e = 1\n"
    why = {path: found.reason for path, found in read.items() if found.text is None}
    assert why == {
        "binary.dat": "binary",
        "latin.py": "not UTF-8",
        "big.py": "larger than 1,000,000 bytes",
        "lfs.bin": "a Git LFS pointer: its content is not in the repository",
        "inside.py": "a symlink",
        "sub": "a submodule",
        "none.py": "no such file",
    }
    assert list(repository.read_many(sha, ["plain.py", "none.py", "crlf.py"])) == [
        read["plain.py"],
        read["none.py"],
        read["crlf.py"],
    ]
    entries = {entry.path: entry for entry in repository.files(sha)}
    assert (entries["sub"].kind, entries["outside"].kind, entries["run.sh"].mode) == ("submodule", "symlink", "100755")
    assert entries["crlf.py"].size == 14 and list(entries) == sorted(entries)
    assert (
        repository.read_bytes(sha, "big.py") == ODD["big.py"]
        and repository.read_bytes(sha, "latin.py") == ODD["latin.py"]
    )
    assert repository.read_bytes(sha, "none.py") is None and repository.read_bytes(sha, "outside") is None
    json.dumps([entry.model_dump() for entry in entries.values()])


def test_a_name_that_is_not_utf8_is_left_out(tmp_path):
    where = tmp_path / "r"
    make_repository(where, {"a.py": "1"})
    os.close(os.open(os.fsencode(where) + b"/caf\xe9.py", os.O_CREAT | os.O_WRONLY))
    add_commit(where, {})
    repository = Repository.open(where)
    assert [entry.path for entry in repository.files(repository.resolve())] == ["a.py"]
    with repository.working_copy("HEAD", tmp_path / "copy") as copy:
        assert copy.git("status", "--porcelain") == b""


def test_a_working_copy_of_odd_files(odd, tmp_path):
    repository = Repository.open(odd)
    with repository.working_copy("HEAD", tmp_path / "copy") as copy:
        for path, content in ODD.items():
            assert (copy.path / path).read_bytes() == (content.encode() if isinstance(content, str) else content)
        assert (copy.path / "inside.py").readlink() == Path("plain.py")
        assert (copy.path / "a folder" / "root").is_symlink()
        assert copy.neutralised == ("a folder/up", "gitdir", "outside", "sneaky")
        for path in copy.neutralised:
            assert not (copy.path / path).is_symlink()
        assert (copy.path / "outside").read_text() == "/etc/passwd"
        assert (copy.path / "sub").is_dir() and not any((copy.path / "sub").iterdir())
        assert os.access(copy.path / "run.sh", os.X_OK)
        assert copy.git("status", "--porcelain") == b""
        folder = copy.path
    assert not folder.exists()


def test_a_working_copy_knows_one_commit_alone(tmp_path):
    where = tmp_path / "r"
    first, base, later = make_repository(
        where,
        {"a.py": "one\n", "old.py": "old\n"},
        {"a.py": "two\n", "old.py": None},
        {"a.py": "three\n", "new.py": "n\n"},
    )
    git(where, "tag", "-a", "-m", "t", "v1", base)
    git(where, "branch", "side", first)
    before = snapshot(where)
    with Repository.open(where) as repository, repository.working_copy(base, tmp_path / "copy") as copy:
        assert (copy.base, copy.git("rev-parse", "HEAD").decode().strip()) == (base, base)
        for unknown in (first, later, git(where, "rev-parse", f"{later}:new.py"), git(where, "rev-parse", "v1")):
            with pytest.raises(GitError):
                copy.git("cat-file", "-e", unknown)
        wanted = {line.split()[0] for line in git(where, "rev-list", "--objects", "--no-walk", base).splitlines()}
        held = copy.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", "--unordered")
        assert set(held.decode().split()) == wanted
        assert copy.git("for-each-ref") == b"" and copy.git("remote") == b"" and copy.git("reflog") == b""
        assert copy.git("log", "--format=%H", "--all", "HEAD").decode().split() == [base]
        assert not (copy.path / ".git" / "objects" / "info" / "alternates").exists()
        assert not (copy.path / ".git" / "FETCH_HEAD").exists() and not (copy.path / ".git" / "hooks").exists()
        assert str(where).encode() not in b"".join(
            p.read_bytes() for p in (copy.path / ".git").rglob("*") if p.is_file()
        )
        with pytest.raises(GitError):
            copy.git("fetch", str(where))
        (copy.path / "a.py").write_text("edited\n")
        assert b"+edited" in copy.git("diff")
        copy.path.joinpath("locked").mkdir()
        copy.path.joinpath("locked", "f").write_text("")
        copy.path.joinpath("locked").chmod(0o500)
    assert not (tmp_path / "copy").exists()
    assert snapshot(where) == before


def test_a_working_copy_wants_a_new_folder(tmp_path):
    make_repository(tmp_path / "r", {"a": "1"})
    repository = Repository.open(tmp_path / "r")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep")
    for into in (tmp_path / "full", tmp_path / "full" / "mine"):
        with pytest.raises(InputError, match="new or empty"):
            repository.working_copy("HEAD", into)
    assert (tmp_path / "full" / "mine").read_text() == "keep"
    with pytest.raises(InputError, match="no commit"):
        repository.working_copy("0" * 40, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_resolve(tmp_path):
    where = tmp_path / "r"
    first, second = make_repository(where, {"a": "1"}, {"a": "2"})
    git(where, "tag", "-a", "-m", "t", "v1", first)
    git(where, "branch", "føø/bar", first)
    git(where, "pack-refs", "--all")
    git(where, "branch", "loose", first)
    repository = Repository.open(str(where))
    assert repository.resolve() == repository.resolve("HEAD") == repository.resolve("main") == second
    for name in (first, first[:8], first.upper(), "HEAD~1", "v1", "føø/bar", "loose", " v1 ", "refs/tags/v1", "HEAD^"):
        assert repository.resolve(name) == first
    third = add_commit(where, {"a": "3"})
    assert (repository.resolve(), repository.resolve(third), repository.resolve("main~1")) == (third, third, second)


BAD_COMMITS = {
    "": "empty",
    "  ": "empty",
    "-": "cannot start",
    "--upload-pack=x": "cannot start",
    "-h": "cannot start",
    "nowhere": "no commit nowhere",
    "0" * 40: "no commit 0000",
    "dead": "no commit dead",
    "a b": "not the name",
    "HEAD\nx": "not the name",
    "HEAD..main": "not the name",
    "HEAD:a": "not the name",
    ":/one": "not the name",
    "HEAD^{/x}": "no commit",
    "@{-1}": "no commit",
    "x" * 300: "not the name",
}


@pytest.mark.parametrize("commit", BAD_COMMITS)
def test_bad_commits_are_one_line(commit, tmp_path):
    make_repository(tmp_path / "r", {"a": "1"})
    with pytest.raises(InputError, match=BAD_COMMITS[commit]) as caught:
        Repository.open(tmp_path / "r").resolve(commit)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_an_id_of_a_tree_or_blob_is_no_commit(tmp_path):
    where = tmp_path / "r"
    make_repository(where, {"a": "1"})
    repository = Repository.open(where)
    for name in ("HEAD:a", "HEAD^{tree}"):
        with pytest.raises(InputError, match="no commit"):
            repository.resolve(git(where, "rev-parse", name))


def test_an_ambiguous_id(tmp_path):
    where = tmp_path / "r"
    make_repository(where, {"a": "1"})
    seen: dict[str, str] = {}
    stream = "".join(f"commit refs/heads/x\ncommitter A <a@b> {n} +0000\ndata 0\n" for n in range(1, 600))
    git(where, "fast-import", "--quiet", "--force", input=stream.encode())
    for sha in git(where, "rev-list", "--all").split():
        if sha[:4] in seen:
            break
        seen[sha[:4]] = sha
    else:
        pytest.skip("no two ids start alike")
    with pytest.raises(InputError, match="ambiguous"):
        Repository.open(where).resolve(sha[:4])


def test_not_a_repository(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "pointer").mkdir()
    (tmp_path / "pointer" / ".git").write_text("gitdir: /nowhere\n")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / ".git").write_text("hello")
    make_repository(tmp_path / "real", {"sub/a": "1"})
    for name in ("folder", "file", "pointer", "broken", "real/sub"):
        with pytest.raises(InputError, match=r"not a (git )?repository"):
            Repository.open(tmp_path / name, cache_dir=tmp_path / "cache")
    cut = tmp_path / "cut.bundle"
    cut.write_bytes(make_bundle(tmp_path / "real", tmp_path / "b.bundle").read_bytes()[:-30])
    with pytest.raises(InputError, match=r"cut\.bundle"):
        Repository.open(cut, cache_dir=tmp_path / "cache")
    assert [p.suffix for p in (tmp_path / "cache" / "mirrors").iterdir()] == [".lock"]


def test_an_empty_repository(tmp_path):
    where = tmp_path / "r"
    where.mkdir()
    git(where, "init", "-q")
    with pytest.raises(InputError, match="empty: it has no commit"):
        Repository.open(where)


def test_a_shallow_repository_that_lacks_the_commit(tmp_path):
    first, second = make_repository(tmp_path / "r", {"a": "1"}, {"a": "2"})
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{tmp_path / 'r'}", "shallow")
    repository = Repository.open(tmp_path / "shallow")
    assert repository.resolve() == second
    with pytest.raises(InputError, match="shallow"):
        repository.resolve(first)
    with repository.working_copy(second, tmp_path / "copy") as copy:
        assert (copy.path / "a").read_text() == "2"


def test_borrowed_objects_and_linked_work_trees(tmp_path):
    _, second = make_repository(tmp_path / "r", {"a": "1"}, {"a": "2"})
    git(tmp_path, "clone", "-q", "--shared", "r", "middle")
    git(tmp_path, "clone", "-q", "--shared", "middle", "far")
    assert Repository.open(tmp_path / "far").read_text(second, "a") == "2"
    git(tmp_path / "r", "worktree", "add", "-q", "--detach", str(tmp_path / "linked"), "HEAD~1")
    repository = Repository.open(tmp_path / "linked")
    assert repository.read_text(repository.resolve(), "a") == "1" and repository.resolve("main") == second


def test_a_strange_place_and_sha256(tmp_path):
    where = tmp_path / 'a "strange" #place\\é'
    sha = make_repository(where, {"a": "1"}, options=("--object-format=sha256",))[-1]
    repository = Repository.open(where)
    assert len(sha) == 64 and repository.read_text(repository.resolve(), "a") == "1"
    with repository.working_copy(sha, tmp_path / "copy") as copy:
        assert (copy.path / "a").read_text() == "1"


def test_closing_removes_the_view(tmp_path):
    make_repository(tmp_path / "r", {"a": "1"})
    repository = Repository.open(tmp_path / "r")
    view = repository.git_dir.parent
    assert view.is_dir()
    repository.close()
    repository.close()
    assert not view.exists() and (tmp_path / "r" / ".git").is_dir()


def test_a_bundle_is_mirrored_once_and_again_when_it_changed(tmp_path, monkeypatch):
    where = tmp_path / "r"
    (first,) = make_repository(where, {"a": "1"})
    bundle = make_bundle(where, tmp_path / "x.bundle")
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    opened = Repository.open(bundle)
    assert opened.resolve() == first and opened.git_dir.parent == tmp_path / "cache" / "mirrors"
    config = (opened.git_dir / "config").read_text()
    assert "remote" not in config and str(bundle) not in config
    mark = opened.git_dir / "mark"
    mark.touch()
    assert Repository.open(bundle).git_dir == opened.git_dir and mark.exists()
    second = add_commit(where, {"a": "2"})
    make_bundle(where, bundle)
    again = Repository.open(bundle)
    assert again.resolve() == second and mark.exists() and again.resolve("HEAD~1") == first
    with again.working_copy(first, tmp_path / "copy") as copy, pytest.raises(GitError):
        copy.git("cat-file", "-e", second)


def test_mirrors_made_at_once_are_one(tmp_path):
    make_repository(tmp_path / "r", {"a": "1"})
    bundle = make_bundle(tmp_path / "r", tmp_path / "x.bundle")
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: Repository.open(bundle, cache_dir=tmp_path / "c").git_dir, range(4)))
    assert len(found) == 1
    assert {p.suffix for p in (tmp_path / "c" / "mirrors").iterdir()} == {".git", ".lock"}


def test_the_cache_folder(tmp_path, monkeypatch):
    from steergraph.base.folders import cache_folder

    for name in ("STEERGRAPH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "steergraph"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "steergraph"
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "s"))
    assert cache_folder() == tmp_path / "s" and cache_folder("y") == Path("y")
    (tmp_path / "s").write_text("a file")
    make_repository(tmp_path / "r", {"a": "1"})
    with pytest.raises(InputError, match="cannot keep a mirror"):
        Repository.open(make_bundle(tmp_path / "r", tmp_path / "x.bundle"))


@pytest.mark.slow
def test_a_url_is_mirrored_and_refreshed(tmp_path):
    """Over git's own server: what is missing is fetched, a commit without a branch too; a server gone is no error."""
    where = tmp_path / "served" / "r"
    (first,) = make_repository(where, {"a": "1"})
    git(where, "config", "uploadpack.allowAnySHA1InWant", "true")
    server = subprocess.Popen(
        ["git", "daemon", "--export-all", "--listen=127.0.0.1", "--port=0", "--verbose", f"--base-path={where.parent}"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stderr is not None
        port = _port_of(server)
        url = f"git://127.0.0.1:{port}/r"
        repository = Repository.open(url, cache_dir=tmp_path / "cache")
        assert repository.source == url and repository.resolve() == first
        assert repository.read_text(first, "a") == "1"
        second = add_commit(where, {"a": "2"})
        assert Repository.open(url, cache_dir=tmp_path / "cache").resolve(second) == second
        assert Repository.open(url, cache_dir=tmp_path / "cache").resolve() == second
        lonely = git(where, "commit-tree", "-m", "lonely", "HEAD^{tree}")
        assert Repository.open(url, cache_dir=tmp_path / "cache").resolve(lonely) == lonely
        with pytest.raises(InputError, match="no commit"):
            Repository.open(url, cache_dir=tmp_path / "cache").resolve("1" * 40)
        with pytest.raises(InputError, match="nothing-here"):
            Repository.open(url + "/nothing-here", cache_dir=tmp_path / "cache")
    finally:
        os.killpg(server.pid, 15)
        server.wait()
    assert Repository.open(url, cache_dir=tmp_path / "cache").resolve() == second


def _port_of(server: subprocess.Popen[str]) -> int:
    """The port that the system chose, from the process's own sockets."""
    import time

    for _ in range(100):
        inodes = set()
        for child in [server.pid, *_children(server.pid)]:
            for link in Path(f"/proc/{child}/fd").glob("*"):
                if found := re.match(r"socket:\[(\d+)\]", str(link.readlink()) if link.is_symlink() else ""):
                    inodes.add(found[1])
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and fields[3] == "0A":
                return int(fields[1].split(":")[1], 16)
        time.sleep(0.1)
    pytest.skip("git daemon does not listen here")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
