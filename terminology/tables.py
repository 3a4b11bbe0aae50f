"""The compact form of CodeSystem, ValueSet and ConceptMap, and the packaged tables in that form.

`code_system`, `value_set` and `concept_map` turn a resource (parsed JSON) into a table; scripts/derive_terminology.py
applies them to the official packages, terminology/local.py to what is stored on the server, so both are evaluated by
the same code. `Packaged` reads what the script wrote:

    data/codesystems.json   url -> releases: [origin, version, caseSensitive, content, hierarchyMeaning, three places]
    data/valuesets.json     url -> release: [origin, version, place]
    data/conceptmaps.json   url -> release: [version, source, target, source systems, target systems, place]
    data/aliases.json       other names of a system -> its usual uri
    data/packaged.bin       zlib blocks, each a JSON array; a place is [offset, length, position in the array]

Nothing but the list of code systems is read before it is asked for, and a table keeps codes, displays and details in
different blocks, because search and bindings need only the first.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec

DATA: Final = Path(__file__).parent / "data"

R4: Final = "r4"
"""Origin of what hl7.fhir.r4.examples 4.0.1 defines; preferred."""
THO: Final = "tho"
"""Origin of what hl7.terminology.r4 adds."""

_CONCEPT_PROPERTIES: Final = "http://hl7.org/fhir/concept-properties#"
_PARENT_CODES: Final = frozenset({"parent", "subsumedBy"})
_INACTIVE_STATUS: Final = frozenset({"retired", "inactive"})

Place = list[int]


class SystemRelease(msgspec.Struct, array_like=True, frozen=True):
    """What is known about one release of a code system before its concepts are read."""

    origin: str
    version: str | None
    case_sensitive: bool | None
    content: str
    hierarchy: str | None
    core: Place
    displays: Place
    details: Place


class SetRelease(msgspec.Struct, array_like=True, frozen=True):
    """Where the packaged definition of a value set is."""

    origin: str
    version: str | None
    place: Place


class MapRelease(msgspec.Struct, array_like=True, frozen=True):
    """Where a packaged concept map is, and which systems it maps."""

    version: str | None
    source: str | None
    target: str | None
    source_systems: list[str]
    target_systems: list[str]
    place: Place


class Core(msgspec.Struct, frozen=True, omit_defaults=True):
    """Codes and hierarchy of a code system. Numbers are positions in `codes`; `parents` is empty when it is flat."""

    codes: list[str]
    parents: list[list[int]] = []
    abstract: list[int] = []
    inactive: list[int] = []


class Details(msgspec.Struct, frozen=True, omit_defaults=True):
    """What $lookup and property filters need: definitions, designations and properties, by position of the code.

    A property is [code, value]; a Coding as value stays an object. A designation is [language, use code, value].
    """

    definitions: list[str | None] = []
    designations: dict[str, list[list[str | None]]] = {}
    properties: dict[str, list[list[Any]]] = {}


class Table(msgspec.Struct, frozen=True):
    """A code system, complete, in memory."""

    url: str
    version: str | None
    case_sensitive: bool | None
    content: str
    hierarchy: str | None
    core: Core
    displays: list[str | None]
    details: Details


def code_system(resource: Mapping[str, Any]) -> Table:
    """The table of a CodeSystem resource.

    A child is found by nesting, by a `parent` or `subsumedBy` property, and by a `child` property of its parent
    (v3 code systems say with it that a concept has several parents). A code that appears twice is one concept.

    Spec: R4 codesystem.html#hierarchy, codesystem-concept-properties.html
    """
    parent_codes, child_codes = set(_PARENT_CODES), {"child"}
    for declared in resource.get("property", ()):
        if declared.get("uri") == _CONCEPT_PROPERTIES + "parent":
            parent_codes.add(declared["code"])
        elif declared.get("uri") == _CONCEPT_PROPERTIES + "child":
            child_codes.add(declared["code"])

    codes: list[str] = []
    displays: list[str | None] = []
    definitions: list[str | None] = []
    position: dict[str, int] = {}
    links: list[tuple[str, str]] = []  # (child, parent)
    abstract: set[int] = set()
    inactive: set[int] = set()
    designations: dict[str, list[list[str | None]]] = {}
    properties: dict[str, list[list[Any]]] = {}

    stack: list[tuple[Mapping[str, Any], str | None]] = [(c, None) for c in reversed(resource.get("concept", ()))]
    while stack:
        concept, parent = stack.pop()
        code = concept.get("code")
        if not isinstance(code, str):
            continue
        at = position.get(code)
        if at is None:
            at = position[code] = len(codes)
            codes.append(code)
            displays.append(concept.get("display"))
            definitions.append(concept.get("definition"))
        if parent is not None:
            links.append((code, parent))
        for designation in concept.get("designation", ()):
            use = (designation.get("use") or {}).get("code")
            designations.setdefault(str(at), []).append([designation.get("language"), use, designation.get("value")])
        for entry in concept.get("property", ()):
            name, value = entry.get("code"), _property_value(entry)
            if name is None or value is None:
                continue
            if name in parent_codes and isinstance(value, str):
                links.append((code, value))
            elif name in child_codes and isinstance(value, str):
                links.append((value, code))
            else:
                if name == "notSelectable" and value is True:
                    abstract.add(at)
                elif (name == "inactive" and value is True) or (name == "status" and value in _INACTIVE_STATUS):
                    inactive.add(at)
                properties.setdefault(str(at), []).append([name, value])
        stack.extend((child, code) for child in reversed(concept.get("concept", ())))

    parents: list[list[int]] = [[] for _ in codes]
    for child, parent in links:
        here, there = position.get(child), position.get(parent)
        # A property may name a concept that this code system does not have; nothing follows from it.
        if here is not None and there is not None and here != there and there not in parents[here]:
            parents[here].append(there)
    flat = not any(parents)
    return Table(
        url=resource["url"],
        version=resource.get("version"),
        case_sensitive=resource.get("caseSensitive"),
        content=resource.get("content", "complete"),
        hierarchy=resource.get("hierarchyMeaning"),
        core=Core(codes, [] if flat else parents, sorted(abstract), sorted(inactive)),
        displays=displays,
        details=Details(definitions, designations, properties),
    )


def _property_value(entry: Mapping[str, Any]) -> Any:
    for key, value in entry.items():
        if key.startswith("value"):
            return value
    return None


class SetTable(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value set: its compose in FHIR's own shape, and the codes of its official expansion where that decides."""

    url: str
    version: str | None = None
    title: str | None = None
    compose: dict[str, Any] | None = None
    expansion: dict[str, list[str]] | None = None


