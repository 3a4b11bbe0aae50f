"""The syntax of searches: query strings, names of parameters, escapes. What they mean is `resolve`'s. R4
search.html#3.1.1.4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

from fhir_server.errors import BadRequest

MAX_LINKS: Final = 12
"""Links of one chain (`_has` included); more is refused as too costly."""

_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")
_MODIFIER: Final = re.compile(r"[A-Za-z][A-Za-z\-]*")


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a chain: ``subject:Patient.`` is Link("subject", "Patient")."""

    code: str
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Has:
    """A reverse link: ``_has:Observation:patient:`` is Has("Observation", "patient")."""

    type: str
    code: str


ChainStep: TypeAlias = Link | Has


@dataclass(frozen=True, slots=True)
class RawParam:
    """One parameter as it was written: ``subject:Patient.name:exact=A,B``.

    `values` are split at commas that are not escaped, and still carry their escapes; empty ones are left out.
    """

    code: str
    modifier: str | None
    chain: tuple[ChainStep, ...]
    values: tuple[str, ...]


def decode(text: str) -> str:
    """Percent-decoded text, ``+`` as a blank. Raises BadRequest for bytes that are no UTF-8, and for control
    characters.
    """
    if "+" in text:
        text = text.replace("+", " ")
    if "%" in text:
        try:
            text = unquote_to_bytes(text).decode("utf-8")
        except UnicodeDecodeError:
            raise BadRequest("The query string is not percent-encoded UTF-8.") from None
    if _FORBIDDEN.search(text):
        raise BadRequest("The query string holds control characters, which no value in R4 has.", code="value")
    return text


def parse_query(text: str) -> list[tuple[str, str]]:
    """Names and values of a query string (or a form), decoded, in order. Parts without a name are left out.

    Raises: BadRequest, see `decode`.
    """
    pairs = []
    for part in text.split("&"):
        name, _, value = part.partition("=")
        if name:
            pairs.append((decode(name), decode(value)))
    return pairs


def parse_name(name: str) -> tuple[str, str | None, tuple[ChainStep, ...]]:
    """(code, modifier, chain) of a parameter's name. Raises BadRequest when it does not follow the grammar."""
    chain: list[ChainStep] = []
    rest = name
    while True:
        if len(chain) > MAX_LINKS:
            raise BadRequest(f"A chain has at most {MAX_LINKS} links here.", code="too-costly")
        if rest.startswith("_has:"):
            parts = rest.split(":", 3)
            if len(parts) != 4 or not all(_NAME.fullmatch(part) for part in parts[1:3]) or not parts[3]:
                raise BadRequest("`_has` is written `_has:Type:reference-parameter:parameter`.")
            chain.append(Has(parts[1], parts[2]))
            rest = parts[3]
            continue
        head, dot, following = rest.partition(".")
        code, colon, modifier = head.partition(":")
        if not _NAME.fullmatch(code) or (colon and not _MODIFIER.fullmatch(modifier)):
            raise BadRequest("The name of a search parameter does not follow the grammar of R4.")
        if not dot:
            return code, modifier or None, tuple(chain)
        chain.append(Link(code, modifier or None))
        rest = following


def split(text: str, separator: str) -> list[str]:
    """`text` cut at every separator that no backslash precedes; the escapes stay."""
    if "\\" not in text:
        return text.split(separator)
    parts, current, at = [], [], 0
    while at < len(text):
        character = text[at]
        if character == "\\" and at + 1 < len(text):
            current.append(text[at : at + 2])
            at += 2
            continue
        if character == separator:
            parts.append("".join(current))
            current = []
        else:
            current.append(character)
        at += 1
    parts.append("".join(current))
    return parts


_ESCAPE: Final = re.compile(r"\\([\\,$|])")


def unescape(text: str) -> str:
    r"""``\,`` ``\$`` ``\|`` ``\\`` are literal; any other backslash stays. R4 search.html#escaping."""
    return _ESCAPE.sub(r"\1", text) if "\\" in text else text


def split_values(text: str) -> tuple[str, ...]:
    """The alternatives of a value, still escaped; empty ones are left out (R4 search.html 3.1.1.3: empty is absent)."""
    if "," not in text:
        return (text,) if text else ()
    return tuple(part for part in split(text, ",") if part)


def parse_param(name: str, value: str) -> RawParam:
    """Raises BadRequest when the name does not follow the grammar."""
    code, modifier, chain = parse_name(name)
    return RawParam(code, modifier, chain, split_values(value))
