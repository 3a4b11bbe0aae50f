"""Resource -> index entries. R4 search.html, the table of each parameter type; the layout is docs/architecture.md's.

For every resource type a function is generated at first use from the paths of its search parameters: one walk over the
resource that visits each element once, whatever number of parameters want it. Expressions that are no static path are
evaluated by the FHIRPath engine.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, TypeAlias

from fhir_server import definitions
from fhir_server.resources import content
from fhir_server.search.ast import CONTAINED
from fhir_server.search.documents import Document, KeyEntry, RangeEntry
from fhir_server.search.paths import Branch, Exist, ExtensionWith, First, Get, Step, Where
from fhir_server.search.registry import (
    CANONICAL_UNIT,
    FIELDS,
    IDENTIFIER,
    OF_TYPE,
    TEXT,
    WORDS,
    Component,
    Param,
    Registry,
    content_number,
)
from fhir_server.search.settings import UCUM, Settings
from fhir_server.search.values import (
    CLASS_MARK,
    FUTURE,
    HIGHEST,
    LOWEST,
    MARK,
    PAST,
    SEALED,
    canonical_key,
    fold,
    fraction_key,
    index_words,
    just_above,
    just_below,
    normalize,
    number_key,
    phonetic_keys,
    string_key,
    token_key,
    width_class,
    word_keys,
)

Keys: TypeAlias = list[KeyEntry]
Ranges: TypeAlias = list[RangeEntry]
Context: TypeAlias = tuple[str, Mapping[str, str]]
"""(address of the container, local id -> type of what it contains)"""
Handler: TypeAlias = Callable[[Any, int, Keys, Ranges, Context], None]
"""(value, number, keys, ranges, context): appends the entries of one element."""
Walk: TypeAlias = Callable[[Mapping[str, Any], Keys, Ranges, Context, Mapping[str, Any]], None]
"""(element, keys, ranges, context, resource)"""

EXTRACTION_VERSION: Final = 2
"""Changes whenever the same resource would be given other entries: stores that were filled by another one are
reindexed.
"""

_RELATIVE: Final = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?", re.ASCII)
_ABSOLUTE: Final = re.compile(
    r".*/([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?", re.ASCII | re.DOTALL
)
_REMEMBERED: Final = 256
"""Characters of texts whose keys are cached."""
_TAGS: Final = re.compile(r"<[^>]*>")
_STRINGS: Final = frozenset({"string", "markdown", "code", "id", "uri", "url", "canonical", "oid", "uuid", "xhtml"})
_SYSTEM_TYPES: Final = {
    "System.Boolean": "boolean",
    "System.String": "string",
    "System.Integer": "integer",
    "System.Decimal": "decimal",
    "System.Date": "date",
    "System.DateTime": "dateTime",
    "System.Quantity": "Quantity",
}
_DATES: Final = frozenset({"date", "dateTime", "instant", "System.Date", "System.DateTime"})
_INTEGERS: Final = frozenset({"integer", "decimal", "positiveInt", "unsignedInt"})
_QUANTITIES: Final = frozenset({"Quantity", "Age", "Count", "Distance", "Duration", "SimpleQuantity", "MoneyQuantity"})
_URIS: Final = frozenset({"uri", "url", "oid", "uuid"})
_COMPARATORS: Final = ("<", "<=", ">", ">=")
_CURRENCY: Final = "urn:iso:std:iso:4217"


def number_text(value: Any) -> bool:
    """Whether a JSON value is a number (a bool is none)."""
    return isinstance(value, (int, Decimal, float)) and not isinstance(value, bool)


def convertible(number: Any) -> str:
    """The text of a number that can be converted at a bounded cost, "" of others: 1e99999999 written out is 100 MB."""
    if isinstance(number, int) and number.bit_length() > 1000:
        return ""
    text = str(number)
    return text if len(text) <= 400 and abs(Decimal(text).adjusted()) <= 400 else ""


def plain_text(div: str) -> str:
    """The text of a narrative without its tags."""
    return html.unescape(_TAGS.sub(" ", div))


def unit_text(code: str, system: str, unit: str) -> str:
    """``code U+001F system U+001F unit``; the unit is left out when it repeats the code."""
    return f"{code}{MARK}{system}{MARK}{'' if unit == code else unit}"


class ReferenceKeys:
    """References as keys: those to our own base, however written, are ``Type/id``."""

    def __init__(self, base_urls: Iterable[str]) -> None:
        self._bases = tuple(f"{base}/" for base in base_urls)
        self._types = frozenset(definitions.resource_types())
        self._known = lru_cache(maxsize=65_536)(self._key)

    def key(self, text: str) -> tuple[str, str]:
        """(key, type or "") of a reference that is not local to its resource (``#x``)."""
        return self._known(text) if len(text) <= _REMEMBERED else self._key(text)

    def _key(self, text: str) -> tuple[str, str]:
        for base in self._bases:
            if text.startswith(base):
                text = text[len(base) :]
                break
        match = _RELATIVE.fullmatch(text)
        if match is not None and match[1] in self._types:
            return f"{match[1]}/{match[2]}", match[1]
        if "#" in text and _RELATIVE.fullmatch(text.partition("#")[0]) is not None:
            # Only its container may refer to a contained resource (references.html#contained). The key is not the
            # address of one: else a chain would lead into what another resource contains.
            return f"{self._bases[0] if self._bases else ''}{text}#", ""
        match = _ABSOLUTE.fullmatch(text)
        return text, match[1] if match is not None and match[1] in self._types else ""


class Extractor:
    """Extracts the documents of resources. Share one per registry and settings; it holds no state of a resource."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self.registry = registry
        self.settings = settings
        self._calendar = settings.calendar
        self._terminology = settings.terminology
        self._references = ReferenceKeys(settings.base_urls)
        self._walks: dict[str, Walk] = {}
        self._code_handlers: dict[str, Handler] = {}
        self._target_handlers: dict[tuple[str, str], Handler] = {}
        self._known_token_key = lru_cache(maxsize=65_536)(self._make_token_key)
        self._canonical = lru_cache(maxsize=16_384)(self._make_canonical)
        self._handlers = self._table()

    def documents(self, resource: Mapping[str, Any], address: str) -> tuple[Document, ...]:
        """The document of a resource, and one per resource contained in it; entries without duplicates.

        `resource` has been validated. `address` is ``Type/id``. Contained documents have the address ``Type/id#local``,
        and the bit `ast.CONTAINED` in each of their parameter numbers. What contained resources point at is the
        container's.
        """
        contained = resource.get("contained") or ()
        local = {one["id"]: one["resourceType"] for one in contained if "id" in one} if contained else _NONE
        context = (address, local)
        found = [self._document(resource, address, context)]
        pointed_at = content.binaries(resource, self.settings.base_urls)
        if pointed_at:
            number = content_number(found[0].type)
            found[0].keys.extend((number, binary) for binary in pointed_at)
        for one in contained:
            if "id" in one:
                document = self._document(one, f"{address}#{one['id']}", context)
                document.keys = [(number | CONTAINED, key) for number, key in document.keys]
                document.ranges = [(entry[0] | CONTAINED, *entry[1:]) for entry in document.ranges]
                found.append(document)
        return tuple(found)

    def _document(self, resource: Mapping[str, Any], address: str, context: Context) -> Document:
        type_name = resource["resourceType"]
        walk = self._walks.get(type_name)
        if walk is None:
            walk = self._walks[type_name] = self._generate(type_name)
        keys: Keys = []
        ranges: Ranges = []
        walk(resource, keys, ranges, context, resource)
        if self.settings.fulltext:
            self._words(resource, type_name, keys)
        return Document(address, type_name, list(dict.fromkeys(keys)), list(dict.fromkeys(ranges)))

    # --- tokens -------------------------------------------------------------------------------------------------------

    def _token_key(self, system: str, code: str) -> str:
        # Only short ones are remembered: a code may have a megabyte.
        short = len(code) <= _REMEMBERED and len(system) <= _REMEMBERED
        return self._known_token_key(system, code) if short else self._make_token_key(system, code)

    def _make_token_key(self, system: str, code: str) -> str:
        sensitive = bool(system and self._terminology and self._terminology.case_sensitive(system))
        return token_key(system, code, sensitive)

    def _coding(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        code, system = value.get("code"), value.get("system")
        if code is not None or system is not None:
            keys.append((number, self._token_key(system or "", code or "")))
        display = value.get("display")
        if display is not None:
            keys.append((number + TEXT, string_key(display)))

    def _concept(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        for coding in value.get("coding", ()):
            code, system = coding.get("code"), coding.get("system")
            if code is not None or system is not None:
                keys.append((number, self._token_key(system or "", code or "")))
            display = coding.get("display")
            if display is not None:
                keys.append((number + TEXT, string_key(display)))
        text = value.get("text")
        if text is not None:
            keys.append((number + TEXT, string_key(text)))

    def _identifier(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        text, system = value.get("value"), value.get("system")
        if text is not None or system is not None:
            keys.append((number, self._token_key(system or "", text or "")))
        type_ = value.get("type")
        if type_ is not None:
            if "text" in type_:
                keys.append((number + TEXT, string_key(type_["text"])))
            if text is not None:
                folded = fold(text)
                for coding in type_.get("coding", ()):
                    of_type = f"{folded}{MARK}{coding.get('code', '')}{MARK}{coding.get('system', '')}"
                    keys.append((number + OF_TYPE, of_type))

    def _contact(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        text = value.get("value")
        if text is not None:
            keys.append((number, token_key(value.get("use", ""), text)))

    def _boolean(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        keys.append((number, f"true{MARK}" if value is True or value == "true" else f"false{MARK}"))

    def _plain_token(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        keys.append((number, token_key("", value if isinstance(value, str) else str(value))))

    def _code_handler(self, binding: str) -> Handler:
        """Tokens of an element of type code: the system is implied by the value set of its required binding."""
        found = self._code_handlers.get(binding)
        if found is not None:
            return found
        known: dict[str, str] = {}
        other = ""
        expansion = self._expansion(binding)
        if expansion is not None:
            for system, codes in expansion.codes.items():
                for code in codes:
                    known[code] = self._make_token_key(system, code)
            if len(expansion.whole) == 1:
                other = next(iter(expansion.whole))

        def handler(value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
            key = known.get(value)
            keys.append((number, self._token_key(other, value) if key is None else key))

        self._code_handlers[binding] = handler
        return handler

    def _expansion(self, binding: str) -> Any | None:
        if not binding or self._terminology is None:
            return None
        try:
            return self._terminology.expand(binding)
        except (
            Exception
        ):  # whatever this terminology raises when it does not know a value set: then codes have no system
            return None

    # --- references, uris ---------------------------------------------------------------------------------------------

    def _reference(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        text = value.get("reference")
        if text is not None:
            if text[:1] == "#":
                keys.append((number, context[0] + text if len(text) > 1 else context[0]))
            else:
                keys.append((number, self._references.key(text)[0]))
        identifier = value.get("identifier")
        if identifier is not None and ("value" in identifier or "system" in identifier):
            token = self._token_key(identifier.get("system", ""), identifier.get("value", ""))
            keys.append((number + IDENTIFIER, token))
        display = value.get("display")
        if display is not None:
            keys.append((number + TEXT, string_key(display)))

    def _reference_to(self, target: str) -> Handler:
        """Only references to resources of type `target`: ``where(resolve() is Patient)``, decided by the reference's
        text.
        """

        def handler(value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
            if self._target_type(value, context) == target:
                self._reference(value, number, keys, ranges, context)

        return handler

    def _target_type(self, value: Any, context: Context) -> str:
        text = value.get("reference")
        if text is None:
            return str(value.get("type", ""))
        if text[:1] == "#":
            return context[1].get(text[1:], "") if len(text) > 1 else context[0].partition("/")[0]
        return self._references.key(text)[1] or str(value.get("type", ""))

    def _canonical_reference(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        if value[:1] == "#":
            keys.append((number, context[0] + value if len(value) > 1 else context[0]))
            return
        key, _ = self._references.key(value)
        keys.append((number, key if key != value else canonical_key(value)))

    def _inline_resource(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        # Bundle.entry[0].resource: the resource itself stands where a reference is expected (Bundle-composition,
        # -message).
        if isinstance(value, Mapping) and "id" in value:
            keys.append((number, f"{value.get('resourceType', '')}/{value['id']}"))

    def _inline_of(self, targets: tuple[str, ...]) -> Handler:
        def handler(value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
            if isinstance(value, Mapping) and value.get("resourceType") in targets:
                self._inline_resource(value, number, keys, ranges, context)

        return handler

    def _uri(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        keys.append((number, value))

    def _canonical_uri(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        keys.append((number, canonical_key(value)))

    # --- strings ------------------------------------------------------------------------------------------------------

    def _string(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        keys.append((number, string_key(value)))

    def _string_with_words(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        key = string_key(value)
        keys.append((number, key))
        if " " in key:
            keys.extend((number + WORDS, word) for word in word_keys(value))

    def _parts(self, value: Any) -> Iterable[str]:
        """The searchable parts of a HumanName or Address. R4 search.html#string."""
        for name in ("text", "family", "city", "district", "state", "postalCode", "country"):
            part = value.get(name)
            if part is not None:
                yield part
        for name in ("given", "prefix", "suffix", "line"):
            for part in value.get(name, ()):
                if part is not None:
                    yield part

    def _name(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        for part in self._parts(value):
            self._string_with_words(part, number, keys, ranges, context)

    def _annotation(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        if "text" in value:
            keys.append((number, string_key(value["text"])))

    def _concept_string(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        for text in (value.get("text"), value.get("display"), *(one.get("display") for one in value.get("coding", ()))):
            if text is not None:
                keys.append((number, string_key(text)))

    def _identifier_string(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        if "value" in value:
            keys.append((number, string_key(value["value"])))

    def _phonetic(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        parts = (value,) if isinstance(value, str) else self._parts(value)
        for part in parts:
            keys.extend((number + WORDS, code) for code in phonetic_keys(part))

    # --- ranges -------------------------------------------------------------------------------------------------------

    def _date(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        try:
            low, high = self._calendar.stored(value)
        except ValueError:
            return
        ranges.append((number, width_class(low, high), low, high, ""))

    def _instant(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        try:
            low = self._calendar.instant(value)
        except ValueError:
            return
        ranges.append((number, "0", low, low + 1, ""))

    def _period(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        low, high = PAST, FUTURE
        start, end = value.get("start"), value.get("end")
        try:
            if start is not None:
                low = self._calendar.stored(start)[0]
            if end is not None:
                high = self._calendar.stored(end)[1]
        except ValueError:
            return
        if start is not None or end is not None:
            # A period that ends before it begins is against per-1, but may be stored: it is a point at its start.
            high = max(high, low + 1)
            ranges.append((number, width_class(low, high), low, high, ""))

    def _timing(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        """Only the outer limits matter. R4 search.html#date."""
        lows, highs = [], []
        for event in value.get("event", ()):
            if event is not None:
                low, high = self._calendar.stored(event)
                lows.append(low)
                highs.append(high)
        period = value.get("repeat", {}).get("boundsPeriod")
        if period is not None and ("start" in period or "end" in period):
            lows.append(self._calendar.stored(period["start"])[0] if "start" in period else PAST)
            highs.append(self._calendar.stored(period["end"])[1] if "end" in period else FUTURE)
        if lows:
            low, high = min(lows), max(*highs, min(lows) + 1)
            ranges.append((number, width_class(low, high), low, high, ""))

    def _number(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        key = number_key(value)
        ranges.append((number, "=", key, key, ""))

    def _number_range(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        self._range(value, number, keys, ranges, context)

    def _make_canonical(self, text: str, code: str) -> tuple[str, str] | None:
        """(key, dimension) of a value in base units; None when the unit has no canonical form or already is one."""
        assert self.settings.units is not None
        unit = self.settings.units(code)
        if unit is None or (unit.dimension == code and unit.factor == 1 and unit.offset == 0):
            return None
        if not text:
            return None
        return fraction_key(Fraction(text) * unit.factor + unit.offset), unit.dimension

    def _interval(
        self, number: int, ranges: Ranges, kind: str, values: tuple[Any, Any], unit: tuple[str, str, str]
    ) -> None:
        """Appends an entry of [low, high] (None: open), and the same in canonical units."""
        low, high = values
        low_key = LOWEST if low is None else number_key(low)
        high_key = HIGHEST if high is None else number_key(high)
        if low is not None and high is not None and low_key > high_key:
            low_key, high_key, low, high = high_key, low_key, high, low
        ranges.append((number, kind, low_key, high_key, unit_text(*unit)))
        code, system, _ = unit
        if system == UCUM and code and self.settings.units is not None:
            low_found = None if low is None else self._canonical(convertible(low), code)
            high_found = None if high is None else self._canonical(convertible(high), code)
            found = low_found or high_found
            if found is not None and (low is None) == (low_found is None) and (high is None) == (high_found is None):
                low_key = low_found[0] if low_found else LOWEST
                high_key = high_found[0] if high_found else HIGHEST
                ranges.append((number + CANONICAL_UNIT, kind, low_key, high_key, f"{found[1]}{MARK}{UCUM}{MARK}"))

    def _quantity(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        amount = value.get("value")
        if amount is None:
            return
        unit = (value.get("code", ""), value.get("system", ""), value.get("unit", ""))
        comparator = value.get("comparator")
        if comparator in _COMPARATORS:
            # A number that is only known to be below or above another: class "<", which no equality meets.
            before = len(ranges)
            below = comparator[0] == "<"
            self._interval(number, ranges, "<", (None, amount) if below else (amount, None), unit)
            if len(comparator) == 1:
                for at in range(before, len(ranges)):
                    param, kind, low, high, text = ranges[at]
                    if below:
                        ranges[at] = (param, kind, low, just_below(str(high)), text)
                    else:
                        ranges[at] = (param, kind, just_above(str(low)), high, text)
            return
        key = number_key(amount)
        ranges.append((number, "=", key, key, unit_text(*unit)))
        code, system, _ = unit
        if system == UCUM and code and self.settings.units is not None:
            found = self._canonical(convertible(amount), code)
            if found is not None:
                ranges.append((number + CANONICAL_UNIT, "=", found[0], found[0], f"{found[1]}{MARK}{UCUM}{MARK}"))

    def _money(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        if "value" in value:
            key = number_key(value["value"])
            ranges.append((number, "=", key, key, unit_text(value.get("currency", ""), _CURRENCY, "")))

    def _range(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        low, high = value.get("low", {}), value.get("high", {})
        if "value" in low or "value" in high:
            of = low if "value" in low else high
            unit = (of.get("code", ""), of.get("system", ""), of.get("unit", ""))
            self._interval(number, ranges, "~", (low.get("value"), high.get("value")), unit)

    def _sampled(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        """From the smallest to the largest sample: origin + data * factor. R4 datatypes.html#SampledData."""
        origin = value.get("origin", {})
        found = []
        for item in str(value.get("data", "")).split():
            # E is an error, L and U are beyond the limits; what is beyond reaches at least to them.
            name = {"L": "lowerLimit", "U": "upperLimit"}.get(item)
            sample = value.get(name) if name else item
            try:
                found.append(Decimal(str(sample)))
            except InvalidOperation:  # "E", or a limit that is not given
                continue
        found = [one for one in found if one.is_finite() and convertible(one)]
        scaling = [convertible(number) for number in (value.get("factor", 1), origin.get("value", 0))]
        if not found or not all(scaling):
            return
        factor, start = Fraction(scaling[0]), Fraction(scaling[1])
        ends = sorted((start + Fraction(min(found)) * factor, start + Fraction(max(found)) * factor))
        low, high = fraction_key(ends[0]), fraction_key(ends[1])
        code, system = origin.get("code", ""), origin.get("system", "")
        ranges.append((number, "~", low, high, unit_text(code, system, origin.get("unit", ""))))
        if system == UCUM and code and self.settings.units is not None:
            unit = self.settings.units(code)
            if unit is not None and not (unit.dimension == code and unit.factor == 1 and unit.offset == 0):
                low, high = (fraction_key(end * unit.factor + unit.offset) for end in ends)
                ranges.append((number + CANONICAL_UNIT, "~", low, high, f"{unit.dimension}{MARK}{UCUM}{MARK}"))

    def _position(self, value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
        if "latitude" in value and "longitude" in value:
            latitude = round(Decimal(str(value["latitude"])) * 1_000_000)
            longitude = round(Decimal(str(value["longitude"])) * 1_000_000)
            if abs(latitude) <= 90_000_000 and abs(longitude) <= 360_000_000:
                longitude = (longitude + 180_000_000) % 360_000_000 - 180_000_000
                ranges.append((number, "", latitude, longitude, ""))

    # --- by data type -------------------------------------------------------------------------------------------------

    def _table(self) -> dict[tuple[str, str], Handler]:
        """(parameter type, data type) -> handler. R4 search.html, the tables of 3.1.1.4.8 to 3.1.1.4.15."""
        table: dict[tuple[str, str], Handler] = {
            ("token", "Coding"): self._coding,
            ("token", "CodeableConcept"): self._concept,
            ("token", "Identifier"): self._identifier,
            ("token", "ContactPoint"): self._contact,
            ("token", "boolean"): self._boolean,
            ("reference", "Reference"): self._reference,
            ("reference", "Resource"): self._inline_resource,
            ("string", "HumanName"): self._name,
            ("string", "Address"): self._name,
            ("string", "Annotation"): self._annotation,
            ("string", "CodeableConcept"): self._concept_string,
            ("string", "Coding"): self._concept_string,
            ("string", "Identifier"): self._identifier_string,
            ("string", "ContactPoint"): self._identifier_string,
            ("date", "date"): self._date,
            ("date", "dateTime"): self._date,
            ("date", "instant"): self._instant,
            ("date", "Period"): self._period,
            ("date", "Timing"): self._timing,
            ("number", "Range"): self._number_range,
            ("quantity", "Money"): self._money,
            ("quantity", "Range"): self._range,
            ("quantity", "SampledData"): self._sampled,
            ("special", "Location.position"): self._position,
        }
        for name in _QUANTITIES:
            table["quantity", name] = table["number", name] = self._quantity
        for name in _INTEGERS:
            table["number", name] = table["quantity", name] = self._number
            table["token", name] = self._plain_token
        for name in _STRINGS:
            table["string", name] = self._string
            table["token", name] = self._plain_token
        for name in _URIS:
            table["uri", name] = self._uri
            table["reference", name] = self._canonical_reference
        table["uri", "canonical"] = self._canonical_uri
        table["uri", "string"] = self._uri
        table["reference", "canonical"] = self._canonical_reference
        for kind in ("token", "reference", "string", "date", "number", "quantity", "uri"):
            table[kind, "Extension"] = self._extension_handler(kind)
        return table

    def _extension_handler(self, kind: str) -> Handler:
        """The value of an extension, whatever its type: some official expressions end at the extension itself."""
        types = {
            json_name: type_
            for type_ in definitions.structures()["Extension"]["elements"]["value"]["types"]
            for json_name in (f"value{type_[0].upper()}{type_[1:]}",)
        }

        def handler(value: Any, number: int, keys: Keys, ranges: Ranges, context: Context) -> None:
            for name, type_ in types.items():
                if name in value:
                    found = self._handlers.get((kind, type_))
                    if found is not None:
                        found(value[name], number, keys, ranges, context)

        return handler

    def _handler(self, kind: str, usage: str, branch: Branch, targets: tuple[str, ...]) -> Handler | None:
        """What turns the elements of a branch into entries; None when this type of parameter has none for them."""
        if usage == "phonetic":
            return self._phonetic if branch.type in ("HumanName", "string") else None
        if kind == "reference" and branch.type == "Resource":
            return self._inline_of(targets)
        if kind == "reference" and branch.target:
            return self._reference_to(branch.target) if branch.type == "Reference" else None
        if kind == "token" and branch.type == "code":
            return self._code_handler(branch.binding)
        if kind == "string" and branch.owner in ("HumanName", "Address") and branch.type in _STRINGS:
            return self._string_with_words
        return self._handlers.get((kind, branch.type))

    # --- generated code -----------------------------------------------------------------------------------------------

    def _generate(self, type_name: str) -> Walk:
        """Compiles the walk over resources of one type; ``walk.__source__`` shows it."""
        writer = _Writer(f"{type_name} resources")
        dynamic: list[tuple[Param, Callable[[Any], list[Any]]]] = []
        for param in self.registry.params(type_name).values():
            if not param.stored or param.code in FIELDS or not param.expression:
                continue
            if param.branches is None:
                dynamic.append((param, self._evaluator(param.expression, type_name)))
            elif param.type == "composite":
                self._composite(param, type_name, writer)
            else:
                for branch in param.branches:
                    handler = self._handler(param.type, param.usage, branch, param.targets)
                    if handler is not None:
                        writer.add(branch, handler, param.number)
        walk = writer.compile()
        if not dynamic:
            return walk

        def with_engine(
            element: Mapping[str, Any], keys: Keys, ranges: Ranges, context: Context, resource: Mapping[str, Any]
        ) -> None:
            walk(element, keys, ranges, context, resource)
            for param, evaluate in dynamic:
                self._evaluated(param, evaluate(resource), keys, ranges, context, resource)

        return with_engine

    def _evaluated(
        self,
        param: Param,
        items: Iterable[Any],
        keys: Keys,
        ranges: Ranges,
        context: Context,
        resource: Mapping[str, Any],
    ) -> None:
        """Appends the entries of what the FHIRPath engine found."""
        for item in items:
            value, type_ = item.value, str(item.type or "")
            if value is None:
                continue
            if param.type == "composite":
                if isinstance(value, Mapping) and all(one.branches is not None for one in param.components):
                    parts = tuple(self._component(one) for one in param.components)
                    self._combine(parts)(value, param.number, keys, ranges, context, resource)
                continue
            handler = self._handler(param.type, param.usage, Branch((), _SYSTEM_TYPES.get(type_, type_)), param.targets)
            if handler is not None:
                if type_ in _DATES and not isinstance(value, str):
                    value = str(value).removeprefix("@")
                handler(value, param.number, keys, ranges, context)

    def _evaluator(self, expression: str, context_type: str) -> Callable[[Any], list[Any]]:
        from fhir_server.fhirpath import FhirPathError, compile_expression

        compiled = compile_expression(expression, context_type)

        def resolve(reference: str) -> dict[str, Any] | None:
            # An index entry depends on its own resource only: of what is referred to, no more than the type is known.
            type_ = self._references.key(reference)[1]
            return {"resourceType": type_} if type_ else None

        def evaluate(resource: Any) -> list[Any]:
            try:
                return list(compiled.evaluate(resource, resource=resource, resolve=resolve))
            except FhirPathError:
                # A custom expression that cannot be evaluated on this resource yields nothing for it.
                return []

        return evaluate

    def _component(self, component: Component) -> tuple[str, Walk]:
        writer = _Writer(f"component {component.expression}")
        for branch in component.branches or ():
            handler = self._handler(component.type, "normal", branch, component.targets)
            if handler is not None:
                writer.add(branch, handler, 0)
        return component.type, writer.compile()

    def _composite(self, param: Param, type_name: str, writer: _Writer) -> None:
        for branch in param.branches or ():
            parts = tuple(self._component(component) for component in param.components)
            writer.add(branch, self._combine(parts), param.number, whole=True)

    def _combine(self, parts: tuple[tuple[str, Walk], ...]) -> Callable[..., None]:
        """Entries of a composite at one focus element: every left value with every right one."""

        def combine(
            value: Any, number: int, keys: Keys, ranges: Ranges, context: Context, resource: Mapping[str, Any]
        ) -> None:
            right_keys: Keys = []
            right_ranges: Ranges = []
            parts[1][1](value, right_keys, right_ranges, context, resource)
            if not right_keys and not right_ranges:
                return
            left: Keys = []
            parts[0][1](value, left, [], context, resource)
            lefts = [key for variant, key in left if variant == 0]
            if len(parts) == 3:
                third: Ranges = []
                parts[2][1](value, [], third, context, resource)
                for key in lefts:
                    for _, kind, low, _, unit in right_ranges:
                        for _, _, high, _, _ in third:
                            ranges.append((number, f"{key}{CLASS_MARK}{kind}", low, high, unit))
                return
            for key in lefts:
                for variant, right in right_keys:
                    if variant == 0:
                        ranges.append((number, key, right, "", ""))
                for variant, kind, low, high, unit in right_ranges:
                    if variant == 0:
                        ranges.append((number, f"{key}{CLASS_MARK}{kind}", low, high, unit))

        return combine

    # --- words --------------------------------------------------------------------------------------------------------

    def _words(self, resource: Mapping[str, Any], type_name: str, keys: Keys) -> None:
        """Words of the narrative (``_text``) and of all texts of the resource (``_content``)."""
        params = self.registry.params(type_name)
        narrative = resource.get("text")
        words: set[str] = set()
        if isinstance(narrative, Mapping) and "div" in narrative:
            words = index_words(plain_text(narrative["div"]))
            if "_text" in params:
                number = params["_text"].number
                keys.extend((number, word) for word in sorted(words))
        texts: list[str] = []
        _collect(resource, texts)
        words |= index_words("\n".join(texts))
        number = params["_content"].number
        keys.extend((number, word) for word in sorted(words))


_NONE: Final[Mapping[str, str]] = {}
_NO_CONTENT: Final = frozenset({"resourceType", "id", "div", "url", "system", "reference", "data", "contained", "meta"})


def _collect(value: Any, texts: list[str]) -> None:
    if isinstance(value, str):
        if not value.startswith(SEALED):
            texts.append(value)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in _NO_CONTENT:
                _collect(item, texts)
    elif isinstance(value, list):
        for item in value:
            _collect(item, texts)


class _Writer:
    """Writes a function that walks one element; branches with common steps share the walk."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._root: _Place = _Place()
        self._rooted: _Place = _Place()
        self._names: dict[str, Any] = {"existence": _existence}
        self._lines: list[str] = []
        self._variables = 0

    def add(self, branch: Branch, handler: Callable[..., None], number: int, *, whole: bool = False) -> None:
        """`handler` is to be called with every element of `branch`; `whole`: with the resource as a last argument,
        too.
        """
        place = self._rooted if branch.rooted else self._root
        for step in branch.steps:
            place = place.next.setdefault(step, _Place())
        name = f"h{len(self._names)}"
        for known, existing in self._names.items():
            if existing == handler:
                name = known
        self._names[name] = handler
        place.calls.append((name, number, whole))

    def compile(self) -> Walk:
        self._lines = ["def walk(element, keys, ranges, context, resource):"]
        self._body(self._root, "element", 1)
        self._body(self._rooted, "resource", 1)
        self._lines.append("    return None")
        source = "\n".join(self._lines)
        scope = dict(self._names)
        exec(compile(source, f"<index entries of {self._what}>", "exec"), scope)  # noqa: S102 - our own text, from our tables
        walk: Walk = scope["walk"]
        walk.__source__ = source  # type: ignore[attr-defined]
        return walk

    def _line(self, depth: int, text: str) -> None:
        self._lines.append("    " * depth + text)

    def _new(self) -> str:
        self._variables += 1
        return f"v{self._variables}"

    def _body(self, place: _Place, variable: str, depth: int) -> None:
        for name, number, whole in dict.fromkeys(place.calls):
            last = ", resource" if whole else ""
            self._line(depth, f"{name}({variable}, {number}, keys, ranges, context{last})")
        for step, following in place.next.items():
            self._step(step, following, variable, depth)

    def _step(self, step: Step, place: _Place, variable: str, depth: int) -> None:
        match step:
            case Get(key=key, many=many):
                value = self._new()
                self._line(depth, f"{value} = {variable}.get({key!r})")
                self._line(depth, f"if {value} is not None:")
                if not many:
                    self._body(place, value, depth + 1)
                    return
                first = place.next.pop(First(), None)
                if first is not None:
                    item = self._new()
                    self._line(depth + 1, f"for {item} in {value}[:1]:")
                    self._body(first, item, depth + 2)
                if place.calls or place.next:
                    item = self._new()
                    self._line(depth + 1, f"for {item} in {value}:")
                    self._line(depth + 2, f"if {item} is not None:")
                    self._body(place, item, depth + 3)
            case Where(key=key, value=wanted):
                self._line(depth, f"if {variable}.get({key!r}) == {wanted!r}:")
                self._body(place, variable, depth + 1)
            case ExtensionWith(url=url):
                item = self._new()
                self._line(depth, f"for {item} in {variable}.get('extension') or ():")
                self._line(depth + 1, f"if {item}.get('url') == {url!r}:")
                self._body(place, item, depth + 2)
            case Exist(keys=keys):
                value = self._new()
                self._line(depth, f"{value} = existence({variable}, {keys!r})")
                self._body(place, value, depth)
            case First():
                self._body(place, variable, depth)


class _Place:
    __slots__ = ("calls", "next")

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, bool]] = []
        self.next: dict[Step, _Place] = {}


def _existence(element: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    """``x.exists() and x != false``: the value counts, not its extensions (search.html 3.1.1.4.4)."""
    return any(element.get(key) not in (None, False) for key in keys)


__all__ = ["Extractor", "ReferenceKeys", "normalize", "plain_text", "unit_text"]