def value_set(resource: Mapping[str, Any]) -> SetTable:
    """The table of a ValueSet resource: url, version, title and those parts of compose that select codes.

    `expansion` is taken from the resource only when there is no compose and the expansion says that it is whole.
    """
    compose = resource.get("compose")
    expansion = None
    if compose is None and (stored := resource.get("expansion")) is not None and whole_expansion(stored):
        expansion = expansion_codes(stored)
    return SetTable(
        url=resource.get("url", ""),
        version=resource.get("version"),
        title=resource.get("title") or resource.get("name"),
        compose=None if compose is None else _compose(compose),
        expansion=expansion,
    )


def _compose(compose: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if isinstance(compose.get("inactive"), bool):
        result["inactive"] = compose["inactive"]
    for part in ("include", "exclude"):
        if part not in compose:
            continue
        result[part] = includes = []
        for include in compose[part]:
            kept = {key: include[key] for key in ("system", "version", "valueSet") if include.get(key)}
            if include.get("concept"):
                kept["concept"] = [
                    {key: concept[key] for key in ("code", "display") if key in concept}
                    for concept in include["concept"]
                ]
            if include.get("filter"):
                kept["filter"] = [
                    {key: given.get(key) for key in ("property", "op", "value")} for given in include["filter"]
                ]
            includes.append(kept)
    return result


def expansion_codes(expansion: Mapping[str, Any]) -> dict[str, list[str]]:
    """System -> codes of ValueSet.expansion, nested entries included, abstract ones left out."""
    found: dict[str, dict[str, None]] = {}
    stack = list(reversed(expansion.get("contains", ())))
    while stack:
        entry = stack.pop()
        if "code" in entry and entry.get("abstract") is not True:
            found.setdefault(entry.get("system", ""), {})[entry["code"]] = None
        stack.extend(reversed(entry.get("contains", ())))
    return {system: list(codes) for system, codes in found.items()}


def whole_expansion(expansion: Mapping[str, Any]) -> bool:
    """Whether an expansion lists everything: not cut as too costly, not one page of several."""
    for extension in expansion.get("extension", ()):
        if extension.get("url") == "http://hl7.org/fhir/StructureDefinition/valueset-toocostly":
            return False
    listed = sum(len(codes) for codes in expansion_codes(expansion).values())
    return not expansion.get("offset") and expansion.get("total", listed) <= listed


class MapElement(msgspec.Struct, array_like=True, frozen=True):
    """One mapping: source code, equivalence, target code (None when unmatched), its display, the comment."""

    code: str
    equivalence: str
    target: str | None
    display: str | None = None
    comment: str | None = None


class MapGroup(msgspec.Struct, frozen=True, omit_defaults=True):
    """ConceptMap.group; `unmapped` is (mode, code, display, url)."""

    source: str
    target: str
    elements: list[MapElement]
    unmapped: tuple[str, str | None, str | None, str | None] | None = None


class MapTable(msgspec.Struct, frozen=True, omit_defaults=True):
    """A concept map. `source` and `target` are canonicals of value sets."""

    url: str
    version: str | None
    source: str | None
    target: str | None
    groups: list[MapGroup]


def concept_map(resource: Mapping[str, Any]) -> MapTable:
    """The table of a ConceptMap resource."""
    groups = []
    for group in resource.get("group", ()):
        elements = []
        for element in group.get("element", ()):
            if "code" not in element:
                continue
            targets = element.get("target") or [{"equivalence": "unmatched"}]
            for target in targets:
                elements.append(
                    MapElement(
                        element["code"],
                        target.get("equivalence", "equivalent"),
                        target.get("code"),
                        target.get("display"),
                        target.get("comment"),
                    )
                )
        unmapped = group.get("unmapped")
        groups.append(
            MapGroup(
                group.get("source", ""),
                group.get("target", ""),
                elements,
                None
                if unmapped is None
                else (unmapped.get("mode", ""), unmapped.get("code"), unmapped.get("display"), unmapped.get("url")),
            )
        )
    return MapTable(
        url=resource["url"],
        version=resource.get("version"),
        source=resource.get("sourceCanonical") or resource.get("sourceUri"),
        target=resource.get("targetCanonical") or resource.get("targetUri"),
        groups=groups,
    )


_releases = msgspec.json.Decoder(dict[str, list[SystemRelease]])
_sets = msgspec.json.Decoder(dict[str, SetRelease])
_maps = msgspec.json.Decoder(dict[str, MapRelease])
_raw_list = msgspec.json.Decoder(list[msgspec.Raw])
_core = msgspec.json.Decoder(Core)
_displays = msgspec.json.Decoder(list[str | None])
_details = msgspec.json.Decoder(Details)
_set_table = msgspec.json.Decoder(SetTable)
_map_table = msgspec.json.Decoder(MapTable)


class Packaged:
    """The tables that scripts/derive_terminology.py wrote; each part is read when it is first asked for.

    Decoded tables are handed out, not kept: who needs one again keeps it.
    """

    def __init__(self, directory: Path = DATA) -> None:
        self._directory = directory
        self.systems: dict[str, list[SystemRelease]] = _releases.decode((directory / "codesystems.json").read_bytes())

    @cached_property
    def sets(self) -> dict[str, SetRelease]:
        return _sets.decode((self._directory / "valuesets.json").read_bytes())

    @cached_property
    def maps(self) -> dict[str, MapRelease]:
        return _maps.decode((self._directory / "conceptmaps.json").read_bytes())

    @cached_property
    def aliases(self) -> dict[str, str]:
        return msgspec.json.decode((self._directory / "aliases.json").read_bytes(), type=dict[str, str])

    def core(self, release: SystemRelease) -> Core:
        return _core.decode(self._read(release.core))

    def displays(self, release: SystemRelease) -> list[str | None]:
        return _displays.decode(self._read(release.displays))

    def details(self, release: SystemRelease) -> Details:
        return _details.decode(self._read(release.details))

    def value_set(self, release: SetRelease) -> SetTable:
        return _set_table.decode(self._read(release.place))

    def concept_map(self, release: MapRelease) -> MapTable:
        return _map_table.decode(self._read(release.place))

    def _read(self, place: Place) -> msgspec.Raw:
        offset, length, position = place
        # Opened for each read: reads are rare (once per table), and an open file must not be shared across a fork.
        with (self._directory / "packaged.bin").open("rb") as file:
            file.seek(offset)
            block = file.read(length)
        return _raw_list.decode(zlib.decompress(block))[position]


def write_blocks(directory: Path, groups: Iterable[tuple[int, list[bytes]]]) -> list[list[Place]]:
    """Writes packaged.bin: every group of JSON items in blocks of about `size` bytes; the places of each group's items.

    Small items share a block because they compress three times better together; a big one has its own.
    """
    places: list[list[Place]] = []
    offset = 0
    with (directory / "packaged.bin").open("wb") as file:
        for size, items in groups:
            group: list[Place] = []
            start = 0
            while start < len(items):
                end, total = start, 0
                while end < len(items) and (end == start or total + len(items[end]) <= size):
                    total += len(items[end])
                    end += 1
                block = zlib.compress(b"[" + b",".join(items[start:end]) + b"]", 9)
                file.write(block)
                group.extend([offset, len(block), number] for number in range(end - start))
                offset += len(block)
                start = end
            places.append(group)
    return places
