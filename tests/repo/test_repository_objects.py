"""Reading from the object database: streams that end anywhere, each blob once, and what is missing named."""

import gc
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from git_repos import add_commit, git, make_bundle, make_repository

from steergraph.base.errors import InputError
from steergraph.repo.git import GitError
from steergraph.repo.objects import ObjectReader
from steergraph.repo.repository import Repository


def hashes(where: Path, commit: str = "HEAD") -> dict[str, str]:
    lines = git(where, "ls-tree", "-r", commit).splitlines()
    return {line.partition("\t")[2]: line.split()[2] for line in lines}


def remove_object(where: Path, name: str) -> None:
    (where / ".git" / "objects" / name[:2] / name[2:]).unlink()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """More blobs than go to git in one piece, of sizes around the buffer's. Read only."""
    where = tmp_path_factory.mktemp("many") / "r"
    files = {f"f{n}": b"%d\n" % n * (n % 50) for n in range(600)}
    files |= {f"big{n}": os.urandom(size) for n, size in enumerate((2**18 - 1, 2**18, 2**18 + 1, 3_000_000, 1, 0))}
    make_repository(where, files)
    return where, files, hashes(where)


def test_blobs_come_in_the_order_asked_for(many):
    where, files, names = many
    reader = ObjectReader(where / ".git", kept_bytes=100_000)
    asked = [*names, *reversed(names), "f3", "f3"]
    for path, data in zip(asked, reader.read([names[path] for path in asked]), strict=True):
        assert data == files[path]
    assert list(reader.read([])) == []


def test_a_stream_that_is_left_or_mixed_with_another_disturbs_none(many):
    where, files, names = many
    reader = ObjectReader(where / ".git", kept_bytes=0)
    blobs = list(names.values())
    first, second = reader.read(blobs), reader.read(blobs[::-1])
    for forward, backward in zip(list(names)[:450], list(names)[:-450:-1], strict=False):
        assert (next(first), next(second)) == (files[forward], files[backward])
    first.close()
    del second
    gc.collect()
    assert next(reader.read(blobs)) == files[next(iter(names))]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: list(reader.read(blobs)), range(8)):
            assert found == [files[path] for path in names]
    reader.close()
    reader.close()
    assert next(reader.read(blobs[5:6])) == files[list(names)[5]]


def test_one_process_serves_one_read_after_the_other(many, monkeypatch):
    from steergraph.repo import objects

    where, _, names = many
    started = []
    monkeypatch.setattr(objects, "start_git", lambda *args, real=objects.start_git: started.append(1) or real(*args))
    reader = ObjectReader(where / ".git")
    for name in list(names.values())[:20]:
        next(reader.read([name]))
    list(reader.read(list(names.values())))
    assert len(started) == 1
    os.kill(reader._idle[0]._process.pid, 9)
    reader._idle[0]._process.wait()
    small = ObjectReader(where / ".git", kept_bytes=0)
    small._idle.extend(reader._idle)
    assert next(small.read([names["f7"]])) == b"7\n" * 7, "a process that died is replaced"


def test_after_a_fork_the_child_reads_by_itself(many):
    where, files, names = many
    reader = ObjectReader(where / ".git", kept_bytes=0)
    next(reader.read([names["f1"]]))
    child = os.fork()
    if child == 0:
        ok = next(reader.read([names["f2"]])) == files["f2"]
        os._exit(0 if ok else 1)
    assert next(reader.read([names["f3"]])) == files["f3"]
    assert os.waitpid(child, 0)[1] == 0
    assert next(reader.read([names["f4"]])) == files["f4"]


def test_missing_blobs_are_named(tmp_path):
    where = tmp_path / "r"
    make_repository(where, {f"f{n}": f"{n}\n" for n in range(20)})
    names = hashes(where)
    for path in ("f7", "f16"):
        remove_object(where, names[path])
    with pytest.raises(GitError) as caught:
        list(ObjectReader(where / ".git").read(list(names.values())))
    said = str(caught.value)
    assert names["f7"] in said and names["f16"] in said and "missing" in said and "\n" not in said
    for path in ("f1", "f2", "f3"):
        remove_object(where, names[path])
    with pytest.raises(GitError, match="and 2 more are missing"):
        list(ObjectReader(where / ".git").read(list(names.values())))


