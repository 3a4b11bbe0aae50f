"""The official examples of R4: fetched once through npm into ``.cache``, checked against their published hash.

They are never skipped: what cannot be had makes the tests fail.

`HESTIA_TEST_EXAMPLES` names a directory that holds the unpacked files, for machines without npm or without a network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support import npm

PACKAGE = "hl7.fhir.r4.examples"
VERSION = "4.0.1"
SHA512 = "DXBdIZOeQaSKIgCU7w6HOC7sw/6BzylmipLkBW4f//pT+Bc94x+8LImwTdvaNThPJoOzpBzvxAzNqjeu3X/zLw=="

#: The one example that no R4 server may take: its id has 67 characters.
REFUSED = "SearchParameter-questionnaireresponse-extensions-QuestionnaireResponse-item-subject.json"


@cache
def directory() -> Path:
    """Where the files of the package are. Raises RuntimeError when they cannot be had, so that a test fails."""
    given = os.environ.get("HESTIA_TEST_EXAMPLES")
    if given:
        if not (Path(given) / "package.json").is_file():
            raise RuntimeError("HESTIA_TEST_EXAMPLES does not name the unpacked package.")
        return Path(given)
    return npm.package(PACKAGE, VERSION, SHA512)


@cache
def paths() -> tuple[Path, ...]:
    """Every file of the package that holds a resource, in the order of the names."""
    found = sorted(directory().glob("*-*.json"))
    if len(found) < 5_000:
        raise RuntimeError("The package of official examples is not complete.")
    return tuple(found)


def texts() -> Iterator[tuple[str, bytes]]:
    """(file name, JSON text) of every resource of the package."""
    for path in paths():
        yield path.name, path.read_bytes()


def address(text: bytes) -> str:
    """``Type/id`` of a resource; names of files are not always that."""
    resource = json.loads(text)
    return f"{resource['resourceType']}/{resource['id']}"
