"""The official examples of R4 as parsed resources, for the tests of FHIRPath over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir_server.resources.jsonformat import parse
from tests.support import examples


def resources() -> Iterator[tuple[str, dict[str, Any]]]:
    """(file name, resource) of every resource of the package, in the order of the names."""
    for name, text in examples.texts():
        yield name, parse(text)