def test_a_damaged_object_is_one_line(tmp_path):
    where = tmp_path / "r"
    make_repository(where, {"a": "a\n" * 100, "b": "b\n"})
    name = hashes(where)["a"]
    file = where / ".git" / "objects" / name[:2] / name[2:]
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-8] + b"damage!!")
    repository = Repository.open(where)
    with pytest.raises(InputError, match="git cat-file") as caught:
        repository.read_bytes(repository.resolve(), "a")
    assert "\n" not in str(caught.value)
    assert repository.read_bytes(repository.resolve(), "b") == b"b\n"


@pytest.mark.parametrize("what", ["HEAD^{tree}", "HEAD:folder", "HEAD:folder/b.py"])
def test_a_commit_with_missing_objects_names_them(tmp_path, what):
    where = tmp_path / "r"
    make_repository(where, {"a.py": "x = 1\n", "folder/b.py": "y = 1\n"})
    name = git(where, "rev-parse", what)
    remove_object(where, name)
    repository = Repository.open(where)
    with pytest.raises(InputError, match=rf"{name} is missing") as caught:
        repository.working_copy("HEAD", tmp_path / "copy")
    assert "\n" not in str(caught.value) and not (tmp_path / "copy").exists()
    if not what.endswith(".py"):
        with pytest.raises(InputError, match=rf"{name} is missing"):
            repository.files(repository.resolve())


