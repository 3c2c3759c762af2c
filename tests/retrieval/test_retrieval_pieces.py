"""A kept analysis gives back the pieces of its file, so that nobody parses the file again."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from steergraph.retrieval.analysis import BlobTerms, analyse
from steergraph.retrieval.passages import pieces

LINES = st.lists(
    st.sampled_from(
        ["", "x = 1", "class A:", "    class B:", "        y = 2", "    def f(self):", "        pass", "def g():",
         "    return 1", "@decorated", "# comment", "'''", "    z = 3", "(", ")"]
    ),
    max_size=30,
)  # fmt: skip


def check(path: str, text: str) -> None:
    made = analyse(path, text)
    read = BlobTerms.from_bytes(made.to_bytes())
    assert made.pieces() == read.pieces() == pieces(path, text)
    for name in ("first", "last", "outer", "leaf", "field", "term", "count"):
        assert np.array_equal(getattr(made, name), getattr(read, name))
    assert (made.names, made.outer_names) == (read.names, read.outer_names)


@given(LINES, st.sampled_from(["a.py", "a.txt"]))
def test_any_file(lines, path):
    check(path, "\n".join(lines))


def test_files_of_this_package():
    import steergraph.retrieval

    for file in sorted(Path(steergraph.retrieval.__path__[0]).iterdir()):
        if file.suffix in (".py", ".md"):
            check(file.name, file.read_text(encoding="utf-8"))
