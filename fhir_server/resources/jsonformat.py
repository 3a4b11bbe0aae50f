"""JSON bytes to plain dicts and lists and back, digit for digit. R4 json.html; RFC 8259.

Numbers with a fraction or an exponent, and ``-0``, become `FhirDecimal`, which remembers its literal; other numbers
become `int`. So ``encode(parse(data))`` equals `data` as JSON, number literals and member order included, whitespace
aside.

`msgspec` does the work (170 MB/s in, more out). It does not see two things, both found by counting before anything
is trusted: duplicate members, and the sign of the integer ``-0``. Only a text that may contain one of them is parsed
again, slowly and exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

import msgspec

from fhir_server.errors import BadRequest, Issue

#: A decimal's exponent and its number of characters are bounded, so that no arithmetic on it can exhaust memory: R4
#: datatypes.html#decimal asks for 18 digits, and leaves the rest to the implementation.
MAX_EXPONENT: Final = 999
MAX_NUMBER_LENGTH: Final = 1000


class FhirDecimal(Decimal):
    """A decimal that remembers the literal it came as, because ``1.0`` and ``1.00`` differ. R4 datatypes.html#decimal.

    Compares and calculates as `Decimal`; results of arithmetic are plain `Decimal`.
    """

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> FhirDecimal:
        """The number of a JSON literal. Raises BadRequest when its exponent or length is beyond what is kept."""
        if len(text) > MAX_NUMBER_LENGTH:
            raise BadRequest(f"A number has more than {MAX_NUMBER_LENGTH:,} characters.", code="too-long")
        mantissa, e, exponent = text.replace("E", "e").partition("e")
        if e and (len(exponent.lstrip("+-0")) > 3 or mantissa[-1:] == "."):
            raise BadRequest(f"A number has an exponent beyond {MAX_EXPONENT}.", code="value")
        self = Decimal.__new__(cls, text)
        self.text = text
        return self

    def __copy__(self) -> FhirDecimal:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FhirDecimal:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (FhirDecimal, (self.text,))


# --- decoding ---------------------------------------------------------------------------------------------------------

_decoder: Final = msgspec.json.Decoder(float_hook=FhirDecimal)
# Numbers do not matter to a count of members, so decimals are written as 0.
_counting_encoder: Final = msgspec.json.Encoder(enc_hook=lambda _: 0)

_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SUSPECT_ESCAPE: Final = re.compile(rb"\\u00(?:[01]|3[aA])|\\[bf]")
_MAY_BE_MINUS_ZERO: Final = re.compile(rb"-0(?=[\s,\]}]|\Z)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")


def parse(data: bytes) -> Any:
    """The value of a JSON text: dict, list, str, int, FhirDecimal, bool or None.

    Raises BadRequest (400) for anything that RFC 8259 or R4 does not allow: syntax, text after the value, a byte
    order mark, invalid UTF-8, lone surrogates, control characters other than tab, CR and LF (datatypes.html#string),
    duplicate members, numbers beyond the bounds above, and nesting deeper than the interpreter can follow. What
    arrays and nulls may hold is the validator's matter.
    """
    try:
        value = _decoder.decode(data)
        suspect = _SUSPECT_ESCAPE.search(data) is not None
        if suspect:
            _refuse_control_characters(value)
        # Every member has one colon, and the other colons are inside strings. The value, encoded again, has as many
        # colons as the text, unless a member was overwritten by another of its name, or a colon in a string is
        # escaped as \\u003a.
        if (
            suspect
            or data.count(b":") != _counting_encoder.encode(value).count(b":")
            or _MAY_BE_MINUS_ZERO.search(data)
        ):
            value = _parse_slowly(data)
        return value
    except msgspec.MsgspecError as error:
        raise BadRequest(_explain(str(error)), code="structure") from None
    except UnicodeDecodeError:
        raise BadRequest("The body is not valid UTF-8.", code="structure") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.", code="too-long") from None


def _explain(message: str) -> str:
    """msgspec's messages name the fault and the byte; they never repeat a value."""
    if message == "Integer value out of range":
        return "A number has more digits than this server keeps."
    return f"The body is not JSON: {message.removeprefix('JSON is malformed: ')}."


class _Ambiguous(dict[str, Any]):
    """An object of the text in which a member occurs twice."""

    duplicate: str = ""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    ambiguous = _Ambiguous(pairs)
    seen: set[str] = set()
    for name, value in pairs:
        if isinstance(value, _Ambiguous):
            # Keep the inner one reachable even if it is the value that was overwritten.
            ambiguous[name] = value
        if name in seen and not ambiguous.duplicate:
            ambiguous.duplicate = name
        seen.add(name)
    return ambiguous


def _integer(text: str) -> int | FhirDecimal:
    return FhirDecimal(text) if text == "-0" else int(text)


def _parse_slowly(data: bytes) -> Any:
    """The same as the fast decoder, which has already accepted `data`, but exact. Raises Invalid with every

    duplicate member.
    """
    value = json.loads(data.decode(), object_pairs_hook=_pairs, parse_float=FhirDecimal, parse_int=_integer)
    issues = [
        Issue("error", "structure", f"The member {_shown(name)} occurs more than once in one object.", (path,))
        for path, name in _duplicates(value)
    ]
    if issues:
        raise BadRequest(issues=issues)
    return value


def _shown(name: str) -> str:
    return f"`{name}`" if _NAME.match(name) else "with a name that is no element's name"


def _duplicates(value: Any) -> Iterator[tuple[str, str]]:
    """(FHIRPath of the object or member, name) of every duplicate."""
    root = value.get("resourceType") if isinstance(value, dict) else None
    stack: list[tuple[str, Any]] = [(root if isinstance(root, str) and _NAME.match(root) else "$this", value)]
    while stack:
        path, item = stack.pop()
        if isinstance(item, _Ambiguous):
            yield (f"{path}.{item.duplicate}" if _NAME.match(item.duplicate) else path), item.duplicate
        if isinstance(item, dict):
            stack.extend((f"{path}.{name}" if _NAME.match(name) else path, inner) for name, inner in item.items())
        elif isinstance(item, list):
            stack.extend((f"{path}[{index}]", inner) for index, inner in enumerate(item))


def _refuse_control_characters(value: Any) -> None:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if _CONTROL.search(item) is not None:
                raise BadRequest("A string contains a control character (datatypes.html#string).", code="value")
        elif isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


# --- encoding ---------------------------------------------------------------------------------------------------------


def _literal(value: Any) -> msgspec.Raw:
    if type(value) is not FhirDecimal:
        raise TypeError(f"{type(value).__name__} has no JSON form")
    return msgspec.Raw(value.text.encode())


_encoder: Final = msgspec.json.Encoder(enc_hook=_literal, decimal_format="number")


def encode(value: Any, pretty: bool = False) -> bytes:
    """The JSON text of `value` in UTF-8: member order kept, decimals as the literal they came as, no whitespace.

    `pretty` indents by two blanks.
    """
    data = _encoder.encode(value)
    return msgspec.json.format(data, indent=2) if pretty else data
