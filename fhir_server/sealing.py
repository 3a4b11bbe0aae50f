"""Resident identity numbers at rest: encrypted, found by exact value only, and masked for most readers.

The value of every Identifier whose system is protected, anywhere in a resource, is replaced before anything is derived
from the resource: bodies, history, index entries, unique keys and backups hold only the sealed text. A member with
sealed values carries a mark in its gzip header, so that every other one is handed out as it is, without a look inside.
docs/sealing.md says who sees what.

Encryption is deterministic (AES-SIV, RFC 5297), for the same number has to give the same index entry. What that
tells, which resources share a number, is what a unique key has to know.
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fhir_server.errors import Unprocessable
from fhir_server.gzipped import deflate, inflate, wrap
from fhir_server.resources import jsonformat
from fhir_server.search.values import SEALED
from fhir_server.storage.writes import Stored, Version
from smart_auth import scopes

if TYPE_CHECKING:
    from fhir_server.access.caller import Caller
    from fhir_server.interceptors import Claims
    from fhir_server.storage.protocol import Store

logger = logging.getLogger(__name__)

RESIDENT_ID: Final = "urn:oid:2.16.156.10011.1.3"
"""The PRC resident identity number (GB 11643)."""
SYSTEMS: Final[Mapping[str, str]] = {
    RESIDENT_ID: RESIDENT_ID,
    "urn:oid:2.16.840.1.113883.2.23.1.8.4.1": RESIDENT_ID,  # HL7 China's root for the same number
}
"""Protected systems, and the one under which their values are stored."""

UNREADABLE: Final = "********"
"""Shown for a number of no known form, and for one whose key is missing."""

_TEXT: Final = re.compile(re.escape(SEALED) + r"([0-9a-f]{8}):([0-9a-f]{32,})")
_IN_JSON: Final = re.compile(b'"(' + _TEXT.pattern.encode() + b')"')
_NUMBER: Final = re.compile(r"\d{17}[\dXx]|\d{15}", re.ASCII)
_OWN: Final = re.compile(r"\w+\.identifier\[\d+\]", re.ASCII)
_SYSTEM_BYTES: Final = tuple(system.encode() for system in SYSTEMS)
_PURPOSE: Final = b"hestia sealed identifier 1"
_RECORD: Final = "sealing"
_OFFICES: Final = frozenset(("administrator", "nurse"))


# --- who sees a number ------------------------------------------------------------------------------------------------


def may_see_clear(caller: Caller | None, address: str, own: bool) -> bool:
    """Whether a caller sees a number of the resource at `address` in clear. docs/sealing.md has this as a table.

    `own`: it is in the resource's own `identifier`, not in that of a contact, a contained resource or a reference. No
    caller are the tools, and a server without access control.
    """
    if caller is None:
        return True
    grant = caller.grant
    if grant is None:
        return caller.policy.everything
    if grant.role in _OFFICES:
        return True
    if grant.role == "system" and _reads_all_patients(grant.scopes):
        return True
    if not own:
        return False
    # The person whom the number names; for role patient the launch context names the patient or the dependent.
    subject = f"Patient/{grant.patient}" if grant.role == "patient" and grant.patient else None
    return address in (grant.fhir_user, grant.person, subject)


@lru_cache(maxsize=1024)
def _reads_all_patients(granted: tuple[str, ...]) -> bool:
    """Whether a service was granted Patient without a condition, once, and not only some patients."""
    return scopes.covers(scopes.parse(" ".join(granted)), scopes.make("system", "Patient", "r"))


def masked(number: str) -> str:
    """A number with the date of birth taken out: ``110105********002X``. Others than resident numbers are all stars."""
    if "*" in number:
        return number  # masked by the system that it came from
    if _NUMBER.fullmatch(number) is None:
        return UNREADABLE
    return f"{number[:6]}********{number[14:]}" if len(number) == 18 else f"{number[:6]}******{number[12:]}"


def _canonical(value: str) -> str:
    """GB 11643 writes the check character as a capital X."""
    return value.upper() if value[-1:] == "x" and _NUMBER.fullmatch(value) is not None else value


# --- keys -------------------------------------------------------------------------------------------------------------


def _derived(master: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=_PURPOSE + b": " + purpose).derive(master)


class _Key:
    __slots__ = ("check", "cipher", "id")

    def __init__(self, master: bytes) -> None:
        self.cipher = AESSIV(_derived(master, b"aes-siv", 64))
        self.check = _derived(master, b"check", 16).hex()
        self.id = self.check[:8]

    def seal(self, value: str) -> str:
        return f"{SEALED}{self.id}:{self.cipher.encrypt(value.encode(), [_PURPOSE]).hex()}"


class Sealer:
    """Seals with the first of its keys, and opens with all of them.

    Shape of a sealed text: ``sealed:1:<key id, 8 hex digits>:<AES-SIV, hex>``; folding leaves it as it is.
    """

    systems: Mapping[str, str] = SYSTEMS

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys`: master keys of 32 bytes, from which those in use are derived. Raises ValueError."""
        if not keys or any(len(key) < 32 for key in keys):
            raise ValueError("Sealing needs keys of at least 32 bytes.")
        self._keys = tuple(_Key(key) for key in dict.fromkeys(keys))
        self._by_id = {key.id: key for key in self._keys}
        self._names = _derived(keys[0], b"names", 32)

    @property
    def checks(self) -> dict[str, str]:
        """Key id -> check value, the sealing key first. They tell nothing of a key."""
        return {key.id: key.check for key in self._keys}

    def seal_value(self, value: str) -> str:
        """The sealed text of a value; the same for the same value, of which the check character is an X."""
        return self._keys[0].seal(_canonical(value))

    def open_value(self, text: str) -> str | None:
        """The value of a sealed text; None when its key is missing."""
        match = _TEXT.fullmatch(text)
        key = self._by_id.get(match[1]) if match is not None else None
        if match is None or key is None:
            return None
        try:
            return key.cipher.decrypt(bytes.fromhex(match[2]), [_PURPOSE]).decode()
        except (InvalidTag, ValueError):
            return None

    def again(self, text: str) -> str:
        """A sealed text under the sealing key; the same one when its key is missing."""
        value = self.open_value(text)
        return text if value is None else self._keys[0].seal(value)

    def current(self, claims: tuple[str, ...]) -> tuple[str, ...]:
        """Of claims under every key (`spread_claims`) those under the sealing key, and those with no sealed text."""
        ours = f"{SEALED}{self._keys[0].id}:"
        return tuple(claim for claim in claims if SEALED not in claim or ours in claim)

    def forms(self, value: str) -> tuple[str, ...]:
        """The texts that an identifier with this value may be stored as, one per key."""
        canonical = _canonical(value)
        return tuple(key.seal(canonical) for key in self._keys)

    def opaque(self, name: str) -> str:
        """A name for a lock that tells nothing of the criteria that it serializes: numbers are few enough to be
        guessed from a plain digest.
        """
        return hmac.digest(self._names, name.encode(errors="surrogatepass"), sha256).hex()

    # --- resources ----------------------------------------------------------------------------------------------------

    def concerns(self, holds: Callable[[bytes], bool]) -> bool:
        """Whether a resource may have something to be sealed. `holds`: whether its JSON holds some bytes."""
        return any(holds(system) for system in _SYSTEM_BYTES)

    def has_masked(self, resource: Mapping[str, Any]) -> bool:
        """Whether some number is masked: then it depends on what is stored."""
        return any("*" in value for _, value in _identifiers(resource))

    def seal(self, resource: dict[str, Any], current: Callable[[], bytes | None]) -> dict[str, Any]:
        """The resource as it is stored; the very same object when nothing in it is protected.

        `current` gives the member stored so far, if any: a masked number stands for the one stored there. Raises
        Unprocessable for a masked number without a counterpart, and where the number is repeated in clear.
        """
        numbers: list[str] = []
        stored: list[tuple[str, str]] | None = None

        def change(value: str, path: str) -> str:
            nonlocal stored
            if "*" in value:
                if stored is None:
                    body = current()
                    stored = list(_identifiers(jsonformat.parse(inflate(body)))) if body is not None else []
                text = self._counterpart(value, path, stored)
                opened = self.open_value(text)
                if opened is None:
                    numbers.append("")
                    return text
                value = opened
            numbers.append(value)
            return self.seal_value(value)

        kept: dict[str, Any] = _walk(resource, resource["resourceType"], change, self.systems)
        if numbers:
            _refuse_copies(kept, numbers)
        return kept

    def _counterpart(self, mask: str, path: str, stored: Sequence[tuple[str, str]]) -> str:
        """The stored text that a masked number stands for: the only one with this mask, or the one at its place."""
        fitting = {text for _, text in stored if self._mask_of(text) == mask}
        if len(fitting) == 1:
            return fitting.pop()
        for place, text in stored:
            if place == path and text in fitting:
                return text
        raise Unprocessable(
            "A masked number is kept only where it stands for the one that is stored; send it whole.",
            code="business-rule",
            expression=f"{path}.value",
        )

    def _mask_of(self, text: str) -> str:
        value = self.open_value(text)
        return UNREADABLE if value is None else masked(value)

    def open_resource(self, resource: dict[str, Any]) -> dict[str, Any]:
        """A stored resource with its numbers in clear; those whose key is missing are masked."""
        opened: dict[str, Any] = _walk(
            resource, resource["resourceType"], lambda text, _: _shown(self, text, True), self.systems
        )
        return opened

    def spread_claims(self, claims: Claims) -> Claims:
        """The same claims under every key, so that a number sealed under an older one stays unique."""

        def spread(resource_type: str, resource: dict[str, Any]) -> tuple[str, ...]:
            found = claims(resource_type, resource)
            if not any(SEALED in claim for claim in found):
                return found
            made = dict.fromkeys(claim for claim in found if SEALED not in claim)
            for key in self._keys:

                def again(text: str, path: str, key: _Key = key) -> str:
                    value = self.open_value(text)
                    return text if value is None else key.seal(value)

                made.update(dict.fromkeys(claims(resource_type, _walk(resource, resource_type, again, self.systems))))
            return tuple(made)

        return spread


