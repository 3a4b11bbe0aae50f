"""Entity tags and dates of conditional requests. R4 http.html#concurrency, #cread; RFC 9110 section 13; RFC 9110
5.6.7.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from fhir_server.errors import BadRequest, PreconditionFailed
from fhir_server.storage.writes import Stored

ANY: Final = ("*",)

_TAGS: Final = re.compile(r'\s*(?:W/)?"([\x21\x23-\x7e]*)"\s*(?:,|\Z)')


def entity_tags(text: str, name: str) -> tuple[str, ...]:
    """The version ids that an If-Match or If-None-Match names; ("*",) for any. `name` is for the message.

    ``W/"1"`` and ``"1"`` mean the same: R4 versions are compared weakly. Raises BadRequest for anything else: a
    precondition is never ignored.
    """
    stripped = text.strip()
    if stripped == "*":
        return ANY
    tags: list[str] = []
    position = 0
    while position < len(stripped):
        found = _TAGS.match(stripped, position)
        if found is None:
            break
        tags.append(found[1])
        position = found.end()
    if not tags or position < len(stripped) or stripped.endswith(","):
        raise BadRequest(f'{name} must be "*" or a list of entity tags such as W/"1".', code="value")
    return tuple(tags)


def http_date(text: str, name: str) -> int | None:
    """Seconds since 1970 of an HTTP-date; None when it is not one, which RFC 9110 13.1.3 says to ignore."""
    try:
        return timegm(parsedate_to_datetime(text).utctimetuple())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def instant_seconds(text: str, name: str) -> int:
    """Seconds since 1970 of a FHIR instant, as Bundle.entry.request.ifModifiedSince carries it."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise BadRequest(f"{name} must be an instant.", code="value")
    return int(moment.timestamp())


def check_if_match(tags: Sequence[str] | None, current: Stored | None) -> None:
    """Raises PreconditionFailed (412) unless the current version is one of `tags`. No tags: nothing to check."""
    if tags is None:
        return
    if current is None or current.body is None:
        raise PreconditionFailed("If-Match was given, and there is no current version.")
    if tags != ANY and str(current.version) not in tags:
        raise PreconditionFailed("The current version is not one that If-Match names.")


def check_if_none_match(tags: Sequence[str] | None, current: Stored | None) -> None:
    """Raises PreconditionFailed (412) when a write may only go ahead if no such version exists."""
    if tags is None or current is None or current.body is None:
        return
    if tags == ANY:
        raise PreconditionFailed("If-None-Match: * was given, and the resource exists.")
    if str(current.version) in tags:
        raise PreconditionFailed("The current version is one that If-None-Match names.")
