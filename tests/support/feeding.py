"""Which searches must find a resource: worked out from the official expressions by FHIRPath, not by the extractor.

For every search parameter that the content of a resource feeds there are a few values, made of the content as R4's
tables of each parameter type say (search.html 3.1.1.4.8 to 3.1.1.4.15), and one value that must not match.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any
from urllib.parse import quote

from fhir_server.definitions import resource_types, search_parameters, structures
from fhir_server.fhirpath import compile_expression
from fhir_server.fhirpath.model import json_members

MOST = 3
"""Values per resource and parameter."""
_REFERENCE = re.compile(
    r"(?:.*/)?([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?", re.DOTALL
)
_QUANTITIES = ("Quantity", "Age", "Count", "Distance", "Duration", "SimpleQuantity", "MoneyQuantity")
_NUMBERS = ("integer", "decimal", "positiveInt", "unsignedInt")
_ABSENT = {
    "token": "no-such-code",
    "reference": "Patient/no-such-resource",
    "string": "qqzzxx",
    "date": "1003-01-01",
    "number": "-987654321.125",
    "quantity": "-987654321.125",
    "uri": "urn:example:no-such-uri",
}


@dataclass(frozen=True, slots=True)
class Query:
    """`name=value` (escaped for R4, not for the URL), and whether it must find the resource."""

    code: str
    name: str
    value: str
    found: bool = True

    def __str__(self) -> str:
        return f"{quote(self.name, safe=':')}={quote(self.value, safe='')}"


@cache
def parameters(type_name: str) -> tuple[dict[str, Any], ...]:
    """The official parameters of a type that have an expression, those of all types included."""
    base = structures()[type_name].get("base", "")
    names = {type_name, "Resource"} | ({"DomainResource"} if base == "DomainResource" else set())
    return tuple(one for one in search_parameters() if one.get("expression") and names & set(one["base"]))


@cache
def _by_url() -> dict[str, dict[str, Any]]:
    return {one["url"]: one for one in search_parameters() if "url" in one}


def queries(resource: dict[str, Any]) -> Iterator[Query]:
    """The searches of every parameter that the resource feeds, but for `_id` and `_lastUpdated`."""
    type_name = resource["resourceType"]
    unfed = 0
    for parameter in parameters(type_name):
        code = parameter["code"]
        if code in ("_id", "_lastUpdated"):
            continue
        values = list(dict.fromkeys(_of_parameter(parameter, resource)))
        if not values:
            if unfed < MOST and not code.startswith("_") and not _fed(parameter, resource):
                unfed += 1
                yield Query(code, f"{code}:missing", "true")
            continue
        for modifier, value in _spread(values):
            yield Query(code, code + modifier, value)
        if parameter["type"] not in ("composite", "special"):
            yield Query(code, f"{code}:missing", "false")
        yield from _absent(parameter, values[0])
    yield from _words(resource)


def _spread(values: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """At most MOST values of each modifier, from both ends of the list."""
    by_modifier: dict[str, list[tuple[str, str]]] = {}
    for value in values:
        by_modifier.setdefault(value[0], []).append(value)
    chosen = []
    for same in by_modifier.values():
        chosen += same if len(same) <= MOST else [*same[: MOST - 1], same[-1]]
    return chosen


def _absent(parameter: dict[str, Any], first: tuple[str, str]) -> Iterator[Query]:
    code, kind = parameter["code"], parameter["type"]
    if kind in _ABSENT:
        yield Query(code, code, _ABSENT[kind], False)
    elif kind == "composite":
        yield Query(code, code, "no-such-code$" + first[1].partition("$")[2], False)
    elif code == "near":
        yield Query(code, code, "-89.5|0|1|km", False)


def _fed(parameter: dict[str, Any], resource: dict[str, Any]) -> bool:
    return bool(_evaluate(parameter["expression"], resource["resourceType"], resource, resource))


def _resolve(reference: str) -> dict[str, Any] | None:
    found = _REFERENCE.fullmatch(reference)
    return {"resourceType": found[1]} if found and found[1] in resource_types() else None


def _evaluate(expression: str, type_name: str, focus: Any, resource: dict[str, Any]) -> list[Any]:
    contained = {one.get("id"): one for one in resource.get("contained", ())}

    def resolve(reference: str) -> dict[str, Any] | None:
        return contained.get(reference[1:]) if reference.startswith("#") else _resolve(reference)

    return list(compile_expression(expression, type_name).evaluate(focus, resource=resource, resolve=resolve))


def _of_parameter(parameter: dict[str, Any], resource: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(modifier with its colon or "", value) of a parameter."""
    type_name = resource["resourceType"]
    for item in _evaluate(parameter["expression"], type_name, resource, resource):
        if parameter["type"] == "composite":
            yield from _composite(parameter, item, resource)
        elif parameter.get("xpathUsage") == "phonetic":
            yield from _phonetic(item)
        else:
            yield from _of_value(parameter, item)


