"""The official examples of R4, fetched once through npm and checked: the tests over all examples read them here.

`HESTIA_TEST_EXAMPLES` names a directory that holds the unpacked files, for machines without npm or without a network.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fhir_server.resources.jsonformat import parse

PACKAGE = "hl7.fhir.r4.examples"
VERSION = "4.0.1"
SHA256 = "dce87f1b5b9341867033f7d1f544fa1b5232503f6d62813887ac6b8a8b6cb682"
CACHE = Path(__file__).resolve().parents[3] / ".cache"


@cache
def directory() -> Path:
    """Where the files of the package are. Raises RuntimeError when they cannot be had: tests fail then, never skip."""
    given = os.environ.get("HESTIA_TEST_EXAMPLES")
    if given:
        if not (Path(given) / "package.json").is_file():
            raise RuntimeError("HESTIA_TEST_EXAMPLES does not name the unpacked package.")
        return Path(given)
    CACHE.mkdir(exist_ok=True)
    unpacked = CACHE / f"{PACKAGE}-{VERSION}"
    with (CACHE / f"{PACKAGE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not unpacked.is_dir():
            archive = CACHE / f"{PACKAGE}-{VERSION}.tgz"
            if not archive.is_file():
                command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--silent"]
                subprocess.run(command, cwd=CACHE, check=True, stdout=subprocess.DEVNULL)
            if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
                archive.unlink()
                raise RuntimeError(f"{PACKAGE}@{VERSION} has another hash than the one this test pins.")
            partial = CACHE / f"{PACKAGE}-{VERSION}.partial"
            with tarfile.open(archive) as files:
                files.extractall(partial, filter="data")
            partial.rename(unpacked)
    return unpacked / "package"


def resources() -> Iterator[tuple[str, dict[str, Any]]]:
    """(file name, resource) of every resource of the package, in the order of the names."""
    for path in sorted(directory().glob("*.json")):
        resource = parse(path.read_bytes())
        if isinstance(resource, dict) and "resourceType" in resource:
            yield path.name, resource
