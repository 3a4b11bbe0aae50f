"""Passwords: argon2id (RFC 9106, the low-memory choice of section 4), and which ones are refused.

Strength is estimated by zxcvbn with what is known of the person and of this service; a password of its list of breached
passwords is refused whatever the estimate, and so is one that is little more than such words. NIST SP 800-63B section
3.1.1.2: breached, common and context-specific passwords; no rules of composition, no expiry.
"""

from __future__ import annotations

import base64
import re
import secrets
import threading
import unicodedata
from collections.abc import Iterable
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY
from zxcvbn import zxcvbn
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from smart_auth.problems import N_

MIN_LENGTH: Final = 10
MAX_LENGTH: Final = 256
MIN_SCORE: Final = 3
ESTIMATED_LENGTH: Final = 72
"""The estimate takes time that grows with the square of the length; what follows only adds to the strength."""

OWN_REST: Final = 6
"""What a password with own words has to have beside them, in letters and digits; a Chinese character counts as two."""
SERVICE: Final = (
    "hestia", "fhir", "smart", "hospital", "clinic", "health", "portal", "medical", "patient", "doctor", "nurse",
    "pharmacist", "pharmacy", "laboratory", "administrator", "admin", "account", "login", "welcome", "password",
    "passwort", "secret", "yiyuan", "huanzhe", "yisheng", "hushi", "mima", "jiankang", "医院", "患者", "医生", "护士",
    "药师", "健康", "管理员", "密码", "账号", "登录",
)  # fmt: skip
"""Words that anybody who attacks this service tries."""

TOO_SHORT: Final = N_("A password has at least 10 characters.")
TOO_LONG: Final = N_("A password has at most 256 characters.")
BREACHED: Final = N_("This password is on lists of stolen passwords.")
GUESSABLE: Final = N_("This password is easy to guess. Several unrelated words make a good one.")
UNCHANGED: Final = N_("This is the password you have now.")

hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)

_LEET: Final = str.maketrans("@4310$57!", "aaeiossti")
_REVERSED: Final = 4
_CJK: Final = "\u2e80"
_estimating = threading.Lock()
"""zxcvbn keeps what it knows of the person in a dict of its module."""
_breached: Final = frozenset(FREQUENCY_LISTS["passwords"])


def _normal(password: str) -> str:
    """One form of what different keyboards write. NIST SP 800-63B section 3.1.1.2."""
    return unicodedata.normalize("NFKC", password)


def hash_password(password: str) -> str:
    """The argon2id hash as text with its parameters and salt. Raises ValueError for what is too long to hash."""
    if len(password) > MAX_LENGTH:
        raise ValueError(TOO_LONG)
    return hasher.hash(_normal(password))


def _nobody() -> str:
    """A hash that costs as much to verify as a real one and that no password has, made without hashing."""
    salt, hash = (
        base64.b64encode(secrets.token_bytes(length)).rstrip(b"=").decode()
        for length in (hasher.salt_len, hasher.hash_len)
    )
    return f"$argon2id$v=19$m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}${salt}${hash}"


def verify(password_hash: str | None, password: str) -> bool:
    """Whether a password has this hash. Takes as long when there is no hash."""
    acceptable = len(password) <= MAX_LENGTH
    compared = password_hash if password_hash is not None else _nobody()
    try:
        hasher.verify(compared, _normal(password[:MAX_LENGTH]))
    except (VerificationError, InvalidHashError):
        return False
    return acceptable and password_hash is not None


def outdated(password_hash: str) -> bool:
    """Whether a hash was made with other parameters than those of today."""
    return hasher.check_needs_rehash(password_hash)


def weaknesses(password: str, known: Iterable[str | None] = ()) -> list[str]:
    """Why a password is refused, as message ids; empty when it may be used. `known`: the person's name, phone ..."""
    password = _normal(password)
    if len(password) < MIN_LENGTH:
        return [TOO_SHORT]
    if len(password) > MAX_LENGTH:
        return [TOO_LONG]
    folded = password.casefold()
    if folded in _breached or re.sub(r"[\W_]", "", folded) in _breached:
        return [BREACHED]
    words = _words(known)
    written = dict.fromkeys((folded, folded.translate(_LEET)))
    if any(_is_little_more(text, (*words, *_stolen(text))) for text in written):
        return [GUESSABLE]
    with _estimating:
        score: int = zxcvbn(password[:ESTIMATED_LENGTH], user_inputs=words)["score"]
    return [GUESSABLE] if score < MIN_SCORE else []


def _words(known: Iterable[str | None]) -> list[str]:
    """What somebody tries who knows the person and this service, longest first: whole texts and their parts."""
    found = set(SERVICE)
    for text in known:
        folded = _normal(text or "").casefold()
        parts = re.findall(r"[^\W_]+", folded)
        found |= {folded, folded.split("@")[0], "".join(parts), *parts, *(one.removeprefix("86") for one in parts)}
        found |= {one[-8:] for one in parts if one.isdigit()}
    found |= {one[::-1] for one in found if len(one) >= _REVERSED}
    return sorted((one for one in found if len(one) > 1), key=lambda one: (-len(one), one))


def _stolen(password: str) -> list[str]:
    """A stolen password that a password is made of by repeating it or adding to it: its only word, and its numbers."""
    words = set(re.findall(r"[^\W\d_]+", password))
    found = [*words] if len(words) == 1 else []
    return [one for one in (*found, *re.findall(r"\d+", password)) if one in _breached]


def _is_little_more(password: str, words: Iterable[str]) -> bool:
    """Whether nearly all of a password is own words, years and what stands between them."""
    rest = password
    for word in words:
        rest = rest.replace(word, " ")
    if rest == password:
        return False
    rest = re.sub(r"[\W_]", "", re.sub(r"(?<!\d)(?:19|20)\d\d(?!\d)", " ", rest))
    return sum(2 if char >= _CJK else 1 for char in rest) < OWN_REST


def generate() -> str:
    """A password to be used once: 20 letters and digits that cannot be mistaken, in four groups; 98 bits."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(5)) for _ in range(4))