def _composite(parameter: dict[str, Any], item: Any, resource: dict[str, Any]) -> Iterator[tuple[str, str]]:
    combined = [""]
    for number, component in enumerate(parameter["component"]):
        definition = _by_url()[component["definition"].partition("|")[0]]
        if parameter["url"].endswith("DocumentReference-relationship"):
            # R4 has the definitions of its two components the wrong way round.
            definition = {**definition, "type": ("token", "reference")[number]}
        values = []
        for found in _evaluate(component["expression"], str(item.type), item.value, resource):
            values += [value for modifier, value in _of_value(definition, found) if not modifier]
        combined = [f"{left}${right}" if number else right for left in combined for right in values[:MOST]]
    for value in combined[:MOST]:
        yield "", value


def _of_value(parameter: dict[str, Any], item: Any) -> Iterator[tuple[str, str]]:
    type_name, value = str(item.type), item.value
    if value is None:
        return
    if type_name == "Extension":
        for name, (_, inner) in json_members("Extension").items():
            if name.startswith("value") and name in value:
                yield from _typed(parameter, inner, value[name])
        return
    yield from _typed(parameter, type_name, value)


def _typed(parameter: dict[str, Any], type_name: str, value: Any) -> Iterator[tuple[str, str]]:
    match parameter["type"]:
        case "token":
            yield from _token(type_name, value)
        case "reference":
            yield from _reference(parameter, type_name, value)
        case "string":
            for text in _texts(type_name, value):
                yield from _string(text)
        case "date":
            yield from _date(type_name, value)
        case "number" | "quantity":
            yield from _number(parameter["type"], type_name, value)
        case "uri":
            yield from _uri(type_name, value)
        case "special":
            yield from _near(value)
        case other:
            raise AssertionError(other)


def escaped(text: str) -> str:
    """A literal as part of a value. R4 search.html#escaping."""
    return re.sub(r"([\\,$|])", r"\\\1", text)


def _token(type_name: str, value: Any) -> Iterator[tuple[str, str]]:
    match type_name:
        case "Coding":
            yield from _coded(value.get("system"), value.get("code"))
            yield from _display(value.get("display"))
        case "CodeableConcept":
            for coding in value.get("coding", ()):
                yield from _coded(coding.get("system"), coding.get("code"))
                yield from _display(coding.get("display"))
            yield from _display(value.get("text"))
        case "Identifier":
            yield from _coded(value.get("system"), value.get("value"))
            for coding in value.get("type", {}).get("coding", ()):
                if coding.get("system") and coding.get("code") and "value" in value:
                    parts = (coding["system"], coding["code"], value["value"])
                    yield ":of-type", "|".join(escaped(part) for part in parts)
        case "ContactPoint":
            if "value" in value:
                yield "", escaped(value["value"])
                if "use" in value:
                    yield "", f"{value['use']}|{escaped(value['value'])}"
        case "boolean":
            yield "", "true" if value is True else "false"
            yield ":not", "false" if value is True else "true"
        case _ if not isinstance(value, dict):
            yield "", escaped(str(value))


def _coded(system: str | None, code: str | None) -> Iterator[tuple[str, str]]:
    if code is not None and code.strip():
        yield "", f"{escaped(system or '')}|{escaped(code)}"
        yield "", escaped(code)
    elif code is None and system is not None:
        yield "", f"{escaped(system)}|"


def _display(text: str | None) -> Iterator[tuple[str, str]]:
    if text is not None and any(character.isalnum() for character in text):
        yield ":text", escaped(text[:40])


def _reference(parameter: dict[str, Any], type_name: str, value: Any) -> Iterator[tuple[str, str]]:
    if type_name in resource_types():
        if "id" in value and type_name in parameter.get("target", ()):
            yield "", f"{type_name}/{value['id']}"
        return
    if isinstance(value, str):
        if not value.startswith("#"):
            yield "", escaped(value)
            yield "", escaped(value.partition("|")[0])
        return
    if type_name != "Reference":
        return
    text = value.get("reference", "")
    if text and not text.startswith("#"):
        found = _REFERENCE.fullmatch(text)
        own = found and not text.startswith(("http:", "https:", "urn:"))
        yield "", escaped(text)
        if found and own and found[1] in parameter.get("target", ()):
            yield "", found[2]
            yield f":{found[1]}", found[2]
    identifier = value.get("identifier", {})
    if "value" in identifier:
        yield ":identifier", f"{escaped(identifier.get('system', ''))}|{escaped(identifier['value'])}"


