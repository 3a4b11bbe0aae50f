"""Derives terminology/data/ from the official packages.

    python scripts/derive_terminology.py EXAMPLES_DIR EXPANSIONS_DIR TERMINOLOGY_DIR

The arguments are the unpacked `package` directories of hl7.fhir.r4.examples 4.0.1, hl7.fhir.r4.expansions 4.0.1 and
hl7.terminology.r4. The result is deterministic: the same packages give the same tables. What is kept, and why, is in
docs/terminology.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from terminology import tables

SYSTEM_BLOCK = 48_000
SET_BLOCK = 32_000

CUT_AT = 1_000
"""Codes of one system from which on an official expansion counts as cut."""

LISTED = frozenset({"urn:iso:std:iso:4217"})
"""Absent systems whose official list decides even where all of the system is included: Money.currency requires it."""

# Properties of hl7.terminology that describe how HL7 keeps its own tables; no filter and no $lookup needs them.
BOOKKEEPING = (
    "internalId",
    "v2-",
    "vocab-domain",
    "source",
    "steward",
    "contextBinding",
    "Name:",
    "OID",
    "ConceptualSpace",
    "HL7usageNotes",
    "openIssue",
    "rim-",
)


def resources(directory: Path, resource_type: str) -> Iterator[dict[str, Any]]:
    """The resources of a type, in the order of their files' names."""
    for path in sorted(directory.glob(f"{resource_type}-*.json")):
        resource = json.loads(path.read_text(encoding="utf-8"))
        if resource.get("resourceType") == resource_type:
            yield resource


def without_bookkeeping(details: tables.Details, displays: list[str | None]) -> tables.Details:
    properties = {
        at: kept
        for at, entries in details.properties.items()
        if (
            kept := [
                entry
                for entry in entries
                if not entry[0].startswith(BOOKKEEPING) and entry != ["status", "active"] and entry[1] != ""
            ]
        )
    }
    # Many definitions only repeat the display; $lookup gains nothing from them.
    definitions = [
        None if text is None or text == display else text
        for text, display in zip(details.definitions, displays, strict=True)
    ]
    return tables.Details(definitions if any(definitions) else [], details.designations, properties)


def compact(displays: list[str | None]) -> list[str | None]:
    return displays if any(displays) else []


def needs_official(table: tables.SetTable, computable: set[str]) -> bool:
    """Whether a compose filters a code system whose concepts we do not have, or includes all of a LISTED one.

    Including all of any other absent system needs no list: every code of it belongs, new ones too.
    """
    compose = table.compose or {}
    return any(
        include.get("system") in LISTED or (bool(include.get("filter")) and include.get("system") not in computable)
        for part in ("include", "exclude")
        for include in compose.get(part, ())
        if "concept" not in include
    )


def official_codes(expansion: dict[str, Any], computable: set[str]) -> dict[str, list[str]]:
    """The codes of an official expansion; nothing when it is not certainly whole.

    The publisher asked its terminology server for at most 1,000 codes of an include, and did not always mark what was
    cut (encounter-reason has exactly 4,000, from four includes); an absent system with that many codes is not believed.
    """
    if not tables.whole_expansion(expansion):
        return {}
    codes = tables.expansion_codes(expansion)
    cut = any(len(listed) >= CUT_AT for system, listed in codes.items() if system not in computable)
    return {} if cut else codes


