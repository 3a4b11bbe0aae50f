"""Which JSON values are values of which primitive type. R4 datatypes.html#primitive, json.html#primitive.

`CHECKS[type](value)` says whether `value`, as `jsonformat.parse` gives it, is one. The regular expressions are those
of R4's StructureDefinitions, in which ``\\s`` is ASCII white space (XML Schema's), and beyond them what the text
asks for: days exist in their month, base64 decodes, integers have 32 bits. Codes and uris repeat, so their verdicts
are remembered.
"""

from __future__ import annotations

import binascii
import re
from calendar import monthrange
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from fhir_server.resources.jsonformat import FhirDecimal

MAX_STRING: Final = 1_048_576
"""datatypes.html#string: at most 1 MB, which R4's StructureDefinition counts in characters."""

_YEAR = r"([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)"
_MONTH, _DAY = "(0[1-9]|1[0-2])", "(0[1-9]|[1-2][0-9]|3[0-1])"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
_ZONE = r"(Z|(\+|-)((0[0-9]|1[0-3]):[0-5][0-9]|14:00))"

_is_date: Final = re.compile(f"{_YEAR}(-{_MONTH}(-{_DAY})?)?").fullmatch
_is_date_time: Final = re.compile(f"{_YEAR}(-{_MONTH}(-{_DAY}(T{_CLOCK}{_ZONE})?)?)?").fullmatch
_is_instant: Final = re.compile(f"{_YEAR}-{_MONTH}-{_DAY}T{_CLOCK}{_ZONE}").fullmatch
_is_time: Final = re.compile(_CLOCK).fullmatch
_is_id: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}").fullmatch
_is_oid: Final = re.compile(r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+").fullmatch
_is_uuid: Final = re.compile("urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_is_code: Final = re.compile(r"[^\s]+(\s[^\s]+)*", re.ASCII).fullmatch
_has_blank: Final = re.compile(r"\s", re.ASCII).search
_has_control_character: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]").search

_REMEMBERED: Final = 20_000
_codes: Final[set[str]] = set()
_uris: Final[set[str]] = set()


def is_string(value: Any) -> bool:
    """string and markdown: not empty, at most 1 MB, no control characters but tab, CR and LF."""
    if type(value) is not str or not 0 < len(value) <= MAX_STRING:
        return False
    return value.isprintable() or _has_control_character(value) is None


def is_code(value: Any) -> bool:
    """code: no blank at either end, single blanks inside."""
    if type(value) is not str:
        return False
    if value in _codes:
        return True
    if _is_code(value) is None or len(value) > MAX_STRING:
        return False
    if len(_codes) < _REMEMBERED and len(value) < 100:
        _codes.add(value)
    return True


def is_uri(value: Any) -> bool:
    """uri, url and canonical: not empty, no blanks."""
    if type(value) is not str:
        return False
    if value in _uris:
        return True
    if not value or len(value) > MAX_STRING or _has_blank(value) is not None:
        return False
    if len(_uris) < _REMEMBERED and len(value) < 200 and value[:4] == "http":
        _uris.add(value)
    return True


def is_element_id(value: Any) -> bool:
    """Element.id: any string without blanks. R4 element.html"""
    return is_string(value) and _has_blank(value) is None


def is_id(value: Any) -> bool:
    return type(value) is str and _is_id(value) is not None


def is_oid(value: Any) -> bool:
    return type(value) is str and _is_oid(value) is not None


def is_uuid(value: Any) -> bool:
    return type(value) is str and _is_uuid(value) is not None


def is_boolean(value: Any) -> bool:
    return value is True or value is False


def _in_range(low: int, high: int) -> Callable[[Any], bool]:
    def is_integer(value: Any) -> bool:
        # -0 keeps its sign as a decimal; R4's regular expression of integer allows it, those of the unsigned ones do
        # not.
        if type(value) is not int:
            return type(value) is FhirDecimal and value.text == "-0" and low < 0
        return low <= value <= high

    return is_integer


def is_decimal(value: Any) -> bool:
    return type(value) is FhirDecimal or type(value) is int or (type(value) is Decimal and value.is_finite())


def _is_day_of_month(text: str) -> bool:
    """Whether the day exists; for any text that starts YYYY-MM-DD."""
    return text[8:10] < "29" or int(text[8:10]) <= monthrange(int(text[:4]), int(text[5:7]))[1]


def is_date(value: Any) -> bool:
    return type(value) is str and _is_date(value) is not None and (len(value) < 10 or _is_day_of_month(value))


def is_date_time(value: Any) -> bool:
    return type(value) is str and _is_date_time(value) is not None and (len(value) < 10 or _is_day_of_month(value))


def is_instant(value: Any) -> bool:
    return type(value) is str and _is_instant(value) is not None and _is_day_of_month(value)


def is_time(value: Any) -> bool:
    return type(value) is str and _is_time(value) is not None


def is_base64(value: Any) -> bool:
    """base64Binary: groups of four, white space only between groups; any length."""
    if type(value) is not str or not value or not value.isascii():
        return False
    pieces = value.split()
    if not pieces or any(len(piece) % 4 for piece in pieces):
        return False
    try:
        binascii.a2b_base64("".join(pieces), strict_mode=True)
    except binascii.Error:
        return False
    return True


CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    "base64Binary": is_base64,
    "boolean": is_boolean,
    "canonical": is_uri,
    "code": is_code,
    "date": is_date,
    "dateTime": is_date_time,
    "decimal": is_decimal,
    "id": is_id,
    "instant": is_instant,
    "integer": _in_range(-2_147_483_648, 2_147_483_647),
    "markdown": is_string,
    "oid": is_oid,
    "positiveInt": _in_range(1, 2_147_483_647),
    "string": is_string,
    "time": is_time,
    "unsignedInt": _in_range(0, 2_147_483_647),
    "uri": is_uri,
    "url": is_uri,
    "uuid": is_uuid,
}

#: What a value of the type looks like, for messages.
EXPECTED: Final[dict[str, str]] = {
    "base64Binary": "base64",
    "boolean": "true or false",
    "canonical": "a canonical URL without blanks",
    "code": "a code without leading, trailing or double blanks",
    "date": "a date such as 2020, 2020-02 or 2020-02-29",
    "dateTime": "a date, or a date with time and zone such as 2020-02-29T13:28:17+02:00",
    "decimal": "a JSON number",
    "id": "1 to 64 of A-Z, a-z, 0-9, - and .",
    "instant": "a date with time and zone such as 2020-02-29T13:28:17.239+02:00",
    "integer": "a JSON integer of 32 bits",
    "markdown": f"a string of 1 to {MAX_STRING:,} characters",
    "oid": "an OID such as urn:oid:1.2.3",
    "positiveInt": "a JSON integer from 1 to 2147483647",
    "string": f"a string of 1 to {MAX_STRING:,} characters",
    "time": "a time such as 13:28:17",
    "unsignedInt": "a JSON integer from 0 to 2147483647",
    "uri": "a URI without blanks",
    "url": "a URL without blanks",
    "uuid": "a UUID such as urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
    "xhtml": "XHTML in a string",
}
