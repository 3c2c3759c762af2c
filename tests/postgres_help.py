"""A Postgres for tests: the one that STEERGRAPH_POSTGRES names, or one of our own where the programs are installed.

Our own runs as another user where the tests run as root, listens on loopback with a password, and is gone afterwards.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "STEERGRAPH_POSTGRES"
_START_S = 60.0


def given() -> str | None:
    """The URL of a server that is there already."""
    return os.environ.get(VARIABLE) or None


def programs() -> Path | None:
    """The folder with initdb and postgres; None where they are not installed."""
    folders = [Path(p) for p in os.environ.get("PATH", "").split(":")]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return (folder / "initdb").resolve().parent if (folder / "initdb").is_symlink() else folder
    return None


@contextmanager
def private_cluster(password: str | None = None) -> Iterator[str]:
    """The URL, password included, of a server of our own."""
    folder = programs()
    assert folder is not None
    password = password or secrets.token_hex(8)
    work = Path(tempfile.mkdtemp(prefix="steergraph-postgres-"))
    owner = _owner()
    try:
        work.chmod(0o755)
        secret, data = work / "password", work / "data"
        secret.write_text(password)
        data.mkdir()
        if owner:
            for path in (secret, data):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        as_owner = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(data)}
        common = {"cwd": work, "env": environment, "stdin": subprocess.DEVNULL, **as_owner}
        subprocess.run(
            [folder / "initdb", "-D", data, "-U", "tester", "-A", "scram-sha-256", "--pwfile", secret, "--no-sync"],
            check=True,
            capture_output=True,
            **common,
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", "", "-F", "-c", "max_connections=40"]
        server = subprocess.Popen(
            [folder / "postgres", "-D", data, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **common
        )
        try:
            _wait(port, server)
            yield f"postgresql://tester:{password}@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(2)  # fast shutdown
            server.wait(30)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _owner() -> pwd.struct_passwd | None:
    """Who the server runs as; None: who we are. Postgres refuses to run as root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("no user to run Postgres as")


def _wait(port: int, server: subprocess.Popen) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        assert server.poll() is None, "postgres ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("postgres does not listen")