# --- walking ----------------------------------------------------------------------------------------------------------


def _walk(node: Any, path: str, change: Callable[[str, str], str], systems: Mapping[str, str]) -> Any:
    """`node` with the value of every protected Identifier changed; unchanged parts are shared, order is kept."""
    if isinstance(node, dict):
        result = node
        system, value = node.get("system"), node.get("value")
        if isinstance(system, str) and system in systems and isinstance(value, str):
            result = {**node, "system": systems[system], "value": change(value, path)}
        for name, item in node.items():
            if isinstance(item, (dict, list)):
                made = _walk(item, f"{path}.{name}", change, systems)
                if made is not item:
                    if result is node:
                        result = dict(node)
                    result[name] = made
        return result
    if isinstance(node, list):
        items = [
            _walk(item, f"{path}[{index}]", change, systems) if isinstance(item, (dict, list)) else item
            for index, item in enumerate(node)
        ]
        return items if any(made is not item for made, item in zip(items, node, strict=True)) else node
    return node


def _identifiers(resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(path, value) of every protected Identifier."""
    found: list[tuple[str, str]] = []

    def note(value: str, path: str) -> str:
        found.append((path, value))
        return value

    _walk(resource, str(resource["resourceType"]), note, SYSTEMS)
    return iter(found)


def _refuse_copies(kept: dict[str, Any], numbers: Sequence[str]) -> None:
    """A number may not stand in clear beside itself, in the narrative say; nor a text that looks like a sealed one.

    Other identifiers may have the same value: insurance cards often do, and are found by it.
    """
    data = jsonformat.encode(kept)
    if data.count(SEALED.encode()) != len(numbers):
        raise Unprocessable(f"Texts with `{SEALED}` are reserved for this server.", code="business-rule")
    wanted = [number for number in dict.fromkeys(numbers) if _NUMBER.fullmatch(number) and number.encode() in data]
    if wanted:
        places = [path for path, text in _texts(kept, kept["resourceType"]) if any(one in text for one in wanted)]
        if places:
            raise Unprocessable(
                "A resident identity number is repeated outside its Identifier; leave it out, or mask it there.",
                code="business-rule",
                expression=places,
            )


def _texts(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """(path, text) of every string but the values of identifiers."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict):
        identifier = ":" in str(node.get("system"))
        for name, item in node.items():
            if name != "value" or not identifier:
                yield from _texts(item, f"{path}.{name}")
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from _texts(item, f"{path}[{index}]")


# --- members ----------------------------------------------------------------------------------------------------------

_EXTRA: Final = 0x04  # RFC 1952, FLG.FEXTRA
_FIELD: Final = b"\x04\x00HS\x00\x00"


def mark(member: bytes) -> bytes:
    """A gzip member, marked as holding sealed values by an empty extra field. RFC 1952 2.3.1.1."""
    return b"".join((member[:3], bytes((_EXTRA,)), member[4:10], _FIELD, member[10:]))


def is_marked(member: bytes) -> bool:
    """Whether a stored member holds sealed values."""
    return member[3] == _EXTRA


def hidden(text: str) -> str:
    """A text, such as a plan of a search, without the sealed texts in it."""
    return _TEXT.sub("(sealed)", text)


_reported: Final[set[str]] = set()


def _shown(sealer: Sealer | None, text: str, clear: bool) -> str:
    value = sealer.open_value(text) if sealer is not None else None
    if value is None:
        key = text[len(SEALED) : len(SEALED) + 8]
        if key not in _reported:
            _reported.add(key)
            logger.warning("Numbers that were sealed with the key %s are masked: it is not configured.", key)
        return UNREADABLE
    return value if clear else masked(value)


Kept = TypeVar("Kept", bound=Stored | Version)


def shown(sealer: Sealer | None, stored: Kept, caller: Caller | None, *, compress: bool = True) -> Kept:
    """A version as the caller may see it: numbers in clear or masked, everything else byte for byte.

    The same object when nothing in it is sealed. `compress`: its member may be handed out.
    """
    member = stored.body
    if member is None or not is_marked(member):
        return stored
    data = shown_json(sealer, inflate(member), stored.address, caller)
    return replace(stored, body=deflate(data) if compress else wrap(data))


def shown_json(sealer: Sealer | None, data: bytes, address: str, caller: Caller | None) -> bytes:
    """The JSON of the resource at `address`, which is known to hold sealed values, as the caller may see it."""
    clear = may_see_clear(caller, address, False)
    if clear == may_see_clear(caller, address, True):
        # Only what was sealed here looks like it (see _refuse_copies), so that nothing has to be parsed.
        return _IN_JSON.sub(lambda match: jsonformat.encode(_shown(sealer, match[1].decode(), clear)), data)
    return jsonformat.encode(shown_resource(sealer, jsonformat.parse(data), address, caller))


def shown_resource(
    sealer: Sealer | None, resource: dict[str, Any], address: str, caller: Caller | None
) -> dict[str, Any]:
    """Like `shown_json`, of a parsed resource."""

    def change(text: str, path: str) -> str:
        return _shown(sealer, text, may_see_clear(caller, address, _OWN.fullmatch(path) is not None))

    made: dict[str, Any] = _walk(resource, resource["resourceType"], change, SYSTEMS)
    return made


def clear_json(sealer: Sealer | None, member: bytes) -> bytes:
    """The JSON of a stored member with its numbers in clear, for export."""
    data = inflate(member)
    return shown_json(sealer, data, "", None) if is_marked(member) else data


def sealed_member(sealer: Sealer | None, member: bytes) -> bytes:
    """A member that may have been written before sealing, as it is stored now; the same one when nothing changes.

    What would be refused today (a copy of the number in the narrative) stays as it was written, and so does a damaged
    member, for which there is `hestia check`.
    """
    if sealer is None or is_marked(member):
        return member
    try:
        data = inflate(member)
    except Exception:  # isal and zlib each have their own
        return member
    if not sealer.concerns(data.__contains__):
        return member
    resource = jsonformat.parse(data)
    kept = _walk(resource, resource["resourceType"], lambda value, _: sealer.seal_value(value), sealer.systems)
    return member if kept is resource else mark(deflate(jsonformat.encode(kept)))


def resealed_member(sealer: Sealer | None, member: bytes) -> bytes:
    """A member as it would be stored now: under the sealing key, whichever key it was sealed with. The same one when
    nothing changes; what a missing key sealed stays as it is.
    """
    if sealer is None or not is_marked(member):
        return sealed_member(sealer, member)
    try:
        data = inflate(member)
    except Exception:  # damaged: for `hestia check`
        return member
    # Only what was sealed here looks like it (see _refuse_copies), so that nothing has to be parsed.
    made = _IN_JSON.sub(lambda match: b'"' + sealer.again(match[1].decode()).encode() + b'"', data)
    return member if made == data else mark(deflate(made))


def keys_of(member: bytes) -> set[str]:
    """Ids of the keys that sealed what a stored member holds."""
    return {match[2].decode() for match in _IN_JSON.finditer(inflate(member))} if is_marked(member) else set()


def forget_keys(store: Store, sealer: Sealer, sealed_with: set[str]) -> None:
    """Records that a store's numbers are sealed with these keys and the sealing key, and with no other."""
    first = next(iter(sealer.checks))

    def change(old: dict[str, str] | None) -> dict[str, str]:
        known = {**(old or {}), first: sealer.checks[first]}
        return {key: check for key, check in known.items() if key == first or key in sealed_with}

    store.update_meta(_RECORD, change)


# --- the store's record -----------------------------------------------------------------------------------------------


def check_key(store: Store, sealer: Sealer | None, *, record: bool = True, source: bool = False) -> None:
    """Compares the keys with those that the store records, and records a new sealing key.

    `record`: False where nothing may be written. `source`: it is only copied from, and may hold numbers in clear.
    Raises ValueError, with what to do, for a store that needs a key and gets none or another one, and for one that
    holds numbers in clear. A store that records none is looked through.
    """
    recorded: dict[str, str] | None = store.get_meta(_RECORD)
    if sealer is None:
        if recorded:
            raise ValueError("The store holds sealed numbers. Configure the master key that sealed them.")
        return
    checks = sealer.checks
    if recorded:
        known = {key for key, check in recorded.items() if checks.get(key) == check}
        if not known:
            raise ValueError("The store was sealed with another master key. Configure that one, beside a newer one.")
        for key in sorted(recorded.keys() - known):
            logger.warning("The master key %s, which sealed numbers of this store, is not configured.", key)
    else:
        _look_through(store, sealer, source)
    first = next(iter(checks))
    if record and not source and (recorded is None or first not in recorded):
        store.update_meta(_RECORD, lambda old: {**(old or {}), first: checks[first]})


def _look_through(store: Store, sealer: Sealer, clear: bool) -> None:
    after: tuple[str, int] = ("", 0)
    while page := store.scan_versions(after=after):
        for stored in page:
            if stored.body is None:
                continue
            data = inflate(stored.body)
            if is_marked(stored.body):
                texts = [match[1].decode() for match in _IN_JSON.finditer(data)]
                if any(sealer.open_value(text) is None for text in texts):
                    raise ValueError("The store was sealed with another master key. Configure that one.")
            elif not clear and sealer.concerns(data.__contains__) and any(_identifiers(jsonformat.parse(data))):
                raise ValueError(
                    "The store holds resident identity numbers in clear, from before they were sealed. "
                    "`hestia copy` into a new store seals them."
                )
        after = (page[-1].address, page[-1].version)
