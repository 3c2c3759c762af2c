"""Test commands and texts that mean harm: each is contained, told in a line, and the run goes on."""

import pytest
from batch_help import batch, pantry_rows, predictions, repairs

from steergraph.sandbox.run import Sandbox, SandboxUnavailable

HOSTILE = {
    "forks": "bomb() { bomb | bomb & }; bomb; sleep 30",
    "fills the disk": "head -c 3000000000 /dev/zero > big",
    "ignores SIGTERM": "trap '' TERM INT HUP; while :; do sleep 1; done",
    "prints a gigabyte": "yes 0123456789 | head -c 1000000000; sleep 30",
    "eats memory": "python -c 'x = bytearray(4_000_000_000)'",
    "leaves a child behind": "setsid sleep 300 & exit 1",
}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path_factory.getbasetemp() / "batch-cache"))


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_test_command_fails_its_own_instance_only(name, tmp_path):
    try:
        Sandbox.detect()
    except SandboxUnavailable as why:
        pytest.skip(str(why))
    # Hostile only where the first instance's repair stands.
    command = f'if grep -q "<= limit" pantry/stock.py; then {HOSTILE[name]}; fi'
    rows = pantry_rows("stock", "fridge")
    _, folder = batch(tmp_path, rows, test=command, test_seconds=5.0, max_repairs=0)
    stock, fridge = (folder.record("rag_baseline", row["instance_id"]) for row in rows)
    # The command succeeds without the other's patch too, so it vouches for nothing.
    assert (stock["status"], fridge["status"]) == ("checks_failed", "patched_untested")
    outcome = folder.outcome("rag_baseline", rows[0]["instance_id"], 0)
    (problem,) = outcome["problems"]
    assert problem.startswith("with the patch the test command") and "\n" not in problem and len(problem) < 700
    assert len(str(outcome)) < 200_000 and len(predictions(folder)) == 2


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../x.py", ".git/hooks/post-checkout", "pantry/.GIT/config", ".gitmodules", "a\0b.py"]
)
def test_an_edit_that_would_escape_ends_as_an_empty_row(path, tmp_path):
    def reply(request):
        if "fix bugs" not in request.messages[0].content:
            return "It is in `low_items`."
        return f"{path}\n<<<<<<< SEARCH\n=======\nx = 1\n>>>>>>> REPLACE"

    _, folder = batch(tmp_path, pantry_rows("stock"), reply, max_repairs=0)
    (row,) = predictions(folder)
    assert row["model_patch"] == ""
    assert folder.record("rag_baseline", row["instance_id"])["status"] in ("no_edit", "edit_did_not_apply")


def test_a_patch_that_is_too_large_is_refused(tmp_path):
    def reply(request):
        said = repairs(request)
        return said.replace("<= limit:", f"<= limit:  # {'x' * 1_100_000}")

    _, folder = batch(tmp_path, pantry_rows("stock", "fridge"), reply, max_repairs=0)
    stock, fridge = predictions(folder)
    record = folder.record("rag_baseline", stock["instance_id"])
    assert stock["model_patch"] == "" and fridge["model_patch"]
    assert record["status"] == "checks_failed" and "are looked at" in record["candidates"][0]["refused"][0]
