"""Sources in another encoding than UTF-8: read by what they declare, written back as they were."""

import subprocess
from pathlib import Path

import pytest
from git_repos import git, make_repository
from hypothesis import given, settings
from hypothesis import strategies as st

from steergraph.agents.check import check_patch
from steergraph.agents.edits.apply import apply_to_tree
from steergraph.agents.edits.blocks import Edit
from steergraph.agents.edits.diffs import diff_bytes, unified_diff
from steergraph.agents.edits.patch import apply_edits, read_from
from steergraph.repo.encoding import encoding_of, to_bytes, to_text
from steergraph.repo.repository import Repository
from steergraph.retrieval.retriever import BM25Retriever

SOURCE = "# -*- coding: latin-1 -*-\n# Größe\n\n\ndef größe(wert):\n    return wert - 1  # café\n"
LATIN = SOURCE.encode("latin-1")
NAMES = ("latin-1", "iso-8859-15", "cp1252", "koi8-r", "cp1251", "shift_jis", "euc-jp", "gbk", "big5", "utf-8", "ascii")


@pytest.mark.parametrize(
    ("path", "head", "name"),
    [
        ("a.py", "# -*- coding: latin-1 -*-\n", "iso8859-1"),
        ("a.py", "#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\n", "cp1252"),
        ("a.pyi", "\n# coding=koi8-r", "koi8-r"),
        ("a.py", "x = 1\n# coding: latin-1\n", "utf-8"),
        ("a.py", "#\n#\n# coding: latin-1\n", "utf-8"),
        ("a.py", "\ufeff# coding: latin-1\n", "utf-8"),
        ("a.py", "# coding: no-such-thing\n", "utf-8"),
        ("a.py", "# coding: rot13\n", "utf-8"),
        ("a.py", "# coding: utf8\n", "utf-8"),
        ("a.txt", "# coding: latin-1\n", "utf-8"),
    ],
)
def test_what_a_source_declares(path: str, head: str, name: str) -> None:
    assert encoding_of(path, head) == name


@given(st.sampled_from(NAMES), st.binary(max_size=60), st.booleans())
def test_what_is_read_is_written_back_as_it_was(name: str, data: bytes, declared: bool) -> None:
    """Or refused, with a reason."""
    whole = (f"# coding: {name}\n".encode() if declared else b"") + data
    try:
        text = to_text("a.py", whole)
    except ValueError as error:
        assert str(error)
        return
    assert to_bytes("a.py", text) == whole


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text("aé ß\t", max_size=6), min_size=1, max_size=12), st.data())
def test_git_applies_a_diff_of_a_file_in_its_own_encoding(tmp_path_factory, lines: list[str], data) -> None:
    before = "# coding: latin-1\n" + "\n".join(lines)
    changed = data.draw(st.lists(st.sampled_from([*lines, "new é"]), min_size=1, max_size=12))
    after = "# coding: latin-1\n" + "\n".join(changed) + data.draw(st.sampled_from(["", "\n"]))
    if before == after:
        return
    root = tmp_path_factory.mktemp("r")
    make_repository(root, {"a.py": before.encode("latin-1"), "b.txt": "é\n"})
    diff = unified_diff({"a.py": before, "b.txt": "é\n"}, {"a.py": after, "b.txt": "è\n"})
    git(root, "apply", "--whitespace=nowarn", "-", input=diff_bytes(diff, {"a.py": after, "b.txt": "è\n"}))
    assert (root / "a.py").read_bytes() == after.encode("latin-1") and (root / "b.txt").read_text() == "è\n"


def test_a_latin_1_source_is_found_edited_and_put_back_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "r"
    (sha,) = make_repository(root, {"maß.py": LATIN, "other.py": "def other():\n    return 2\n"})
    repository = Repository.open(root)
    found = BM25Retriever().retrieve(repository, sha, "größe of a wert is one too small", [], 500, len)
    assert found.ranked[0].path == "maß.py" and "größe(wert)" in found.passages[0].text
    edit = Edit(
        kind="change", path="maß.py", search="    return wert - 1  # café", replace="    return wert  # café, naïve"
    )
    applied = apply_edits([edit], lambda path: repository.read_text(sha, path))
    assert not applied.problems
    meant = SOURCE.replace("wert - 1  # café", "wert  # café, naïve").encode("latin-1")
    diff = unified_diff(applied.before, applied.after, applied.kept)
    with repository.working_copy(sha, tmp_path / "copy") as copy:
        assert check_patch(copy, diff, applied.after).ok
        assert (copy.path / "maß.py").read_bytes() == meant
    apply_to_tree(repository, sha, root, applied.after)
    assert (root / "maß.py").read_bytes() == meant
    (root / "maß.py").write_bytes(LATIN)
    subprocess.run(["git", "apply", "-"], cwd=root, input=diff_bytes(diff, applied.after), check=True)
    assert (root / "maß.py").read_bytes() == meant
    gone = unified_diff({"maß.py": SOURCE}, {"maß.py": None})
    with repository.working_copy(sha, tmp_path / "copy") as copy:
        assert check_patch(copy, gone, {"maß.py": None}).ok and not (copy.path / "maß.py").exists()


def test_what_the_declared_encoding_lacks_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(LATIN)
    read = read_from(tmp_path)
    applied = apply_edits(
        [Edit(kind="change", path="a.py", search="    return wert - 1  # café", replace="    return wert  # ☃")], read
    )
    assert applied.problems == ("a.py: '☃' can't be written in iso8859-1, which the file declares",)
    other = Edit(kind="change", path="a.py", search="# -*- coding: latin-1 -*-", replace="# -*- coding: utf-8 -*-")
    assert "can't change the encoding" in apply_edits([other], read).problems[0]
    (tmp_path / "b.py").write_bytes(b"# coding: cp1251\nx = '\x98'\n")
    with pytest.raises(ValueError, match="not cp1251, which it declares"):
        read("b.py")