def test_a_partial_clone_is_told_what_it_lacks(tmp_path):
    where = tmp_path / "r"
    make_repository(where, {"a.py": "x = 1\n"}, {"a.py": "x = 2\n"})
    git(where, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--filter=blob:none", f"file://{where}", "partial")
    repository = Repository.open(tmp_path / "partial")
    assert repository.read_text(repository.resolve(), "a.py") == "x = 2\n"
    before = repository.resolve("HEAD~1")
    assert "partial clone" in (repository.read(before, "a.py").reason or "")
    with pytest.raises(InputError, match=f"{hashes(where, before)['a.py']} is missing"):
        repository.working_copy(before, tmp_path / "copy")


def test_a_sparse_checkout_is_read_whole(tmp_path):
    where = tmp_path / "r"
    (sha,) = make_repository(where, {"in/a.py": "x = 1\n", "out/b.py": "y = 1\n"})
    git(tmp_path, "clone", "-q", "--sparse", "r", "sparse")
    git(tmp_path / "sparse", "sparse-checkout", "set", "in")
    assert not (tmp_path / "sparse" / "out").exists()
    with Repository.open(tmp_path / "sparse") as repository:
        assert repository.read_text(sha, "out/b.py") == "y = 1\n"
        with repository.working_copy(sha, tmp_path / "copy") as copy:
            assert (copy.path / "out" / "b.py").is_file() and copy.git("status", "--porcelain") == b""


def test_gitpython_reads_the_same_commits_trees_and_blobs(tmp_path):
    where = tmp_path / "r"
    first, second = make_repository(where, {"a.py": "x = 1\n", "folder/b.py": "y = 1\n"}, {"folder/b.py": "y = 2\n"})
    with Repository.open(where) as repository:
        commit = repository.repo.commit("main")
        assert (commit.hexsha, commit.message, [parent.hexsha for parent in commit.parents]) == (
            second,
            "commit 2\n",
            [first],
        )
        blobs = [item for item in commit.tree.traverse() if item.type == "blob"]
        assert {(item.path, item.hexsha, item.size) for item in blobs} == {
            (entry.path, entry.blob, entry.size) for entry in repository.files(second)
        }
        assert (commit.tree / "folder/b.py").data_stream.read() == b"y = 2\n"
        assert repository.repo.commit(first[:8]).tree["folder"]["b.py"].data_stream.read() == b"y = 1\n"
        assert [each.hexsha for each in repository.repo.iter_commits("main")] == [second, first]
        with ThreadPoolExecutor(4) as pool:
            read = pool.map(
                lambda _: [item.data_stream.read() for item in repository.repo.commit(first).tree.blobs], "abcdef"
            )
        assert list(read) == [[b"x = 1\n"]] * 6


def test_names_that_gitpython_refuses_are_listed(tmp_path):
    where = tmp_path / "r"
    make_repository(where, {"a.py": "1"})
    blob = git(where, "rev-parse", "HEAD:a.py")
    lines = "".join(f"100644 blob {blob}\t{name}\n" for name in ("C:x.py", "back\\slash.py", "git~1"))
    tree = git(where, "mktree", input=lines.encode())
    sha = git(where, "commit-tree", "-m", "odd", tree)
    with Repository.open(where) as repository:
        assert {entry.path: entry.size for entry in repository.files(sha)} == dict.fromkeys(
            ("C:x.py", "back\\slash.py", "git~1"), 1
        )
        assert repository.read_text(sha, "C:x.py") == "1"


@pytest.mark.parametrize("form", ["folder", "bare", "bundle", "file-url"])
def test_sha256_in_every_form(tmp_path, form):
    where = tmp_path / "r"
    first, second = make_repository(where, {"a": "1"}, {"a": "2"}, options=("--object-format=sha256",))
    source: Path | str = where
    if form == "bare":
        source = tmp_path / "bare.git"
        shutil.copytree(where / ".git", source)
        git(source, "config", "core.bare", "true")
    elif form == "bundle":
        source = make_bundle(where, tmp_path / "x.bundle")
    elif form == "file-url":
        source = f"file://{where}"
    with Repository.open(source, cache_dir=tmp_path / "cache") as repository:
        assert len(first) == 64 and repository.resolve() == second and repository.resolve(first[:9]) == first
        assert repository.read_text(first, "a") == "1"
        with repository.working_copy(first, tmp_path / "copy") as copy:
            assert (copy.path / "a").read_text() == "1"
            with pytest.raises(GitError):
                copy.git("cat-file", "-e", second)


def test_issues_of_one_repository_read_each_blob_once(tmp_path):
    """Several commits and queries, one after the other and together: what they share is asked of git once."""
    from steergraph.retrieval.retriever import BM25Retriever

    where = tmp_path / "r"
    commits = make_repository(where, {f"m{n}.py": f"def function_{n}():\n    return {n}\n" for n in range(30)})
    for n in range(5):
        commits.append(add_commit(where, {f"m{n}.py": f"def function_{n}():\n    return 'changed'\n"}))
    distinct = {name for commit in commits for name in hashes(where, commit).values()}
    with Repository.open(where) as repository:
        retriever = BM25Retriever()
        for n, commit in enumerate([*commits, *reversed(commits)]):
            found = retriever.retrieve(
                repository, commit, f"function_{n % 30} is wrong", [], 500, lambda s: len(s) // 4
            )
            assert found.ranked[0].path == f"m{n % 30}.py"
        assert repository.objects.fetched == len(distinct) == 35


@pytest.mark.realdata
@pytest.mark.slow
def test_gold_patches_apply_to_working_copies(data, tmp_path):
    """One instance of each repository at hand; `benchmarks/retrieval_gold.py` counts them all."""
    import pyarrow.parquet as parquet

    seen = set()
    for name in ("lite_dev", "lite_test"):
        for row in parquet.read_table(data / "swebench" / f"{name}.parquet").to_pylist():
            bundle = data / "repos" / f"{row['repo'].replace('/', '__')}.bundle"
            if row["repo"] in seen or not bundle.is_file():
                continue
            seen.add(row["repo"])
            with (
                Repository.open(bundle, cache_dir=tmp_path / "cache") as repository,
                repository.working_copy(row["base_commit"], tmp_path / "copy") as copy,
            ):
                for column in ("patch", "test_patch"):
                    copy.git("apply", "--index", input=row[column].encode())
                assert copy.git("diff", "--cached", "--stat")
    assert len(seen) >= 5
