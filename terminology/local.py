"""Terminology from what is here: the packaged tables and the resources stored on the server.

Spec: R4 valueset.html#compositions (each include is a conjunction, the includes together a union, less the excludes),
      codesystem.html#hierarchy, terminology-service.html

Which definition counts, when several carry the same canonical: `|version` picks exactly that one. Without it a stored
resource wins over a packaged one that is older, or when it has no version; R4's own wins over hl7.terminology's. Value
sets of hl7.terminology select from the code systems of hl7.terminology, R4's from R4's. required() and case_sensitive()
look at the packages only: what is stored can neither change R4's required bindings nor how an index was built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final, TypeVar

from terminology import systems
from terminology.errors import NotExpandable, UnknownCanonical, UnknownCode
from terminology.pattern import Unsafe, compile_safe
from terminology.protocol import Check, Concept, Expansion, Resources, Subsumption, Translation, Validation
from terminology.tables import (
    R4,
    THO,
    Core,
    Details,
    MapGroup,
    MapTable,
    Packaged,
    SetTable,
    SystemRelease,
    Table,
    code_system,
    concept_map,
    value_set,
)

CACHED_SYSTEMS: Final = 256
"""Code systems kept in memory; most have fewer than fifty codes."""
CACHED_EXPANSIONS: Final = 1_024
MAX_NESTING: Final = 32

_T = TypeVar("_T")


class Codes:
    """A set of (system, code), possibly all codes of a system but some: closed under union, intersection, difference.

    By system: (False, these codes) or (True, all codes but these).
    """

    __slots__ = ("by_system",)

    def __init__(self, by_system: Mapping[str, tuple[bool, frozenset[str]]]) -> None:
        self.by_system = {system: part for system, part in by_system.items() if part[0] or part[1]}

    @classmethod
    def of(cls, system: str, codes: Iterable[str]) -> Codes:
        return cls({system: (False, frozenset(codes))})

    @classmethod
    def all_of(cls, system: str) -> Codes:
        return cls({system: (True, frozenset())})

    def __or__(self, other: Codes) -> Codes:
        result = dict(self.by_system)
        for system, (negated, codes) in other.by_system.items():
            mine, have = result.get(system, (False, frozenset()))
            if negated and mine:
                result[system] = (True, have & codes)
            elif negated:
                result[system] = (True, codes - have)
            elif mine:
                result[system] = (True, have - codes)
            else:
                result[system] = (False, have | codes)
        return Codes(result)

    def __and__(self, other: Codes) -> Codes:
        result = {}
        for system, (negated, codes) in other.by_system.items():
            if system not in self.by_system:
                continue
            mine, have = self.by_system[system]
            if negated and mine:
                result[system] = (True, have | codes)
            elif negated:
                result[system] = (False, have - codes)
            elif mine:
                result[system] = (False, codes - have)
            else:
                result[system] = (False, have & codes)
        return Codes(result)

    def __sub__(self, other: Codes) -> Codes:
        result = dict(self.by_system)
        for system, (negated, codes) in other.by_system.items():
            if system not in result:
                continue
            mine, have = result[system]
            if negated and mine:
                result[system] = (False, codes - have)
            elif negated:
                result[system] = (False, have & codes)
            elif mine:
                result[system] = (True, have | codes)
            else:
                result[system] = (False, have - codes)
        return Codes(result)

    def only(self, system: str) -> Codes:
        return Codes({system: self.by_system[system]} if system in self.by_system else {})


class System:
    """One release of a code system; its parts are read when they are asked for."""

    def __init__(self, url: str, release: SystemRelease, packaged: Packaged | None, table: Table | None) -> None:
        self.url = url
        self.version = release.version
        self.case_sensitive = release.case_sensitive
        self.content = release.content
        self.hierarchy = release.hierarchy
        self._release = release
        self._packaged = packaged
        self._table = table

    @cached_property
    def core(self) -> Core:
        if self._table is not None:
            return self._table.core
        assert self._packaged is not None
        return self._packaged.core(self._release)

    @cached_property
    def position(self) -> dict[str, int]:
        return {code: at for at, code in enumerate(self.core.codes)}

    @cached_property
    def _folded(self) -> dict[str, int]:
        return {code.casefold(): at for at, code in enumerate(self.core.codes)}

    @cached_property
    def children(self) -> list[list[int]]:
        below: list[list[int]] = [[] for _ in self.core.codes]
        for child, parents in enumerate(self.core.parents):
            for parent in parents:
                below[parent].append(child)
        return below

    @cached_property
    def displays(self) -> list[str | None]:
        if self._table is not None:
            return self._table.displays
        assert self._packaged is not None
        return self._packaged.displays(self._release)

    @cached_property
    def details(self) -> Details:
        if self._table is not None:
            return self._table.details
        assert self._packaged is not None
        return self._packaged.details(self._release)

    @property
    def has_concepts(self) -> bool:
        return self.content != "not-present" and bool(self.core.codes)

    @property
    def complete(self) -> bool:
        return self.content == "complete"

    @property
    def subsumption(self) -> bool:
        """Whether a child is a kind of its parent. R4 leaves the meaning open where hierarchyMeaning is absent, and
        its own expansions then read it as is-a; part-of, grouped-by and classified-with subsume nothing."""
        return self.hierarchy in (None, "is-a")

    def at(self, code: str) -> int:
        at = self.position.get(code)
        if at is None and self.case_sensitive is False:
            at = self._folded.get(code.casefold())
        if at is None:
            raise UnknownCode(self.url, code)
        return at

    def display_at(self, at: int) -> str | None:
        return self.displays[at] if self.displays else None

    def below(self, at: int) -> set[int]:
        """Positions of all descendants, without `at` itself."""
        if not self.core.parents or not self.subsumption:
            return set()
        return _closure(at, self.children)

    def above(self, at: int) -> set[int]:
        """Positions of all ancestors, without `at` itself."""
        if not self.core.parents or not self.subsumption:
            return set()
        return _closure(at, self.core.parents)

    def codes_at(self, positions: Iterable[int]) -> frozenset[str]:
        codes = self.core.codes
        return frozenset(codes[at] for at in positions)

    def property_values(self, at: int, name: str) -> list[str]:
        """The values of a property as FHIR writes them in a filter; the derived ones and their defaults included."""
        core = self.core
        if name in ("concept", "code"):
            return [core.codes[at]]
        if name == "display":
            display = self.display_at(at)
            return [] if display is None else [display]
        if name == "definition":
            definitions = self.details.definitions
            text = definitions[at] if definitions else None
            return [] if text is None else [text]
        if name in ("parent", "subsumedBy"):
            return [core.codes[parent] for parent in core.parents[at]] if core.parents else []
        if name == "child":
            return [core.codes[child] for child in self.children[at]]
        values = [_text(value) for key, value in self.details.properties.get(str(at), ()) if key == name]
        if not values and name in ("notSelectable", "inactive"):
            # codesystem-concept-properties.html: both default to false.
            marked = core.abstract if name == "notSelectable" else core.inactive
            return ["true" if at in marked else "false"]
        return values


def _closure(start: int, links: list[list[int]]) -> set[int]:
    seen: set[int] = set()
    stack = list(links[start])
    while stack:
        at = stack.pop()
        if at not in seen:
            seen.add(at)
            stack.extend(links[at])
    seen.discard(start)  # A faulty code system may run in a circle.
    return seen


def _text(value: Any) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, Mapping):
        return str(value.get("code", ""))
    return str(value)


class Local:
    """The Terminology of this server. Shared by all requests of a worker; see protocol.Terminology for the methods.

    Not locked: two threads may compute the same expansion, and the second result replaces an equal first one.
    """

    def __init__(self, resources: Resources | None = None, packaged: Packaged | None = None) -> None:
        self._packaged = packaged if packaged is not None else Packaged()
        self._resources = resources
        self._generation = resources.generation() if resources is not None else 0
        self._systems: dict[tuple[str, str | None, str | None], System] = {}
        self._expansions: dict[str, Expansion] = {}
        self._required: Local | None = None
        self.case_sensitivity: dict[str, bool] = dict(systems.CASE_SENSITIVE)
        for url, releases in self._packaged.systems.items():
            # R4's word counts; where it says nothing (its v2 tables), the later release of the same system does.
            known = next((r.case_sensitive for r in releases if r.case_sensitive is not None), None)
            if known is not None:
                self.case_sensitivity[url] = known
        # The plain lookup itself: it is called for every token that is indexed or searched.
        self.case_sensitive = self.case_sensitivity.get

    # Value sets

    def expand(self, canonical: str) -> Expansion:
        self._refresh()
        expansion = self._expansions.get(canonical)
        return expansion if expansion is not None else self._expand(canonical, ())

    def expand_definition(self, resource: Mapping[str, Any]) -> Expansion:
        """The codes of a ValueSet that is not stored anywhere, given as parsed JSON. Raises NotExpandable."""
        self._refresh()
        table = value_set(resource)
        return self._expansion(table.url, self._evaluate(table, None, (table.url,)))

    def contains(self, valueset: str, system: str | None, code: str) -> bool:
        return self.expand(valueset).contains(system, code)

    def required(self, valueset: str) -> Check:
        """The test of a required binding; callers keep it. A whole system with a grammar is tested by its grammar."""
        if self._resources is not None:
            if self._required is None:
                self._required = Local(None, self._packaged)
            return self._required.required(valueset)
        expansion = self.expand(valueset)
        if expansion.listed and not expansion.folded:
            return _listed_check(expansion.codes)
        if not any(system in systems.GRAMMARS for system in expansion.whole):
            return expansion.contains

        def check(system: str | None, code: str) -> bool:
            if not expansion.contains(system, code):
                return False
            if any(code in codes for codes in expansion.codes.values()):
                return True
            of = [system] if system is not None else list(expansion.whole)
            return any(name not in systems.GRAMMARS or systems.GRAMMARS[name](code) for name in of)

        return check

    def validate_code(self, valueset: str, system: str | None, code: str, display: str | None = None) -> Validation:
        expansion = self.expand(valueset)
        if not expansion.contains(system, code):
            return Validation(False, f"The code is not in the value set `{valueset}`.", system)
        if system is None:
            system = next(
                (name for name in (*expansion.codes, *expansion.whole) if expansion.contains(name, code)), None
            )
        if system is None:
            return Validation(True)
        if system in expansion.whole and (grammar := systems.GRAMMARS.get(system)) and not grammar(code):
            return Validation(False, f"The code is not well-formed in `{system}`.", system)
        known = self.display(system, code)
        if display is not None and known is not None and not self._is_display(system, code, display):
            return Validation(False, f"The display is not one that `{system}` gives the code.", system, known)
        return Validation(True, None, system, known)

    def _is_display(self, system: str, code: str, display: str) -> bool:
        concept = self.lookup(system, code)
        names = [concept.display, *(value for _, _, value in concept.designations)]
        return any(name is not None and " ".join(name.split()).casefold() == display.casefold() for name in names)

    # Code systems

    def lookup(self, system: str, code: str) -> Concept:
        release = self._loaded(system)
        at = release.at(code)
        core, details = release.core, release.details
        return Concept(
            system=release.url,
            version=release.version,
            code=core.codes[at],
            display=release.display_at(at),
            definition=(details.definitions[at] if details.definitions else None) or release.display_at(at),
            parents=tuple(core.codes[parent] for parent in core.parents[at]) if core.parents else (),
            children=tuple(core.codes[child] for child in release.children[at]),
            properties=tuple((name, value) for name, value in details.properties.get(str(at), ())),
            designations=tuple((lang, use, text) for lang, use, text in details.designations.get(str(at), ())),
            abstract=at in core.abstract,
            inactive=at in core.inactive,
        )

    def display(self, system: str, code: str) -> str | None:
        self._refresh()
        release = self._system(system, None, None)
        if release is None or not release.has_concepts:
            return None
        try:
            return release.display_at(release.at(code))
        except UnknownCode:
            return None

    def subsumes(self, system: str, a: str, b: str) -> Subsumption:
        release = self._loaded(system)
        first, second = release.at(a), release.at(b)
        if first == second:
            return "equivalent"
        if second in release.below(first):
            return "subsumes"
        if first in release.below(second):
            return "subsumed-by"
        return "not-subsumed"

    def descendants(self, system: str, code: str) -> frozenset[str]:
        release = self._loaded(system)
        return release.codes_at(release.below(release.at(code)))

    def ancestors(self, system: str, code: str) -> frozenset[str]:
        release = self._loaded(system)
        return release.codes_at(release.above(release.at(code)))

    def _loaded(self, system: str) -> System:
        self._refresh()
        url, version = _split(system)
        release = self._system(system, None, None) or (self._system(url, version, None) if version else None)
        if release is None or not release.has_concepts:
            raise UnknownCanonical(system)
        return release

    # Concept maps

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
        """What concept maps make of a code; all packaged maps that fit when `url` is not given.

        `source` and `target` are canonicals of value sets, which must be the map's own. `reverse` reads a map
        backwards; its equivalences then stand as the map has them, target against source.

        Spec:   R4 conceptmap-operation-translate.html
        Raises: UnknownCanonical when no map has this `url`.
        """
        self._refresh()
        found: list[Translation] = []
        for table in [self._map(url)] if url is not None else self._maps(system, reverse):
            if (source is not None and table.source != source) or (target is not None and table.target != target):
                continue
            for group in table.groups:
                here, there = (group.target, group.source) if reverse else (group.source, group.target)
                if here == system and (target_system is None or target_system == there):
                    found.extend(self._translations(table, group, there, code, reverse))
        return found

    def _translations(
        self, table: MapTable, group: MapGroup, there: str, code: str, reverse: bool
    ) -> Iterator[Translation]:
        mapped = False
        for element in group.elements:
            if (element.target if reverse else element.code) != code:
                continue
            mapped = True
            to = element.code if reverse else element.target
            display = self.display(there, element.code) if reverse else element.display
            yield Translation(element.equivalence, there, to, display, element.comment, table.url)
        if mapped or reverse or group.unmapped is None:
            return
        mode, fixed, display, other = group.unmapped
        if mode == "provided":
            yield Translation("equivalent", there, code, None, None, table.url)
        elif mode == "fixed":
            yield Translation("inexact", there, fixed, display, None, table.url)
        elif mode == "other-map" and other is not None and other != table.url:
            for next_group in self._map(other).groups:
                if next_group.source == group.source:
                    for element in next_group.elements:
                        if element.code == code:
                            yield Translation(
                                element.equivalence,
                                next_group.target,
                                element.target,
                                element.display,
                                element.comment,
                                other,
                            )

    def _map(self, canonical: str) -> MapTable:
        url, version = _split(canonical)
        stored = self._find("ConceptMap", url, version)
        packaged = self._packaged.maps.get(url)
        if packaged is not None and version is not None and packaged.version != version:
            packaged = None
        if stored is not None and (packaged is None or _newer(stored.get("version"), packaged.version)):
            return concept_map({**stored, "url": stored.get("url", url)})
        if packaged is None:
            raise UnknownCanonical(canonical)
        return self._packaged.concept_map(packaged)

    def _maps(self, system: str, reverse: bool) -> Iterator[MapTable]:
        for release in self._packaged.maps.values():
            if system in (release.target_systems if reverse else release.source_systems):
                yield self._packaged.concept_map(release)

    # Names and caches

    def alias(self, system: str) -> str:
        return self._packaged.aliases.get(system) or systems.former_name(system) or system

    def forget(self, canonical: str | None = None) -> None:
        """Drops what was computed from stored resources.

        `canonical` is what was written. Everything goes nevertheless: a new resource may be what another value set did
        not find before, and such writes are rare.
        """
        self._systems.clear()
        self._expansions.clear()

    def _refresh(self) -> None:
        if self._resources is not None:
            generation = self._resources.generation()
            if generation != self._generation:
                self.forget()
                self._generation = generation

    def _find(self, resource_type: str, url: str, version: str | None) -> Mapping[str, Any] | None:
        return None if self._resources is None else self._resources.find(resource_type, url, version)

    # Which definition counts

    def _system(self, url: str, version: str | None, origin: str | None) -> System | None:
        """The release of a code system that a definition of `origin` means; None when there is none."""
        if version == "*":
            version = None
        key = (url, version, origin)
        if (known := self._systems.get(key)) is not None:
            return known
        found = self._choose_system(url, version, origin)
        if found is not None:
            _keep(self._systems, key, found, CACHED_SYSTEMS)
        return found

    def _choose_system(self, url: str, version: str | None, origin: str | None) -> System | None:
        releases = [
            release for release in self._packaged.systems.get(url, ()) if version is None or release.version == version
        ]
        packaged = releases[0] if releases else None
        if origin == THO:
            packaged = next((release for release in releases if release.origin == THO), packaged)
        stored = self._find("CodeSystem", url, version)
        if stored is not None and stored.get("content") not in ("not-present", "supplement"):
            table = code_system({**stored, "url": url})
            if packaged is None or packaged.content == "not-present" or _newer(table.version, packaged.version):
                release = SystemRelease(
                    "stored", table.version, table.case_sensitive, table.content, table.hierarchy, [], [], []
                )
                return System(url, release, None, table)
        return None if packaged is None else System(url, packaged, self._packaged, None)

    def _value_set(self, canonical: str) -> tuple[SetTable, str | None]:
        """The definition of a value set, and whose code systems it selects from."""
        url, version = _split(canonical)
        packaged = self._packaged.sets.get(url)
        if packaged is not None and version is not None and packaged.version != version:
            packaged = None
        stored = self._find("ValueSet", url, version)
        if stored is not None and (packaged is None or _newer(stored.get("version"), packaged.version)):
            return value_set(stored), None
        if packaged is not None:
            return self._packaged.value_set(packaged), packaged.origin
        if (implicit := systems.implicit_value_set(canonical)) is not None:
            system, concept, form = implicit
            if form is not None:
                raise NotExpandable(canonical, f"value sets of the form {form} are not computed here.")
            include: dict[str, Any] = {"system": system}
            if concept is not None:
                include["filter"] = [{"property": "concept", "op": "is-a", "value": concept}]
            return SetTable(url=canonical, compose={"include": [include]}), None
        raise UnknownCanonical(canonical)

    # Evaluation

    def _expand(self, canonical: str, within: tuple[str, ...]) -> Expansion:
        if (known := self._expansions.get(canonical)) is not None:
            return known
        if canonical in within:
            raise NotExpandable(canonical, "it includes itself.")
        if len(within) > MAX_NESTING:
            raise NotExpandable(canonical, f"value sets are nested more than {MAX_NESTING} deep.")
        table, own = self._value_set(canonical)
        expansion = self._expansion(canonical, self._evaluate(table, own, (*within, canonical)))
        _keep(self._expansions, canonical, expansion, CACHED_EXPANSIONS)
        return expansion

    def _expansion(self, canonical: str, codes: Codes) -> Expansion:
        listed: dict[str, frozenset[str]] = {}
        whole: dict[str, frozenset[str]] = {}
        folded: dict[str, frozenset[str]] = {}
        for system, (negated, members) in codes.by_system.items():
            (whole if negated else listed)[system] = members
            if self._folds(system):
                same = frozenset(code.casefold() for code in members)
                folded[system] = members if same == members else same
        return Expansion(canonical, listed, whole, folded)

    def _folds(self, system: str) -> bool:
        """Whether case is known not to distinguish the codes of a system; a stored CodeSystem may say so too."""
        known = self.case_sensitivity.get(system)
        if known is None and self._resources is not None:
            release = self._system(system, None, None)
            known = release.case_sensitive if release is not None else None
        return known is False

    def _evaluate(self, table: SetTable, origin: str | None, within: tuple[str, ...]) -> Codes:
        if table.expansion is not None and not self._supersedes(table):
            return Codes({system: (False, frozenset(codes)) for system, codes in table.expansion.items()})
        compose = table.compose
        if compose is None:
            raise NotExpandable(table.url, "it has neither a compose nor a whole expansion.")
        result = Codes({})
        for include in compose.get("include", ()):
            result |= self._include(table, include, origin, within)
        for exclude in compose.get("exclude", ()):
            result -= self._include(table, exclude, origin, within, abstract=True)
        if compose.get("inactive") is False:
            result -= self._inactive(result, origin)
        return result

    def _supersedes(self, table: SetTable) -> bool:
        """Whether a stored code system makes the official expansion unnecessary."""
        if self._resources is None or table.compose is None:
            return False
        filtered = [i["system"] for i in table.compose.get("include", ()) if i.get("filter") and i.get("system")]
        found = [self._system(system, None, None) for system in filtered]
        return bool(found) and all(release is not None and release.has_concepts for release in found)

    def _inactive(self, codes: Codes, origin: str | None) -> Codes:
        result = Codes({})
        for system in codes.by_system:
            release = self._system(system, None, origin)
            if release is not None and release.has_concepts:
                result |= Codes.of(system, release.codes_at(release.core.inactive))
        return result

    def _include(
        self,
        table: SetTable,
        include: Mapping[str, Any],
        origin: str | None,
        within: tuple[str, ...],
        abstract: bool = False,
    ) -> Codes:
        """The codes that meet all conditions of one include.

        Codes that are notSelectable only order the others; they belong to a value set where it lists them, and not
        because it takes a whole hierarchy. R4's own expansions and the default of $validate-code leave them out, too.
        """
        system = include.get("system")
        nested = include.get("valueSet", ())
        if system is None and not nested:
            raise NotExpandable(table.url, "an include names neither a system nor a value set.")
        selected: Codes | None = None
        if system is not None:
            if "concept" in include:
                codes = (concept.get("code") for concept in include["concept"])
                selected = Codes.of(system, (code for code in codes if isinstance(code, str)))
            elif "filter" in include:
                selected = self._filtered(table, include, origin, abstract)
            elif nested:
                pass  # What is left of the value sets once only this system's codes are kept.
            else:
                selected = self._all_of(table, system, include.get("version"), origin, abstract)
        for canonical in nested:
            try:
                inner = self._expand(canonical, within)
            except UnknownCanonical as error:
                raise NotExpandable(table.url, f"it includes `{error.url}`, which is not loaded.") from error
            except NotExpandable as error:
                raise NotExpandable(table.url, f"it includes `{error.url}`: {error.reason}") from error
            part = Codes(
                {name: (False, codes) for name, codes in inner.codes.items()}
                | {name: (True, codes) for name, codes in inner.whole.items()}
            )
            if system is not None:
                part = part.only(system)
            selected = part if selected is None else selected & part
        assert selected is not None
        return selected

    def _pinned(self, system: str, version: str | None, origin: str | None) -> System | None:
        """The release that an include pins.

        Packages pin versions that they do not carry (R4's task-code has 3.6.0 and brings 4.0.1); there the release that
        was published with the value set is meant. What a stored value set pins must be there.
        """
        release = self._system(system, version, origin)
        if release is None and origin is not None:
            return self._system(system, None, origin)
        return release

    def _all_of(self, table: SetTable, system: str, version: str | None, origin: str | None, abstract: bool) -> Codes:
        release = self._pinned(system, version, origin)
        if release is None and version is not None and self._system(system, None, origin) is not None:
            raise NotExpandable(table.url, f"version {version} of `{system}` is not loaded.")
        if release is None or not release.has_concepts or not release.complete:
            # Of an absent or partial code system every code belongs, those that are not known here too.
            return Codes.all_of(system)
        if abstract or not release.core.abstract:
            return Codes.of(system, release.core.codes)
        return Codes.of(system, release.codes_at(set(range(len(release.core.codes))).difference(release.core.abstract)))

    def _filtered(self, table: SetTable, include: Mapping[str, Any], origin: str | None, abstract: bool) -> Codes:
        system = include["system"]
        release = self._pinned(system, include.get("version"), origin)
        if release is None or not release.has_concepts:
            named = f"version {include['version']} of `{system}`" if include.get("version") else f"`{system}`"
            raise NotExpandable(table.url, f"it filters {named}, whose concepts are not loaded.")
        selected: set[int] | None = None
        for given in include["filter"]:
            positions = self._select(table, release, given)
            selected = positions if selected is None else selected & positions
        selected = selected or set()
        return Codes.of(system, release.codes_at(selected if abstract else selected.difference(release.core.abstract)))

    def _select(self, table: SetTable, release: System, given: Mapping[str, Any]) -> set[int]:
        """Positions of the concepts that a filter selects. R4 valueset-filter-operator.html."""
        name, op, value = given.get("property"), given.get("op"), given.get("value")
        if not isinstance(name, str) or not isinstance(value, str):
            raise NotExpandable(table.url, "a filter lacks its property or its value.")
        everything = range(len(release.core.codes))
        if op in ("is-a", "descendent-of", "is-not-a", "generalizes"):
            if name not in ("concept", "code", "parent", "child"):
                raise NotExpandable(table.url, f"the filter {op} is not computed for the property {name}.")
            try:
                at = release.at(value)
            except UnknownCode:
                if release.complete:
                    return set(everything) if op == "is-not-a" else set()
                raise NotExpandable(table.url, f"a filter names a concept that `{release.url}` lacks here.") from None
            if op == "generalizes":
                return release.above(at) | {at}
            below = release.below(at)
            if op == "descendent-of":
                return below
            below.add(at)
            return below if op == "is-a" else set(everything) - below
        if op == "=":
            return {at for at in everything if value in release.property_values(at, name)}
        if op in ("in", "not-in"):
            wanted = {part.strip() for part in value.split(",")}
            inside = {at for at in everything if not wanted.isdisjoint(release.property_values(at, name))}
            return inside if op == "in" else set(everything) - inside
        if op == "exists":
            if value not in ("true", "false"):
                raise NotExpandable(table.url, "the filter `exists` takes true or false.")
            return {at for at in everything if bool(release.property_values(at, name)) is (value == "true")}
        if op == "regex":
            try:
                pattern: re.Pattern[str] = compile_safe(value)
            except Unsafe as error:
                raise NotExpandable(table.url, f"its regular expression is not accepted: {error}.") from error
            return {at for at in everything if any(map(pattern.fullmatch, release.property_values(at, name)))}
        raise NotExpandable(table.url, "it has a filter whose operator R4 does not know.")


def _listed_check(codes: Mapping[str, frozenset[str]]) -> Check:
    """The test of a value set that lists all its codes, case counting: it runs for every coded element written."""
    anywhere = next(iter(codes.values())) if len(codes) == 1 else frozenset().union(*codes.values())

    def check(system: str | None, code: str) -> bool:
        if system is None:
            return code in anywhere
        listed = codes.get(system)
        return listed is not None and code in listed

    return check


def _keep(cache: dict[Any, _T], key: Any, value: _T, limit: int) -> None:
    if len(cache) >= limit:
        cache.pop(next(iter(cache)), None)
    cache[key] = value


def _split(canonical: str) -> tuple[str, str | None]:
    url, bar, version = canonical.partition("|")
    return url, version if bar and version else None


_version_part = re.compile(r"\d+|[^\d.\-+_]+")


def _newer(version: str | None, than: str | None) -> bool:
    """Whether a stored version replaces a packaged one: a newer number or date, or none at all on either side."""
    if version is None or than is None:
        return True
    return _version_key(version) > _version_key(than)


def _version_key(version: str) -> list[tuple[int, int, str]]:
    return [
        (1, int(part), "") if part.isdigit() else (0, 0, part.casefold()) for part in _version_part.findall(version)
    ]


__all__ = ["R4", "THO", "Codes", "Local", "System"]
