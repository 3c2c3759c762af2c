"""What a sandbox shows beside its copy: in bubblewrap, and refused in the kind that has no mounts."""

from pathlib import Path

import pytest

from steergraph.sandbox.run import Mount, Sandbox, SandboxUnavailable


def test_mounts_are_seen_and_only_writable_ones_can_be_written(tmp_path: Path) -> None:
    try:
        sandbox = Sandbox.detect("bwrap")
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    work, shown = tmp_path / "work", tmp_path / "shown"
    for folder in (work / "inner", shown):
        folder.mkdir(parents=True)
    (shown / "a.txt").write_text("seen\n")
    (tmp_path / "file").write_text("a file\n")
    mounts = [
        Mount(shown, "/opt/deep/er/shown"),
        Mount(work / "inner", "/testbed", True),
        Mount(tmp_path / "file", "/tmp/patch.diff"),
    ]
    command = (
        "cat /opt/deep/er/shown/a.txt /tmp/patch.diff; echo x > /testbed/made; echo y > /opt/deep/er/shown/b.txt; "
        "echo z > /tmp/patch.diff; rm -f /opt/deep/er/shown/a.txt; ls /workspace"
    )
    result = sandbox.run(command, work, mounts=mounts)
    assert result.output.startswith("seen\na file\n") and result.output.endswith("inner\n")
    assert result.output.count("Read-only file system") == 3
    assert (work / "inner/made").read_text() == "x\n"
    assert sorted(path.name for path in shown.iterdir()) == ["a.txt"]
    assert (tmp_path / "file").read_text() == "a file\n"


def test_limits_alone_have_no_mounts(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match="mounts of its own"):
        Sandbox(kind="limits").run("true", tmp_path, mounts=[Mount(tmp_path, "/testbed")])
