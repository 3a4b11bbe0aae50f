"""What people log in with: phone numbers, e-mail addresses and user names, in one form each (K1, K3)."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

import phonenumbers

from smart_auth.problems import N_, UnusableValue

MOBILE: Final = re.compile(r"1[3-9]\d{9}")
"""A mobile number of mainland China as people write it."""
EMAIL: Final = re.compile(
    r"[^@\s\x00-\x1f,;<>()\"]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]"
)
USERNAME: Final = re.compile(r"[a-z][a-z0-9._-]{2,31}")
MAX_LENGTH: Final = 254
NAME_LENGTH: Final = 100

_NO_DIGITS: Final = re.compile(r"[\s().\-\u2010-\u2015]")
_TYPES: Final = frozenset({phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE})


def normal_phone(text: str) -> str | None:
    """The E.164 form of a mobile number in any usual writing; None when it is none.

    Full-width digits, spaces, dashes and parentheses are read; without a country code it is a number of mainland China.
    """
    plain = _NO_DIGITS.sub("", unicodedata.normalize("NFKC", text[:64]))
    if MOBILE.fullmatch(plain):
        return f"+86{plain}"
    if plain.startswith("00"):
        plain = "+" + plain[2:]
    elif re.fullmatch(r"861[3-9]\d{9}", plain):
        plain = "+" + plain
    if plain.startswith("+86") and not MOBILE.fullmatch(plain[3:]):
        return None
    if not re.fullmatch(r"\+?\d{5,15}", plain, re.ASCII):
        return None
    try:
        number = phonenumbers.parse(plain, "CN")
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number) or phonenumbers.number_type(number) not in _TYPES:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def normal_email(text: str) -> str | None:
    """An e-mail address casefolded; None when it is none."""
    plain = unicodedata.normalize("NFKC", text).strip().casefold()
    return plain if len(plain) <= MAX_LENGTH and EMAIL.fullmatch(plain) else None


def normal_username(text: str) -> str | None:
    """A user name casefolded; None when it is none: 3 to 32 of a-z 0-9 . _ - with a letter in front."""
    plain = unicodedata.normalize("NFKC", text).strip().casefold()
    return plain if USERNAME.fullmatch(plain) else None


def phone_of(text: str) -> str:
    """As `normal_phone`. Raises: UnusableValue."""
    phone = normal_phone(text)
    if phone is None:
        raise UnusableValue("phone", N_("Enter a mobile phone number."))
    return phone


def email_of(text: str) -> str:
    """As `normal_email`. Raises: UnusableValue."""
    email = normal_email(text)
    if email is None:
        raise UnusableValue("email", N_("Enter an e-mail address."))
    return email


def username_of(text: str) -> str:
    """As `normal_username`. Raises: UnusableValue."""
    username = normal_username(text)
    if username is None:
        raise UnusableValue("username", N_("A user name has 3 to 32 letters a-z, digits, dots or dashes."))
    return username


def name_of(text: str) -> str:
    """A name as shown to people, trimmed. Raises: UnusableValue when empty, too long, or with control characters."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name or len(name) > NAME_LENGTH or any(unicodedata.category(char) in ("Cc", "Cf", "Cs") for char in name):
        raise UnusableValue("name", N_("Enter a name of at most 100 characters."))
    return name
