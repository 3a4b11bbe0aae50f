"""References between the entries of a transaction: fullUrls to the addresses that the server gives. R4
http.html#trules.

`resources.references` knows where links are and rewrites them; here is what they mean: another entry by its fullUrl
(a URN in any case; a relative reference by the base of the referring entry's own fullUrl, bundle.html#references),
or the one resource that a search reference matches (``Patient?identifier=...``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from fhir_server.errors import FhirError
from fhir_server.resources import references
from fhir_server.resources.types import TYPE_SET
from fhir_server.writing import Criteria, Write, relabel

if TYPE_CHECKING:
    from fhir_server.repository import Repository

_RESTFUL: Final = re.compile(r"(https?://.*/)([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})\Z")
_LITERAL: Final = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}\Z")


def _normal(url: str) -> str:
    """urn: and the URN's namespace ignore case, and so do UUIDs (RFC 4122 section 3); other URLs do not."""
    return url.lower() if url[:4].lower() == "urn:" else url


def copied(value: Any) -> Any:
    """A copy of JSON; what cannot be changed is shared."""
    if type(value) is dict:
        return {key: copied(inner) if type(inner) in _HOLDERS else inner for key, inner in value.items()}
    return [copied(inner) if type(inner) in _HOLDERS else inner for inner in value]


_HOLDERS: Final = frozenset((dict, list))


class _Urls(frozenset[str]):
    """Normalized URLs, among which a URN is found in any case."""

    def __contains__(self, url: object) -> bool:
        return isinstance(url, str) and super().__contains__(_normal(url))


class _Names(dict[str, str]):
    """The fullUrls as `references.rewrite` looks them up, noting which of them a resource names.

    `searches`: whether anything was seen that may be a search reference.
    """

    __slots__ = ("base", "searches", "targets", "uses")

    def __init__(self, targets: Mapping[str, str], base: str | None) -> None:
        self.targets = targets
        self.base = base
        self.uses: set[str] = set()
        self.searches = False

    def get(self, text: str, default: Any = None) -> Any:
        address = self.targets.get(text)
        if address is not None:
            self.uses.add(text)
            return address
        if "?" in text:
            self.searches = True
        elif self.base is not None and _LITERAL.match(text):
            url = self.base + text
            if url in self.targets:
                self.uses.add(url)
                return self.targets[url]
        return default


class Links:
    """What the entries of one transaction call each other, and what they call others by search."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._targets: dict[str, str] = {}
        self._uses: dict[int, set[str]] = {}
        self._searches: dict[int, list[str]] = {}
        self.conditional: dict[str, tuple[Criteria, Write]] = {}
        """Search reference -> its criteria and the first write that has it."""

    @property
    def urls(self) -> Collection[str]:
        """Every fullUrl of the transaction's writes, whatever its case."""
        return _Urls(self._targets)

    def expect(self, targets: Mapping[str, str]) -> None:
        """fullUrl -> the address that its entry will have, if conditions turn out as expected."""
        self._targets = {_normal(url): address for url, address in targets.items()}

    def prepare(self, write: Write) -> bool:
        """Rewrites the links of a write's resource, in place, to the expected addresses.

        Returns whether search references remain, which only the transaction can resolve. Done once per write, whose
        expected address does not change.
        """
        searches = self._searches.get(id(write))
        if searches is None:
            assert write.resource is not None
            match = _RESTFUL.match(write.full_url) if write.full_url else None
            names = _Names(self._targets, match[1] if match is not None else None)
            references.rewrite(write.resource, names)
            self._uses[id(write)] = names.uses
            searches = self._find_searches(write.resource, write) if names.searches else []
            self._searches[id(write)] = searches
        return bool(searches)

    def _find_searches(self, resource: dict[str, Any], write: Write) -> list[str]:
        found = []
        for text in references.conditional_references(resource):
            resource_type, query = references.split_conditional(text)
            if resource_type not in TYPE_SET:
                continue
            if text not in self.conditional:
                try:
                    self.conditional[text] = (self._repository.criteria(resource_type, query), write)
                except FhirError as error:
                    raise relabel(error, write.label) from None
            found.append(text)
        return found

    def changed(self, addresses: Mapping[str, str]) -> dict[str, str]:
        """Expected address -> address, of the fullUrls (as they were written) that turned out differently."""
        return {self._targets[_normal(url)]: address for url, address in addresses.items()}

    def depends(self, write: Write, addresses: Mapping[str, str]) -> bool:
        """Whether the write refers to an entry whose address is not what was expected."""
        if not addresses:
            return False
        uses = self._uses.get(id(write), set())
        return any(_normal(url) in uses for url in addresses)

    def resolved(self, write: Write, addresses: Mapping[str, str], conditional: Mapping[str, str]) -> dict[str, Any]:
        """The prepared resource of a write with what only the transaction knows; a copy where that changes anything."""
        assert write.resource is not None
        mapping = self.changed(addresses)
        mapping.update((text, conditional[text]) for text in self._searches.get(id(write), ()) if text in conditional)
        if not mapping:
            return write.resource
        resource: dict[str, Any] = copied(write.resource)
        references.rewrite(resource, mapping)
        return resource

    def rewrite(self, resource: dict[str, Any], addresses: Mapping[str, str]) -> None:
        """Rewrites, in place, the links of a resource that a patch has made."""
        targets = {**self._targets, **{_normal(url): address for url, address in addresses.items()}}
        references.rewrite(resource, targets)