def _texts(type_name: str, value: Any) -> Iterator[str]:
    match type_name:
        case "HumanName" | "Address":
            for name in ("text", "family", "city", "district", "state", "postalCode", "country"):
                if name in value:
                    yield value[name]
            for name in ("given", "prefix", "suffix", "line"):
                yield from (part for part in value.get(name, ()) if part is not None)
        case "Annotation":
            yield value["text"]
        case "CodeableConcept":
            yield from (one["display"] for one in value.get("coding", ()) if "display" in one)
            yield from (value[name] for name in ("text",) if name in value)
        case "Coding":
            yield from (value[name] for name in ("display",) if name in value)
        case _ if isinstance(value, str):
            yield value
        case _:
            yield from (value[name] for name in ("value",) if name in value)


def _string(text: str) -> Iterator[tuple[str, str]]:
    if not any(character.isalnum() for character in text):
        return
    if len(text) < 2_000:
        yield ":exact", escaped(text)
    yield "", escaped(text[:10].upper() if text.isascii() else text[:10])
    middle = text[len(text) // 3 : len(text) // 3 + 8]
    if any(character.isalnum() for character in middle):
        yield ":contains", escaped(middle)


def _phonetic(item: Any) -> Iterator[tuple[str, str]]:
    texts = _texts(str(item.type), item.value)
    for text in texts:
        for word in re.findall(r"[^\W\d_]{3,}", text)[:2]:
            yield "", word


def _date(type_name: str, value: Any) -> Iterator[tuple[str, str]]:
    match type_name:
        case "Period":
            if "start" in value:
                yield "", f"ge{value['start']}"
                yield "", f"ge{value['start'][:4]}"
            if "end" in value:
                yield "", f"le{value['end']}"
            if value.get("start", 0) == value.get("end", 1):
                yield "", value["start"]
        case "Timing":
            events = sorted(one for one in value.get("event", ()) if one is not None)
            if events:
                yield "", f"ge{events[0][:4]}"
                yield "", f"le{events[-1][:4]}"
            else:
                yield from _date("Period", value.get("repeat", {}).get("boundsPeriod", {}))
        case "date" | "dateTime" | "instant":
            text = str(value).removeprefix("@")
            yield "", text
            yield "", text[:4]
            yield "", f"ge{text}"
            yield "", f"le{text}"
            yield "", f"ap{text}"


def _number(kind: str, type_name: str, value: Any) -> Iterator[tuple[str, str]]:
    if type_name in _NUMBERS:
        yield from (("", f"{prefix}{value}") for prefix in ("", "ge", "le"))
    elif type_name == "Money":
        if "value" in value:
            yield "", f"{value['value']}|urn:iso:std:iso:4217|{value.get('currency', '')}"
            yield "", str(value["value"])
    elif type_name == "Range":
        if "value" in value.get("low", {}):
            yield "", f"ge{value['low']['value']}"
        if "value" in value.get("high", {}):
            yield "", f"le{value['high']['value']}"
    elif type_name in _QUANTITIES and "value" in value:
        prefix = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}.get(value.get("comparator", ""), "")
        amount = f"{prefix}{value['value']}"
        if kind == "quantity" and "code" in value:
            yield "", f"{amount}|{escaped(value.get('system', ''))}|{escaped(value['code'])}"
            yield "", f"{amount}||{escaped(value['code'])}"
        elif kind == "quantity" and "unit" in value:
            yield "", f"{amount}||{escaped(value['unit'])}"
        yield "", amount


def _uri(type_name: str, value: Any) -> Iterator[tuple[str, str]]:
    text = str(value)
    yield "", escaped(text) if type_name != "canonical" else text.replace(",", "\\,")
    if type_name == "canonical" and "|" in text:
        yield "", escaped(text.partition("|")[0])
    if text.startswith("http") and text.count("/") > 3:
        yield ":below", escaped(text.partition("|")[0].rstrip("/").rpartition("/")[0])


def _near(value: Any) -> Iterator[tuple[str, str]]:
    if "latitude" in value and "longitude" in value:
        yield "", f"{value['latitude']}|{value['longitude']}|1|km"
        yield "", f"{Decimal(str(value['latitude']))}|{value['longitude']}"


def _words(resource: dict[str, Any]) -> Iterator[Query]:
    """Long words of the narrative, which both `_text` and `_content` must find."""
    div = resource.get("text", {}).get("div", "")
    if not div:
        return
    plain = html.unescape(re.sub(r"<!--.*?-->|<[^>]*>", " ", div[:20_000].rpartition("<")[0], flags=re.DOTALL))
    words = [word for word in dict.fromkeys(plain.split()) if re.fullmatch(r"[A-Za-z]{5,20}", word)]
    if words:
        chosen = " ".join([words[0], words[-1].upper()])
        yield Query("_text", "_text", chosen)
        yield Query("_content", "_content", chosen)
        yield Query("_text", "_text", f"{words[0]} qqzzxx", False)
        yield Query("_content", "_content", f"{words[0]} qqzzxx", False)