def derive(examples: Path, expansions: Path, terminology: Path, out: Path) -> None:
    systems: dict[str, list[tuple[str, tables.Table]]] = {}
    for origin, directory in ((tables.R4, examples), (tables.THO, terminology)):
        for resource in resources(directory, "CodeSystem"):
            table = tables.code_system(resource)
            if table.content == "supplement":
                continue  # It adds to another code system and has no codes of its own.
            releases = systems.setdefault(table.url, [])
            if all(known.core != table.core or origin == kept for kept, known in releases):
                releases.append((origin, table))
            elif releases[0][1].case_sensitive is None and table.case_sensitive is not None:
                kept, known = releases[0]
                releases[0] = (kept, msgspec.structs.replace(known, case_sensitive=table.case_sensitive))
    computable = {
        url for url, releases in systems.items() if any(table.content != "not-present" for _, table in releases)
    }

    official = {resource["url"]: resource["expansion"] for resource in resources(expansions, "ValueSet")}
    sets: dict[str, tuple[str, tables.SetTable]] = {}
    for origin, directory in ((tables.R4, examples), (tables.R4, expansions), (tables.THO, terminology)):
        for resource in resources(directory, "ValueSet"):
            defined = tables.value_set(resource)
            if defined.url in sets:
                continue
            expansion = official.get(defined.url)
            if expansion and needs_official(defined, computable):
                codes = official_codes(expansion, computable)
                if codes:
                    defined = msgspec.structs.replace(defined, expansion=codes)
            sets[defined.url] = (origin, defined)

    maps: dict[str, tables.MapTable] = {}
    for resource in resources(examples, "ConceptMap"):
        maps.setdefault(resource["url"], tables.concept_map(resource))

    flat = [(url, origin, table) for url, releases in sorted(systems.items()) for origin, table in releases]
    ordered_sets = sorted(sets.items())
    ordered_maps = sorted(maps.items())
    encode = msgspec.json.encode
    out.mkdir(parents=True, exist_ok=True)
    cores, displays, details, set_places, map_places = tables.write_blocks(
        out,
        [
            (SYSTEM_BLOCK, [encode(table.core) for _, _, table in flat]),
            (SYSTEM_BLOCK, [encode(compact(table.displays)) for _, _, table in flat]),
            (SYSTEM_BLOCK, [encode(without_bookkeeping(table.details, table.displays)) for _, _, table in flat]),
            (SET_BLOCK, [encode(table) for _, (_, table) in ordered_sets]),
            (SET_BLOCK, [encode(table) for _, table in ordered_maps]),
        ],
    )

    system_index: dict[str, list[tables.SystemRelease]] = {}
    for number, (url, origin, table) in enumerate(flat):
        system_index.setdefault(url, []).append(
            tables.SystemRelease(
                origin,
                table.version,
                table.case_sensitive,
                table.content,
                table.hierarchy,
                cores[number],
                displays[number],
                details[number],
            )
        )
    write_index(out / "codesystems.json", system_index)
    write_index(
        out / "valuesets.json",
        {
            url: tables.SetRelease(origin, table.version, place)
            for (url, (origin, table)), place in zip(ordered_sets, set_places, strict=True)
        },
    )
    write_index(
        out / "conceptmaps.json",
        {
            url: tables.MapRelease(
                table.version,
                table.source,
                table.target,
                sorted({group.source for group in table.groups}),
                sorted({group.target for group in table.groups}),
                place,
            )
            for (url, table), place in zip(ordered_maps, map_places, strict=True)
        },
    )
    write_index(out / "aliases.json", aliases(terminology, examples))


def aliases(*directories: Path) -> dict[str, str]:
    """Every other name of a code or identifier system (OID, former uri) -> the uri that R4 resources use.

    From NamingSystem.uniqueId: the `hl7.org/fhir/sid/` uri where there is one, else the preferred, else the first;
    and from CodeSystem.identifier, which carries the OID. Names claimed by two systems are left out.
    """
    found: dict[str, str | None] = {}

    def claim(name: str, uri: str) -> None:
        if name != uri:
            found[name] = uri if found.get(name, uri) == uri else None

    for directory in directories:
        for resource in resources(directory, "NamingSystem"):
            identifiers = [i for i in resource.get("uniqueId", ()) if i.get("value")]
            uris = [i for i in identifiers if i.get("type") == "uri" and i["value"].startswith(("http", "urn:"))]
            if not uris:
                continue
            uris.sort(key=lambda i: ("hl7.org/fhir/sid/" not in i["value"], not i.get("preferred")))
            uri = uris[0]["value"]
            for identifier in identifiers:
                prefix = "urn:oid:" if identifier.get("type") == "oid" else ""
                claim(prefix + identifier["value"].removeprefix("urn:oid:"), uri)
        for resource in resources(directory, "CodeSystem"):
            for identifier in resource.get("identifier", ()):
                if str(identifier.get("value", "")).startswith("urn:oid:"):
                    claim(identifier["value"], resource["url"])
    return {name: uri for name, uri in found.items() if uri is not None}


def write_expected(expansions: Path, path: Path) -> None:
    """The official expansions as url -> system -> codes; null for what the publisher cut. gzip."""
    expected = {}
    for resource in resources(expansions, "ValueSet"):
        codes = tables.expansion_codes(resource["expansion"])
        cut = not tables.whole_expansion(resource["expansion"])
        expected[resource["url"]] = None if cut else {system: sorted(codes[system]) for system in sorted(codes)}
    text = json.dumps(expected, sort_keys=True, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def write_index(path: Path, index: dict[str, Any]) -> None:
    """One line for each key, so that a new release of a package is a readable difference."""
    lines = [f"{json.dumps(key)}:{msgspec.json.encode(value).decode()}" for key, value in sorted(index.items())]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples", type=Path, help="package directory of hl7.fhir.r4.examples")
    parser.add_argument("expansions", type=Path, help="package directory of hl7.fhir.r4.expansions")
    parser.add_argument("terminology", type=Path, help="package directory of hl7.terminology.r4")
    parser.add_argument("--expected", type=Path, help="also write the official expansions, for the tests")
    parser.add_argument("--out", type=Path, default=tables.DATA, help="where to write (default: terminology/data)")
    given = parser.parse_args()
    derive(given.examples, given.expansions, given.terminology, given.out)
    if given.expected is not None:
        write_expected(given.expansions, given.expected)
    for path in sorted(given.out.iterdir()):
        print(f"{path.stat().st_size:>10,}  {path.name}")


if __name__ == "__main__":
    main()
