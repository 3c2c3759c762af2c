"""How many gold patches of SWE-bench instances apply to this package's working copies.

    python benchmarks/retrieval_gold.py --data FOLDER      (with swebench/*.parquet and repos/*.bundle in it)

For every distinct instance whose repository is at hand: a working copy of its base commit, then the gold patch and the
test patch, by `git apply --index`. Prints the count, and each that does not apply with git's words.
"""

import argparse
import tempfile
from pathlib import Path

import pyarrow.parquet as parquet

from steergraph.base.errors import InputError
from steergraph.repo.repository import Repository


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    bundles = {path.stem.replace("__", "/"): path for path in (data / "repos").glob("*.bundle")}
    files = sorted((data / "swebench").glob("*.parquet"))
    rows = {row["instance_id"]: row for file in files for row in parquet.read_table(file).to_pylist()}
    rows = {name: row for name, row in sorted(rows.items()) if row["repo"] in bundles}
    applied = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, row in rows.items():
            try:
                with (
                    Repository.open(bundles[row["repo"]], cache_dir=folder) as repository,
                    repository.working_copy(row["base_commit"], Path(folder) / "copy") as copy,
                ):
                    for column in ("patch", "test_patch"):
                        copy.git("apply", "--index", input=row[column].encode())
                applied += 1
            except InputError as error:
                print(f"{name}: {error}")
    print(f"{applied} of {len(rows)} apply")


if __name__ == "__main__":
    main()
