"""Numbers that look right and belong to nobody (trap T27).

Resident IDs carry the division code 999999, unified social credit codes the division 999999 too: GB/T 2260 assigns no
division that starts with 99, so none was ever issued; checksum, date and sex digit are right. Mobile numbers start with
154, which the numbering plan has not assigned; British ones are Ofcom's for drama, American ones 555-01xx; fixed lines
start with 0000. Drug approval numbers are of a year 9999; bar codes are of GS1's prefix for restricted circulation.
"""

from __future__ import annotations

import datetime
import hashlib
from typing import Final

_USCC_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_WEIGHTS: Final = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
_RESIDENT_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_BASE32: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def resident_id(birth: datetime.date, sex: str, serial: int) -> str:
    """A resident ID of nowhere; its 17th digit is odd for men. `serial` (0-49) tells those of one day apart."""
    order = (900 + 2 * (serial % 50)) + (1 if sex == "male" else 0)
    body = f"999999{birth:%Y%m%d}{order:03d}"
    total = sum(int(digit) * weight for digit, weight in zip(body, _RESIDENT_WEIGHTS, strict=True))
    return body + "10X98765432"[total % 11]


def social_credit_code(serial: int, category: str = "2") -> str:
    """An 18-character unified social credit code of nowhere, registered by 1 (institutions) under `category`."""
    body = f"1{category}999999HEXTA{serial:04d}"
    total = sum(_USCC_ALPHABET.index(sign) * weight for sign, weight in zip(body, _USCC_WEIGHTS, strict=True))
    return body + _USCC_ALPHABET[(31 - total) % 31]


def mobile(serial: int) -> str:
    """A Chinese mobile number of an unassigned range."""
    return f"154{serial % 100_000_000:08d}"


def foreign_mobile(country: str, serial: int) -> str:
    """A number reserved for fiction, British or else North American."""
    if country == "GB":
        return f"+44 7700 900{serial % 1000:03d}"
    return f"+1 202-555-01{serial % 100:02d}"


def fixed_line(serial: int) -> str:
    """A Beijing number that no exchange can have."""
    return f"010-0000{serial:04d}"


def barcode(serial: int) -> str:
    """A GTIN-13 of the prefix 200, restricted circulation."""
    body = f"200{serial:09d}"
    total = sum(int(digit) * (3 if index % 2 else 1) for index, digit in enumerate(body))
    return body + str(-total % 10)


def approval_number(serial: int, chinese_medicine: bool = False) -> str:
    """A drug approval number (国药准字) of the year 9999."""
    return f"国药准字{'Z' if chinese_medicine else 'H'}9999{serial:04d}"


def business_number(prefix: str, day: datetime.date, *key: object) -> str:
    """Prefix, date, and eight characters that cannot be guessed from the neighbours (kernels 1.27)."""
    digest = int.from_bytes(hashlib.sha256("/".join(map(str, (prefix, day, *key))).encode()).digest()[:5], "big")
    tail = ""
    for _ in range(8):
        digest, index = divmod(digest, 32)
        tail += _BASE32[index]
    return f"{prefix}{day:%Y%m%d}{tail}"
