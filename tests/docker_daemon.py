"""A Docker daemon of a test's own, in a folder of its own, and a small image made from this machine's own programs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from steergraph.evals.grading.environments import PREFIX

PROGRAMS = ("bash", "sh", "cat", "cp", "chmod", "dirname", "env", "git", "kill", "ls", "mkdir", "patch", "rm", "tail")


def why_no_daemon() -> str | None:
    """Why none can be started here; None where one might."""
    if os.getuid() != 0:
        return "a daemon needs root"
    missing = [name for name in ("docker", "dockerd", "containerd", "runc") if not shutil.which(name)]
    return f"no {', '.join(missing)} here (Debian: docker.io)" if missing else None


@contextmanager
def daemon(folder: Path) -> Iterator[str]:
    """A daemon without a network. Yields its address. Raises RuntimeError where it does not start.

    Everything it mounted is unmounted at the end, so that `folder` can be removed.
    """
    address = f"unix://{folder}/docker.sock"
    words = ["dockerd", f"--host={address}", f"--data-root={folder}/data", f"--exec-root={folder}/exec"]
    words += [f"--pidfile={folder}/dockerd.pid", "--bridge=none", "--iptables=false", "--ip6tables=false"]
    words += ["--ip-forward=false", "--ip-masq=false", "--init"]
    if tini := shutil.which("tini-static"):
        words.append(f"--init-path={tini}")
    with (folder / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(240):
            if process.poll() is not None:
                break
            asked = subprocess.run(["docker", "--host", address, "version"], capture_output=True, timeout=30)
            if asked.returncode == 0:
                yield address
                return
            time.sleep(0.25)
        raise RuntimeError((folder / "dockerd.log").read_text(errors="replace").strip().splitlines()[-1][:300])
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            place = line.split(" ")[4]
            if place.startswith(f"{folder}/"):
                subprocess.run(["umount", "-l", place], capture_output=True, timeout=30)


def import_image(address: str, name: str, root: Path) -> None:
    """Make the folder `root` an image."""
    tar = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
    path = f"ENV PATH=/usr/bin:/bin:{PREFIX}/bin"
    words = ["docker", "--host", address, "import", "--change", path, "--change", "ENV HOME=/root", "-", name]
    subprocess.run(words, stdin=tar.stdout, check=True, timeout=240, capture_output=True)
    assert tar.wait(60) == 0


def make_root(root: Path, testbed: Path) -> None:
    """A root file system: the programs that the harness and an eval script start, a Python with pytest, the testbed."""
    for name in ("tmp", "root", "etc", "usr/bin", "proc", "sys", "dev", "opt/miniconda3/bin"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "bin").symlink_to("usr/bin")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/bash\n")
    (root / "etc/group").write_text("root:x:0:\n")
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found, name
        _with_libraries(Path(found).resolve(), root, root / "usr/bin" / name)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    home = root / PREFIX[1:]
    base = Path(sys.base_prefix)
    _with_libraries((base / "bin" / version).resolve(), root, home / "bin" / version)
    (home / "bin/python").symlink_to(version)
    skipped = shutil.ignore_patterns(
        "site-packages", "test", "idlelib", "tkinter", "ensurepip", "__pycache__", "*.a", "config-*"
    )
    shutil.copytree(base / "lib" / version, home / "lib" / version, ignore=skipped)
    for extension in (home / "lib" / version / "lib-dynload").glob("*.so"):
        _libraries(extension, root)
    site = home / "lib" / version / "site-packages"
    for package in ("pytest", "pluggy", "iniconfig", "packaging", "pygments"):
        for file in metadata.files(package) or ():
            source = Path(str(file.locate()))
            if file.suffix == ".py" and ".." not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, site / file)
        about = metadata.distribution(package)
        folder = site / f"{package}-{about.version}.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {about.version}\n")
    (home / "bin/pytest").write_text('#!/bin/bash\nexec python -m pytest -p no:cacheprovider "$@"\n')
    (home / "bin/pytest").chmod(0o755)
    (root / "opt/miniconda3/bin/activate").write_text(f'conda() {{ export PATH="{PREFIX}/bin:$PATH"; }}\n')
    shutil.copytree(testbed, root / "testbed", symlinks=True)


def _with_libraries(program: Path, root: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, target)
    _libraries(program, root)


def _libraries(program: Path, root: Path) -> None:
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=30).stdout
    for word in said.split():
        if word.startswith("/") and Path(word).is_file() and not (place := root / word[1:]).exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(word).resolve(), place)
