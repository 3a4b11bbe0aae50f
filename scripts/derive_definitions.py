"""Derive the committed tables of ``fhir_server/definitions`` from the official R4 4.0.1 packages.

    python scripts/derive_definitions.py EXAMPLES_DIR EXPANSIONS_DIR [--out DIR]

`EXAMPLES_DIR` is the unpacked directory ``package`` of hl7.fhir.r4.examples 4.0.1 (it holds every StructureDefinition,
SearchParameter, CompartmentDefinition, CodeSystem and ValueSet of the specification), `EXPANSIONS_DIR` that of
hl7.fhir.r4.expansions 4.0.1. The text of the specification is taken as it is: where it contradicts itself, the code
that reads the tables decides, and says so there. The output is sorted and has one type, parameter or value set per
line, so that a difference can be read.

The shapes of the tables are documented in ``fhir_server/definitions/__init__.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

SD = "http://hl7.org/fhir/StructureDefinition/"
FHIR_TYPE = SD + "structuredefinition-fhir-type"
REGEX = SD + "regex"
MAX_VALUE_SET = SD + "elementdefinition-maxValueSet"
SYSTEM_TYPE = "http://hl7.org/fhirpath/System."

#: Common search parameters of search.html#all that have no SearchParameter resource in the package.
SYNTHETIC_PARAMETERS = (("_has", "special"), ("_list", "special"), ("_type", "special"))

#: Value sets of required bindings that are no list of codes, and the syntax of their codes instead. LOINC's answer
#: list is in no package, so nothing can be said about its codes.
OPEN_VALUE_SETS = {
    "http://hl7.org/fhir/ValueSet/mimetypes": "mimetype",
    "http://hl7.org/fhir/ValueSet/ucum-units": "ucum",
    "http://loinc.org/vs/LL379-9": "any",
}


def load(directory: Path, resource_type: str) -> Iterator[dict[str, Any]]:
    """Every resource of one type in an unpacked package, in file-name order."""
    for path in sorted(directory.glob(f"{resource_type}-*.json")):
        resource = json.loads(path.read_bytes())
        if resource.get("resourceType") == resource_type:
            yield resource


def extension_value(element: Mapping[str, Any], url: str) -> str | None:
    """The value of the first extension with `url`, whatever its value[x] is."""
    for extension in element.get("extension", ()):
        if extension["url"] == url:
            return next(str(value) for key, value in extension.items() if key.startswith("value"))
    return None


def unversioned(canonical: str) -> str:
    return canonical.split("|", 1)[0]


# --- structures -----------------------------------------------------------------------------------------------------


def is_wanted(definition: Mapping[str, Any]) -> bool:
    """Types of R4 itself, and the one profile on a data type that elements of R4 refer to."""
    if definition["kind"] == "logical" or definition["url"] != SD + definition["name"]:
        return False
    return definition.get("derivation") != "constraint" or definition["name"] == "SimpleQuantity"


def structures(directory: Path) -> dict[str, Any]:
    """Types, and backbone elements under their path, in definition order of their elements."""
    definitions = [d for d in load(directory, "StructureDefinition") if is_wanted(d)]
    type_constraints = {
        d["name"]: {c["key"] for c in d["snapshot"]["element"][0].get("constraint", ())} for d in definitions
    }
    table: dict[str, Any] = {}
    for definition in definitions:
        add_structure(table, definition, type_constraints)
    return table


def add_structure(
    table: dict[str, Any], definition: Mapping[str, Any], type_constraints: Mapping[str, set[str]]
) -> None:
    name = definition["name"]
    kind = {"resource": "resource", "complex-type": "complex", "primitive-type": "primitive"}[definition["kind"]]
    elements = definition["snapshot"]["element"]
    root_path = elements[0]["path"]
    parents = {e["path"] for e in elements if any(o["path"].startswith(e["path"] + ".") for o in elements)}
    root: dict[str, Any] = {"kind": "profile" if definition.get("derivation") == "constraint" else kind}
    if "baseDefinition" in definition:
        root["base"] = definition["baseDefinition"].removeprefix(SD)
    if definition["abstract"]:
        root["abstract"] = True
    root["elements"] = {}
    constraints = [constraint(c) for c in elements[0].get("constraint", ())]
    if constraints:
        root["constraints"] = constraints
    table[name] = root
    for element in elements[1:]:
        path = name + element["path"].removeprefix(root_path)
        owner, _, last = path.rpartition(".")
        if kind == "primitive" and last == "value":
            add_primitive_value(root, element)
            continue
        table[owner]["elements"][last.removesuffix("[x]")] = entry(path, element, path in parents, type_constraints)
        if element["path"] in parents:
            code = element["type"][0]["code"]
            table[path] = {"kind": "backbone", "base": code, "elements": {}}
            # The constraints of a backbone element are those of its own definition; ele-1 comes with its base type.
            own = [constraint(c) for c in element.get("constraint", ()) if c["key"] not in type_constraints[code]]
            if own:
                table[path]["constraints"] = own


def add_primitive_value(root: dict[str, Any], element: Mapping[str, Any]) -> None:
    """Regex and limits of a primitive's value."""
    regex = extension_value(element["type"][0], REGEX)
    if regex is not None:
        root["regex"] = regex
    for key, source in (("minValue", "minValueInteger"), ("maxValue", "maxValueInteger"), ("maxLength", "maxLength")):
        if source in element:
            root[key] = element[source]


