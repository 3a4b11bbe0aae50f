"""What the rest of the project may ask about codes, and what it must offer for that: two Protocols and their values.

Spec: R4 terminology-service.html, valueset.html, codesystem.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Subsumption = Literal["equivalent", "subsumes", "subsumed-by", "not-subsumed"]
"""Outcome of subsumes(), by the codes of R4 concept-subsumption-outcome; A comes first."""

Check = Callable[[str | None, str], bool]
"""(system, code) -> whether a value set has it; system None stands for an element of type `code`."""


class Resources(Protocol):
    """The CodeSystem, ValueSet and ConceptMap resources that are stored on the server."""

    def generation(self) -> int:
        """A number that changes whenever one of these resources is written, by any worker. Called often; cheap."""
        ...

    def find(self, resource_type: str, url: str, version: str | None) -> Mapping[str, Any] | None:
        """The stored resource of a canonical as parsed JSON; the newest of several when `version` is None.

        `url` may also be a literal reference (`ValueSet/123`, absolute on this server), which R4 search.html#modifiers
        allows with `:in`; a provider that does not know it answers None.
        """
        ...


@dataclass(frozen=True, slots=True)
class Expansion:
    """The codes of a value set.

    `codes` lists them by system. `whole` names the systems of which every code belongs although they are not listed
    (LOINC, say), with the codes that are left out again. A system is in at most one of the two.
    """

    canonical: str
    codes: Mapping[str, frozenset[str]]
    whole: Mapping[str, frozenset[str]] = field(default_factory=dict)
    folded: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)
    """Case-folded codes of those systems, listed or left out, whose codes case does not distinguish."""

    @property
    def listed(self) -> bool:
        """Whether `codes` is all there is."""
        return not self.whole

    def contains(self, system: str | None, code: str) -> bool:
        """Whether the code belongs. Case counts unless the system is known not to be case-sensitive.

        Without a system: whether it belongs to any of the systems, as for elements of type `code`.
        """
        if system is None:
            return any(self.contains(known, code) for known in (*self.codes, *self.whole))
        listed = self.codes.get(system)
        if listed is not None:
            if code in listed:
                return True
            folded = self.folded.get(system)
            return folded is not None and code.casefold() in folded
        left_out = self.whole.get(system)
        if left_out is None or code in left_out:
            return False
        folded = self.folded.get(system)
        return folded is None or code.casefold() not in folded

    def __contains__(self, pair: object) -> bool:
        return isinstance(pair, tuple) and len(pair) == 2 and self.contains(pair[0], pair[1])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """The listed (system, code) pairs; systems of `whole` have none."""
        for system, codes in self.codes.items():
            for code in codes:
                yield system, code

    def __len__(self) -> int:
        return sum(map(len, self.codes.values()))


@dataclass(frozen=True, slots=True)
class Validation:
    """Outcome of validate_code: `message` says why not, without the code; `system` is there also when inferred."""

    result: bool
    message: str | None = None
    system: str | None = None
    display: str | None = None


@dataclass(frozen=True, slots=True)
class Concept:
    """What $lookup tells. Properties are (code, value); designations (language, use code, value)."""

    system: str
    version: str | None
    code: str
    display: str | None
    definition: str | None = None
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    properties: tuple[tuple[str, Any], ...] = ()
    designations: tuple[tuple[str | None, str | None, str | None], ...] = ()
    abstract: bool = False
    inactive: bool = False


@dataclass(frozen=True, slots=True)
class Translation:
    """One match of translate: `equivalence` by R4 concept-map-equivalence; `source` is the canonical of the map."""

    equivalence: str
    system: str
    code: str | None
    display: str | None
    comment: str | None
    source: str


class Terminology(Protocol):
    """Everything that is asked about codes.

    Raises: UnknownCanonical, NotExpandable, UnknownCode; each method says which.
    """

    def case_sensitive(self, system: str) -> bool | None:
        """Whether case distinguishes codes of a system; None when not known. Does not depend on what is stored."""
        ...

    def expand(self, canonical: str) -> Expansion:
        """The codes of a value set; `canonical` may end in `|version`. Raises UnknownCanonical, NotExpandable."""
        ...

    def contains(self, valueset: str, system: str | None, code: str) -> bool:
        """Whether a value set has a code. Raises as expand."""
        ...

    def required(self, valueset: str) -> Check:
        """The test of a required binding, from R4's own definition alone. Raises as expand."""
        ...

    def validate_code(self, valueset: str, system: str | None, code: str, display: str | None = None) -> Validation:
        """Whether a value set has a code, and why not. Raises as expand."""
        ...

    def lookup(self, system: str, code: str) -> Concept:
        """Everything known of a code. Raises UnknownCanonical, UnknownCode."""
        ...

    def display(self, system: str, code: str) -> str | None:
        """The display of a code, None when system or code is unknown or has none."""
        ...

    def subsumes(self, system: str, a: str, b: str) -> Subsumption:
        """How two codes of a system stand. Raises UnknownCanonical, UnknownCode."""
        ...

    def descendants(self, system: str, code: str) -> frozenset[str]:
        """The codes below a code, without itself. Raises UnknownCanonical, UnknownCode."""
        ...

    def ancestors(self, system: str, code: str) -> frozenset[str]:
        """The codes above a code, without itself. Raises UnknownCanonical, UnknownCode."""
        ...

    def translate(
        self,
        system: str,
        code: str,
        *,
        url: str | None = None,
        source: str | None = None,
        target: str | None = None,
        target_system: str | None = None,
        reverse: bool = False,
    ) -> list[Translation]:
        """What concept maps make of a code. Raises UnknownCanonical when `url` names no known map."""
        ...

    def alias(self, system: str) -> str:
        """The uri R4 resources use for a system that is named by OID or a former uri; else the name itself."""
        ...

    def forget(self, canonical: str | None = None) -> None:
        """Drops what was computed from stored resources."""
        ...
