"""Packages of npm that tests read: fetched once into ``.cache``, checked against their published hash, not run by npm.

They are never skipped: what cannot be had makes the tests fail.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import subprocess
import tarfile
from functools import cache
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache"


@cache
def package(name: str, version: str, sha512: str) -> Path:
    """The directory of an unpacked package. Raises RuntimeError for another hash than the base64 `sha512`."""
    CACHE.mkdir(exist_ok=True)
    unpacked = CACHE / f"{name}-{version}"
    # Test processes run beside each other; one fetches, the others wait.
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not unpacked.is_dir():
            _fetch(name, version, sha512, unpacked)
    return unpacked / "package"


def _fetch(name: str, version: str, sha512: str, unpacked: Path) -> None:
    archive = CACHE / f"{name}-{version}.tgz"
    if not archive.is_file():
        command = ["npm", "pack", f"{name}@{version}", "--silent"]
        subprocess.run(command, cwd=CACHE, check=True, stdout=subprocess.DEVNULL)
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != sha512:
        archive.unlink()
        raise RuntimeError(f"{name}@{version} has another hash than the published one.")
    partial = CACHE / f"{name}-{version}.partial"
    with tarfile.open(archive) as files:
        files.extractall(partial, filter="data")
    partial.rename(unpacked)
