"""Issues and names that are not written in Latin letters: they find files as others do."""

import re
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.repo.repository import Repository
from steergraph.retrieval.retriever import BM25Retriever
from steergraph.retrieval.terms import identifiers, split_identifier, sub_words, terms

FILES = {
    "stock.py": 'def 检查库存(货品):\n    """库存不足的货品要补货。"""\n    return [x for x in 货品 if x.少]\n',
    "prices.py": "def рассчитать_цену(товар):\n    # скидка для постоянных покупателей\n    return товар.цена * 0.9\n",
    "labels.py": 'def clean(text):\n    """تنظيف النص من الفراغات"""\n    return text.strip()\n',
    "report.py": 'def make(rows):\n    """在庫の一覧を印刷する。"""\n    return rows\n',
    "other.py": "def nothing(value):\n    return value\n",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scripts")
    for name, text in FILES.items():
        (root / name).write_text(text, encoding="utf-8")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], cwd=root, check=True)
    return root


@pytest.mark.parametrize(
    ("issue", "file"),
    [
        ("库存不足时没有补货", "stock.py"),
        ("`检查库存` 返回错误的结果", "stock.py"),
        ("Скидка для покупателей не применяется", "prices.py"),
        ("ошибка в рассчитать_цену", "prices.py"),
        ("تنظيف النص لا يعمل", "labels.py"),
        ("在庫の一覧が印刷されない", "report.py"),
    ],
)
def test_the_file_is_found(repository: Path, issue: str, file: str) -> None:
    with Repository.open(str(repository)) as opened:
        sha = opened.resolve()
        found = BM25Retriever().retrieve(opened, sha, issue, [], 2_000, lambda text: len(text) // 4)
    assert found.ranked[0].path == file and found.ranked[0].score > 0
    assert file in {passage.path for passage in found.passages}


def test_words_of_other_scripts() -> None:
    assert identifiers("x = рассчитать_цену(2) + 检查库存") == ["x", "рассчитать_цену", "检查库存"]
    assert split_identifier("рассчитать_цену") == ("рассчитать_цену", "рассчитать", "цену")
    assert sub_words("ЦенаТовара2") == ["цена", "товара", "2"]
    assert sub_words("检查库存") == ["检查", "查库", "库存"]
    assert sub_words("get检查Name") == ["get", "检查", "name"]
    assert sub_words("库") == [] and sub_words("naïve") == []


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_is_read_as_it_always_was(text: str) -> None:
    # A digit before a letter begins no identifier in either reading, but only the old one could begin one after it.
    spaced = re.sub(r"\d\w*", " ", re.sub(r"([A-Za-z_]\w*)", r" \1 ", text))
    assert identifiers(spaced) == re.findall(r"[A-Za-z_][A-Za-z0-9_]*", spaced)


@given(st.text())
def test_any_text_has_terms(text: str) -> None:
    assert all((term and term == term.lower()) or not term.isascii() for term in terms(text))


def test_letters_written_in_two_ways_are_the_same_word() -> None:
    text = "tính_tổng café"
    assert terms(unicodedata.normalize("NFD", text)) == terms(unicodedata.normalize("NFC", text))