def constraint(source: Mapping[str, Any]) -> dict[str, Any]:
    result = {"key": source["key"], "severity": source["severity"], "human": source["human"]}
    if "expression" in source:
        result["expression"] = source["expression"]
    if extension_value(source, SD + "elementdefinition-bestpractice") == "True":
        result["bestPractice"] = True
    return result


def element_types(path: str, element: Mapping[str, Any]) -> list[str]:
    """The types of an element as FHIR types: ``System.String`` becomes what its fhir-type extension says."""
    result = []
    for item in element.get("type", ()):
        code = item["code"]
        if code.startswith(SYSTEM_TYPE):
            code = extension_value(item, FHIR_TYPE) or code.removeprefix(SYSTEM_TYPE).lower()
            # The snapshot says "string" for the id of a resource; resource.html#id says id.
            if path.count(".") == 1 and path.endswith(".id") and element["base"]["path"] == "Resource.id":
                code = "id"
        result.append(code)
    return result


def entry(
    path: str, element: Mapping[str, Any], is_parent: bool, type_constraints: Mapping[str, set[str]]
) -> dict[str, Any]:
    """One element as the table holds it."""
    types = element_types(path, element)
    result: dict[str, Any] = {
        "min": element["min"],
        "max": None if element["max"] == "*" else int(element["max"]),
        "types": types,
    }
    if path.endswith("[x]"):
        result["choice"] = True
    if "contentReference" in element:
        result["ref"] = element["contentReference"].removeprefix("#")
    elif is_parent:
        result["ref"] = path
    for item in element.get("type", ()):
        add_profiles(result, item)
    if "binding" in element and "valueSet" in element["binding"]:
        result["binding"] = [element["binding"]["strength"], unversioned(element["binding"]["valueSet"])]
        maximum = extension_value(element["binding"], MAX_VALUE_SET)
        if maximum is not None:
            result["maxBinding"] = maximum
    for key, flag in (("isSummary", "summary"), ("isModifier", "modifier")):
        if element.get(key):
            result[flag] = True
    if "xmlAttr" in element.get("representation", ()):
        result["xml"] = "attr"
    elif types == ["xhtml"]:
        result["xml"] = "xhtml"
    if not is_parent:
        inherited = set().union(*(type_constraints.get(t, set()) for t in types), {"ele-1"})
        own = [constraint(c) for c in element.get("constraint", ()) if c["key"] not in inherited]
        if own:
            result["constraints"] = own
    return result


def add_profiles(result: dict[str, Any], item: Mapping[str, Any]) -> None:
    """Reference and canonical targets (absent when any type may be referenced) and the profile of a data type."""
    targets = [t.removeprefix(SD) for t in item.get("targetProfile", ())]
    if targets and "Resource" not in targets:
        result["canonicalTargets" if item["code"] == "canonical" else "targets"] = targets
    if "profile" in item:
        result["profile"] = item["profile"][0].removeprefix(SD)


# --- search parameters, compartments --------------------------------------------------------------------------------


def search_parameters(directory: Path) -> list[dict[str, Any]]:
    """The official search parameters that apply to R4's own resource types.

    Left out: ``SearchParameter/example*`` (three teaching examples), and those without base or expression but for the
    common ones of search.html#all, which are marked ``special``.
    """
    result = []
    for source in load(directory, "SearchParameter"):
        if source["id"].startswith("example") or "base" not in source:
            continue
        special = source["code"].startswith("_") and "expression" not in source
        if "expression" not in source and not special:
            continue
        result.append(search_parameter(source, special))
    for code, kind in SYNTHETIC_PARAMETERS:
        result.append(
            {
                "base": ["Resource"],
                "code": code,
                "id": f"Resource{code.replace('_', '-')}",
                "special": True,
                "synthetic": True,
                "type": kind,
            }
        )
    return sorted(result, key=lambda p: p["id"])


