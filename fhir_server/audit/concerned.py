"""Whose data versions hold: the patients that an event concerned, looked up when it is drained."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

from fhir_server import owned
from fhir_server.access import subjects
from fhir_server.context import Server
from fhir_server.resources.types import TYPES
from fhir_server.search import ast
from fhir_server.search.extract import ReferenceKeys
from fhir_server.storage.writes import Stored
from fhir_server.writing import parse_body

_OWNERS: Final = 20
_VERSION: Final = "/_history/"
_PART: Final = re.compile(r"(\w+)\.(\w+)(\.where\(resolve\(\) is Patient\))?\Z")


class Patients:
    """Patients of versions of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._members: dict[str, tuple[str, ...] | None] = {}
        self._keys = ReferenceKeys(server.extractor.settings.base_urls)

    def of(self, references: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Patients (``Patient/x``) by reference: ``Type/id`` is judged by what is current, ``Type/id/_history/n`` by
        that version, a deletion by the one before it. Those of a Binary are those of what it belongs to.
        """
        content = {one: self._owners(one) for one in dict.fromkeys(references) if one.startswith("Binary/")}
        wanted = dict.fromkeys((*references, *(owner for owners in content.values() for owner in owners)))
        concerned = [one for one in wanted if one.partition("/")[0] in subjects.table()]
        current = self._server.store.read_many(
            list(dict.fromkeys(one.partition(_VERSION)[0] for one in concerned if not one.startswith("Patient/")))
        )
        found: dict[str, tuple[str, ...]] = {}
        for reference in concerned:
            address, _, version = reference.partition(_VERSION)
            if reference.startswith("Patient/"):
                found[reference] = (address,)
                continue
            stored = self._version(current.get(address), address, version)
            found[reference] = self._patients(stored) if stored is not None else ()
        for reference, owners in content.items():
            found[reference] = tuple(dict.fromkeys(one for owner in owners for one in found.get(owner, ())))
        return found

    def _owners(self, reference: str) -> list[str]:
        """What a version of a Binary belongs to. What very many resources show, a logo, is nobody's in particular."""
        address, _, number = reference.partition(_VERSION)
        store, bases = self._server.store, self._server.extractor.settings.base_urls
        stored = self._version(store.read(*address.split("/")), address, number)
        if stored is None or stored.body is None:
            return []
        owner = owned.owner_of(parse_body(stored.body), stored, store, store, bases)
        if owner is not None:
            return [owner] if owner else []
        pointing = owned.pointing((name for name in TYPES if name != "Binary"), address)
        page = store.search(ast.Search(ast.Select(None, pointing), count=_OWNERS))
        return [match.address for match in page.matches] if page.next is None else []

    def _version(self, stored: Stored | None, address: str, version: str) -> Stored | None:
        store = self._server.store
        kind, _, id_ = address.partition("/")
        if stored is not None and version and stored.version != int(version):
            stored = store.read_version(kind, id_, int(version))
        if stored is not None and stored.body is None:
            stored = store.read_version(kind, id_, stored.version - 1)
        return stored

    def _patients(self, stored: Stored) -> tuple[str, ...]:
        assert stored.body is not None
        resource = parse_body(stored.body)
        members = self._members_of(stored.type)
        if members is None:
            numbers = set(subjects.numbers(self._server.registry, stored.type))
            keys = self._server.extractor.documents(resource, stored.address)[0].keys
            found = [key for number, key in keys if number in numbers]
        else:
            found = [self._keys.key(text)[0] for text in _references(resource, members)]
        return tuple(dict.fromkeys(one for one in found if one.startswith("Patient/")))

    def _members_of(self, resource_type: str) -> tuple[str, ...] | None:
        """The members that hold the patient, where these are at the top; None where it takes the extractor."""
        if resource_type not in self._members:
            self._members[resource_type] = self._look_up(resource_type)
        return self._members[resource_type]

    def _look_up(self, resource_type: str) -> tuple[str, ...] | None:
        members = []
        for code in subjects.table()[resource_type]:
            param = self._server.registry.param(resource_type, code)
            assert param is not None
            for part in param.expression.split(" | "):
                if not part.strip("() ").startswith(resource_type + "."):
                    continue
                found = _PART.match(part)
                if found is None:
                    return None
                members.append(found[2])
        return tuple(members) or None


def _references(resource: dict[str, Any], members: tuple[str, ...]) -> list[str]:
    found = []
    for name in members:
        value = resource.get(name)
        for one in value if isinstance(value, list) else (value,):
            text = one.get("reference") if isinstance(one, dict) else None
            if isinstance(text, str):
                found.append(text)
    return found
