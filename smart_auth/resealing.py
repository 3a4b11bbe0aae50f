"""Sealing anew under the first master key what records hold under an earlier one, while servers run.

Each record is changed by itself, and one that is current is left alone: what was interrupted is simply done again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from smart_auth import keys
from smart_auth.notices import EMAIL_PURPOSE, PHONE_PURPOSE
from smart_auth.notify import MESSAGE_PURPOSE
from smart_auth.records import Account, Key, Message, OneTime, Record
from smart_auth.secondfactor import TOTP_PURPOSE
from smart_auth.store.protocol import AuthStore, Taken
from smart_auth.vault import KeyVault, sealed_with

FIELDS: Final[Mapping[type[Record], Mapping[str, str]]] = {
    Account: {
        "phone": PHONE_PURPOSE,
        "email": EMAIL_PURPOSE,
        "totp_secret": TOTP_PURPOSE,
        "totp_pending": TOTP_PURPOSE,
    },
    Key: {"private": keys.PURPOSE},
    Message: {"to": MESSAGE_PURPOSE, "text": MESSAGE_PURPOSE},
}
"""Sealed fields by kind, and what they are sealed for."""


@dataclass(slots=True)
class Resealed:
    """How many records were sealed anew, and how many could not be: their key is missing, or the value is taken."""

    done: int = 0
    left: int = 0


def reseal(store: AuthStore, vault: KeyVault, one_time: Mapping[str, str] | None = None) -> Resealed:
    """Seals every record anew that is not under the first key of the vault.

    `one_time`: ids of OneTime records whose `value["sealed"]` is sealed, and for what.
    """
    found = Resealed()
    for kind, id, purposes in _sealed(store, one_time or {}):

        def renew(record: Any, purposes: Mapping[str, str] = purposes) -> Any:
            old = _texts(record, purposes)
            new = {name: vault.again(text, purposes[name]) for name, text in old.items()}
            return None if new == old else _with(record, new)

        try:
            found.done += store.change(kind, id, renew) is not None
        except (ValueError, Taken):
            found.left += 1
    return found


def counts(store: AuthStore, one_time: Mapping[str, str] | None = None) -> Counter[str]:
    """Key id -> how many records hold something that it sealed."""
    found: Counter[str] = Counter()
    for kind, id, purposes in _sealed(store, one_time or {}):
        record = store.get(kind, id)
        if record is not None:
            found.update({sealed_with(text) for text in _texts(record, purposes).values()})
    return found


def _sealed(store: AuthStore, one_time: Mapping[str, str]) -> Iterator[tuple[type[Record], str, Mapping[str, str]]]:
    for kind, purposes in FIELDS.items():
        after = ""
        while page := store.page(kind, after=after):
            for record in page:
                yield kind, record.id, purposes
            after = page[-1].id
    for id, purpose in one_time.items():
        yield OneTime, id, {"sealed": purpose}


def _texts(record: Record, purposes: Mapping[str, str]) -> dict[str, str]:
    """The sealed texts of a record by field."""
    values = record.value if isinstance(record, OneTime) else {name: getattr(record, name) for name in purposes}
    return {name: values[name] for name in purposes if values.get(name) is not None}


def _with(record: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(record, OneTime):
        return msgspec.structs.replace(record, value={**record.value, **texts})
    return msgspec.structs.replace(record, **texts)
