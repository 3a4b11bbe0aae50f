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


def _copy(value: Any) -> Any:
    """A copy of JSON; what cannot be changed is shared."""
    if type(value) is dict:
        return {key: _copy(inner) if type(inner) in _HOLDERS else inner for key, inner in value.items()}
    return [_copy(inner) if type(inner) in _HOLDERS else inner for inner in value]


_HOLDERS: Final = frozenset((dict, list))


class _Urls(frozenset[str]):
    """Normalized URLs, among which a URN is found in any case."""

    def __contains__(self, url: object) -> bool:
        return isinstance(url, str) and super().__contains__(_normal(url))


class _Seen(dict[str, str]):
    """A mapping that rewrites nothing, and notes which fullUrls a resource names: text -> fullUrl, normalized."""

    __slots__ = ("base", "targets")

    def __init__(self, targets: Collection[str], base: str | None) -> None:
        self.targets = targets
        self.base = base

    def get(self, text: str, default: Any = None) -> Any:
        if text in self.targets:
            self[text] = text
        elif self.base is not None and _LITERAL.match(text) and self.base + text in self.targets:
            self[text] = self.base + text
        return default


class Links:
    """What the entries of one transaction call each other, and what they call others by search."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._targets: dict[str, str] = {}
        self._known: dict[int, tuple[_Seen, list[str]]] = {}
        self.conditional: dict[str, tuple[Criteria, Write]] = {}
        """Search reference -> its criteria and the first write that has it."""

    @property
    def urls(self) -> Collection[str]:
        """Every fullUrl of the transaction's writes, whatever its case."""
        return _Urls(self._targets)

    def expect(self, targets: Mapping[str, str]) -> None:
        """fullUrl -> the address that its entry will have, if conditions turn out as expected."""
        self._targets = {_normal(url): address for url, address in targets.items()}

    def _links(self, resource: dict[str, Any], write: Write) -> tuple[_Seen, list[str]]:
        """The fullUrls and search references in a resource."""
        own = resource is write.resource
        found = self._known.get(id(write)) if own else None
        if found is None:
            match = _RESTFUL.match(write.full_url) if write.full_url else None
            seen = _Seen(self._targets, match[1] if match is not None else None)
            references.rewrite(resource, seen)
            found = seen, self._searches(resource, write)
            if own:
                self._known[id(write)] = found
        return found

    def _searches(self, resource: dict[str, Any], write: Write) -> list[str]:
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

    def rewrite(
        self,
        resource: dict[str, Any],
        write: Write,
        changed: Mapping[str, str] | None = None,
        conditional: Mapping[str, str] | None = None,
    ) -> tuple[dict[str, Any], bool]:
        """A copy with its links resolved (the resource itself if there are none), and whether search references remain.

        `changed`: addresses by fullUrl that are not what was expected. `conditional`: addresses by search reference.
        """
        seen, searches = self._links(resource, write)
        mapping: dict[str, str] = {}
        if seen:
            other = {_normal(url): address for url, address in (changed or {}).items()}
            mapping = {text: other.get(url) or self._targets[url] for text, url in seen.items()}
        if searches and conditional is not None:
            mapping.update((text, conditional[text]) for text in searches if text in conditional)
        if not mapping:
            return resource, bool(searches)
        copied: dict[str, Any] = _copy(resource)
        references.rewrite(copied, mapping)
        return copied, bool(searches) and conditional is None

    def depends(self, write: Write, changed: Mapping[str, str]) -> bool:
        """Whether the write refers to an entry whose address is not what was expected."""
        found = self._known.get(id(write))
        if not changed or found is None:
            return False
        uses = set(found[0].values())
        return any(_normal(url) in uses for url in changed)