def search_parameter(source: Mapping[str, Any], special: bool) -> dict[str, Any]:
    keys = ("base", "code", "expression", "id", "multipleAnd", "multipleOr", "target", "type", "url", "xpathUsage")
    result = {key: source[key] for key in keys if key in source}
    if source.get("component"):
        result["component"] = [
            {"definition": c["definition"], "expression": c["expression"]} for c in source["component"]
        ]
    if special:
        result["special"] = True
    return result


def compartments(directory: Path) -> dict[str, dict[str, list[str]]]:
    """Compartment code -> resource type -> the parameters that make it a member; a type that is no member is absent."""
    result = {}
    for source in load(directory, "CompartmentDefinition"):
        if source["id"] != "example":
            result[source["code"]] = {r["code"]: r["param"] for r in source["resource"] if r.get("param")}
    return result


# --- required bindings ----------------------------------------------------------------------------------------------


def required_codes(types: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Value set of a required binding -> {"systems": {system: [code, ...]}} or {"syntax": "mimetype" | "ucum" |

    "any"}.
    """
    wanted = {
        element["binding"][1]
        for item in types.values()
        for element in item["elements"].values()
        if element.get("binding", ("",))[0] == "required"
    }
    result: dict[str, Any] = {url: {"syntax": syntax} for url, syntax in OPEN_VALUE_SETS.items()}
    for source in load(directory, "ValueSet"):
        if source["url"] in wanted and source["url"] not in OPEN_VALUE_SETS:
            if source["expansion"].get("extension"):
                raise SystemExit(f"The expansion of {source['url']} is not complete.")
            systems: dict[str, list[str]] = {}
            for system, code in contained_codes(source["expansion"].get("contains", ())):
                systems.setdefault(system, []).append(code)
            result[source["url"]] = {"systems": systems}
    missing = wanted - result.keys()
    if missing:
        raise SystemExit(f"No expansion for {sorted(missing)}.")
    return result


def contained_codes(contains: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(system, code) of every selectable entry of an expansion, nested ones included."""
    for item in contains:
        if "code" in item and not item.get("abstract"):
            yield item["system"], item["code"]
        yield from contained_codes(item.get("contains", ()))


# --- writing --------------------------------------------------------------------------------------------------------


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write_table(path: Path, table: Mapping[str, Any]) -> None:
    """One key per line, keys sorted; the order inside a value is kept (elements are in definition order)."""
    lines = [f"{compact(key)}:{compact(table[key])}" for key in sorted(table)]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def write_list(path: Path, items: Iterable[Any]) -> None:
    """One item per line."""
    path.write_text("[\n" + ",\n".join(compact(item) for item in items) + "\n]\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Derive the tables of fhir_server/definitions from the official packages."
    )
    parser.add_argument("examples", type=Path, help="the unpacked package directory of hl7.fhir.r4.examples 4.0.1")
    parser.add_argument("expansions", type=Path, help="the unpacked package directory of hl7.fhir.r4.expansions 4.0.1")
    default_out = Path(__file__).resolve().parent.parent / "fhir_server" / "definitions"
    parser.add_argument("--out", type=Path, default=default_out, help="where the tables are written")
    arguments = parser.parse_args()
    for directory, name in (
        (arguments.examples, "hl7.fhir.r4.examples"),
        (arguments.expansions, "hl7.fhir.r4.expansions"),
    ):
        package = json.loads((directory / "package.json").read_text(encoding="utf-8"))
        if (package["name"], package["version"]) != (name, "4.0.1"):
            print(f"{directory} is not the package {name} 4.0.1.", file=sys.stderr)
            return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    types = structures(arguments.examples)
    write_table(arguments.out / "structures.json", types)
    parameters = search_parameters(arguments.examples)
    write_list(arguments.out / "search_parameters.json", parameters)
    write_table(arguments.out / "compartments.json", compartments(arguments.examples))
    write_table(arguments.out / "required_codes.json", required_codes(types, arguments.expansions))
    concrete = sum(1 for t in types.values() if t["kind"] == "resource" and not t.get("abstract"))
    expressed = sum(1 for p in parameters if "expression" in p)
    print(f"{concrete} resource types, {len(types)} structures, {expressed} search parameters with base and expression")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
