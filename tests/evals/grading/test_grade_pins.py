"""Where pins are found, what becomes of conda's names, and which Pythons there are."""

import json
import sys
from pathlib import Path

import pytest

from steergraph.base.errors import InputError
from steergraph.evals.grading.interpreters import find_interpreter
from steergraph.evals.grading.pins import Pins, Recipe, read_export

EXPORT = """\
name: testbed
dependencies:
  - _libgcc_mutex=0.1=main
  - openssl=3.0.15=h5eee18b_0
  - python=3.9.20=he870216_1
  - pip=24.2=py39h06a4308_0
  - iris=3.10.0=pyha770c72_1
  - cdms2=3.1.5=py310h366d46e_22
  - toolz=1.0.0=pyhd8ed1ab_0
  - pip:
      - attrs==23.1.0
      - toolz==0.9
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for number in ("10", "20"):
        folder = tmp_path / "environments/o__n" / number
        folder.mkdir(parents=True)
        (folder / "environment.yml").write_text(EXPORT.replace("23.1.0", f"23.{number}"))
    specs = {
        "o/n": {"2": {"python": "3.10", "pip_packages": ["attrs==1.0"], "packages": "requirements.txt", "pre_install": [
            "apt-get install x", "sed -i s/a/b/ setup.cfg"]}},
        "p/q": {"1": {"python": "3.9", "packages": "pytest six"}},
    }  # fmt: skip
    (tmp_path / "map_repo_version_to_specs_py.json").write_text(json.dumps(specs))
    return tmp_path / "rows.parquet"


def test_an_export_becomes_pins_of_the_index(tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text(EXPORT)
    python, pins, notes = read_export(tmp_path / "environment.yml")
    assert python == "3.9"
    assert pins == ("attrs==23.1.0", "pip==24.2", "scitools-iris==3.10.0", "toolz==0.9")
    assert notes == ("left out: cdms2 3.1.5 (conda only)",)


def test_an_instance_has_its_own_pins_or_its_versions_or_the_nearest(dataset: Path) -> None:
    pins = Pins.beside(dataset)
    own = pins.recipe("o__n-20", "o/n", "1")
    assert "attrs==23.20" in own.pins and own.python == "3.9" and own.source == "environments/o__n/20"
    same = pins.recipe("o__n-19", "o/n", "1", {"o__n-10": "1", "o__n-20": "3"})
    assert "attrs==23.10" in same.pins
    assert "attrs==23.20" in pins.recipe("o__n-16", "o/n", "9").pins
    table = pins.recipe("o__n-99", "o/n", "2")
    assert (table.python, table.pins) == ("3.10", ("attrs==1.0", "pytest"))
    assert table.prepare == ("sed -i s/a/b/ setup.cfg",) and table.notes == ("not run: apt-get install x",)
    assert pins.recipe("p__q-1", "p/q", "1").pins == ("pytest", "six")
    with pytest.raises(InputError, match="nothing pins its environment"):
        pins.recipe("r__s-1", "r/s", "1")


def test_equal_recipes_share_an_environment(dataset: Path) -> None:
    pins = Pins.beside(dataset)
    one, other = pins.recipe("o__n-10", "o/n", "1"), pins.recipe("o__n-20", "o/n", "1")
    assert one.key == pins.recipe("o__n-10", "o/n", "1").key != other.key
    hostile = Recipe(repo="../up", version="../1", python="3.9", pins=()).key
    assert "/" not in hostile and not hostile.startswith(".")


@pytest.mark.parametrize(
    "text",
    ["", "a: b", "dependencies: []", "dependencies: [{pip: ['attrs @ https://x']}]", "dependencies: [{pip: [7]}]", "{"],
)
def test_a_broken_export_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "environment.yml").write_text(text)
    with pytest.raises(InputError) as error:
        read_export(tmp_path / "environment.yml")
    assert "\n" not in str(error.value)


def test_a_broken_table_is_one_line(tmp_path: Path) -> None:
    for text in ("", "[]", '{"a": 1}'):
        (tmp_path / "specs.json").write_text(text)
        with pytest.raises(InputError):
            Pins(None, tmp_path / "specs.json")
    with pytest.raises(InputError, match="no such file"):
        Pins.beside(tmp_path / "rows.parquet", tmp_path / "missing")


@pytest.mark.realdata
def test_every_real_export_is_read(data: Path) -> None:
    exports = sorted((data / "swebench/environments").rglob("environment.yml"))
    read = [read_export(path) for path in exports]
    assert len(read) == 60
    assert {python for python, _, _ in read} == {"3.9", "3.10", "3.11"}
    assert all("setuptools" in " ".join(pins) for _, pins, _ in read)


def test_this_python_is_found_and_an_unknown_one_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    version = ".".join(str(part) for part in sys.version_info[:2])
    found = find_interpreter(version)
    assert found.version.startswith(f"{version}.") and found.path.is_file() and found.path.is_relative_to(found.prefix)
    fake = tmp_path / "python4.7"
    fake.write_text("#!/bin/sh\necho not json\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="is no version of Python"):
        find_interpreter("../../3.9")
    with pytest.raises(InputError, match=r"no Python 4\.7 here: `pyenv install 4\.7`"):
        find_interpreter("4.7")
