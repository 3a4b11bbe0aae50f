"""Store-neutral values: folded text, instants as integers, exact decimals as order-preserving text.

Both sides use these functions, `extract` for what is stored and `resolve` for what is searched, so that a store
compares only. R4 search.html#string, #token, #date, #number, #quantity.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

from metaphone import doublemetaphone

CLASS_MARK: Final = "\x1d"
"""Between the left part of a composite and the class of its right part."""
EXACT: Final = "\x1e"
"""Between a code and its system, when codes of the system are case-sensitive."""
MARK: Final = "\x1f"
"""Between folded text and what belongs to it (system, raw text, canonical version)."""
AFTER_MARK: Final = "\x20"
"""The code point after MARK: ends a range over everything that has a mark at a position."""
SEALED: Final = "sealed:1:"
"""Begins the text that stands for an encrypted identifier; see sealing.py."""

# --- text -------------------------------------------------------------------------------------------------------------

_BLANKS: Final = str.maketrans({c: " " for c in string.punctuation if unicodedata.category(c).startswith("P")})


def fold(text: str) -> str:
    """Case folded, nothing else: codes and identifiers whose system is not known to be case-sensitive."""
    return text.lower() if text.isascii() else text.casefold()


@lru_cache(maxsize=16_384)
def _normalize_short(text: str) -> str:
    if text.isascii():
        return " ".join(text.lower().translate(_BLANKS).split())
    characters = []
    for character in unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()):
        category = unicodedata.category(character)
        if category[0] != "M":
            characters.append(" " if category[0] in "PZ" else character)
    return " ".join("".join(characters).split())


def normalize(text: str) -> str:
    """Text as strings are compared: NFKD, marks removed, case folded, punctuation and runs of blanks to one blank.

    Idempotent. Spec: R4 search.html#string ("case and accent insensitive"; "should ignore punctuation and blanks").
    """
    return _normalize_short(text) if len(text) <= 200 else _normalize_short.__wrapped__(text)


def string_key(text: str) -> str:
    """Normalized text, then, when it differs, U+001F and the raw text: one equality answers ``:exact``."""
    folded = normalize(text)
    return folded if folded == text else f"{folded}{MARK}{text}"


WORD_LENGTH: Final = 256
"""Characters of a key of a later word; searches compare as many."""
MAX_WORDS: Final = 100
"""Words of one part of a name or address that are indexed on their own: it bounds what a megabyte of text costs."""


def word_keys(text: str) -> Iterator[str]:
    """The second and later words of a part of a name or address, each with what follows it, normalized."""
    folded = normalize(text)
    at = folded.find(" ")
    for _ in range(MAX_WORDS):
        if at == -1:
            return
        yield folded[at + 1 : at + 1 + WORD_LENGTH]
        at = folded.find(" ", at + 1)


def phonetic_keys(text: str) -> list[str]:
    """Double metaphone codes (primary, secondary) of each word of a name; a word without a code stands for itself.

    Library: ``Metaphone`` (PyPI), the algorithm of L. Philips. Words outside Latin script have no code.
    """
    found: dict[str, None] = {}
    for word in normalize(text).split()[:MAX_WORDS]:
        codes = [code for code in doublemetaphone(word) if code] if word.isascii() else []
        for code in codes or [word]:
            found[code] = None
    return list(found)


_TOKENS: Final = re.compile(r"[^\W_]+")
_CJK: Final = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+")


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    for token in _TOKENS.findall(unicodedata.normalize("NFC", normalize(text))):
        at = 0
        if not token.isascii():
            for match in _CJK.finditer(token):
                if match.start() > at:
                    yield token[at : match.start()], False
                yield match.group(), True
                at = match.end()
        if at < len(token):
            yield token[at:], False


def index_words(text: str) -> set[str]:
    """Words of the index of ``_text`` and ``_content``: folded; CJK as bigrams, and a run's last character alone."""
    found: set[str] = set()
    for run, cjk in _runs(text):
        if cjk:
            found.update(run[i : i + 2] for i in range(len(run)))
        else:
            found.add(run)
    return found


def query_words(text: str) -> tuple[list[str], list[str]]:
    """(words that must occur, single CJK characters that must begin a word of the index)."""
    words: dict[str, None] = {}
    prefixes: dict[str, None] = {}
    for run, cjk in _runs(text):
        if not cjk:
            words[run] = None
        elif len(run) == 1:
            prefixes[run] = None
        else:
            words.update(dict.fromkeys(run[i : i + 2] for i in range(len(run) - 1)))
    return list(words), list(prefixes)


# --- tokens, canonicals -----------------------------------------------------------------------------------------------


def token_key(system: str, code: str, sensitive: bool = False) -> str:
    """``fold(code) U+001F system``, or ``code U+001E system`` when codes of the system are case-sensitive."""
    return f"{code}{EXACT}{system}" if sensitive else f"{fold(code)}{MARK}{system}"


def canonical_key(text: str) -> str:
    """A uri as it is; the business version of a canonical (``url|version``) behind U+001F."""
    return text.replace("|", MARK, 1) if "|" in text else text


# --- numbers ----------------------------------------------------------------------------------------------------------

LOWEST: Final = ""
"""Below the key of every number: minus infinity."""
HIGHEST: Final = "~"
"""Above the key of every number: plus infinity."""
_EXPONENT_LIMIT: Final = 4998
_COMPLEMENT: Final = str.maketrans("0123456789", "9876543210")


def number_key(number: Decimal | int | str) -> str:
    """An exact decimal as text whose order by code point is the order of the numbers.

    Shape: ``1`` for zero; ``2``, four digits of exponent, digits for positive numbers; ``0`` and the same in nines'
    complement, closed by ``~``, for negative ones. Trailing zeros do not count. Adjusted exponents are bounded to
    +-4998: larger magnitudes are all equal, and above every other; smaller ones are all equal, and next to zero.
    """
    # Python refuses to print integers of more than 4,300 digits; a Decimal has no such limit.
    text = str(Decimal(number) if isinstance(number, int) and number.bit_length() > 1000 else number)
    negative = text[0] == "-"
    mantissa = text[1:] if negative or text[0] == "+" else text
    exponent = 0
    if "E" in mantissa or "e" in mantissa:
        mantissa, _, power = mantissa.replace("E", "e").partition("e")
        exponent = int(power) if len(power) < 12 else (-(10**9) if power[0] == "-" else 10**9)
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "1"
    exponent += len(digits) - len(fraction) - 1
    digits = digits.rstrip("0")
    if exponent > _EXPONENT_LIMIT:
        exponent, digits = _EXPONENT_LIMIT + 1, "1"
    elif exponent < -_EXPONENT_LIMIT:
        exponent, digits = -_EXPONENT_LIMIT - 1, "1"
    body = f"{exponent + 5000:04d}{digits}"
    return f"0{body.translate(_COMPLEMENT)}~" if negative else f"2{body}"


_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,9})?", re.ASCII)


def parse_number(text: str) -> Decimal | None:
    """A decimal as a search value writes it, None when it is none. `text` longer than 1,000 characters is none."""
    return Decimal(text) if len(text) <= 1000 and _NUMBER.fullmatch(text) else None


def precision_range(number: Decimal) -> tuple[Decimal, Decimal]:
    """[low, high): the numbers that round to `number` at its precision: 100 -> [99.5, 100.5), 1e2 -> [95, 105).

    The precision of ``1e2`` is that of its significant digits (one), so half of its last digit is 50, which
    search.html#number rounds to 5 ("1e2: 95 to 105"): R4's own example takes one digit more for exponential notation.
    """
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    scale = exponent - 1 if exponent > 0 else exponent
    half = Decimal((0, (5,), max(min(scale, 10_000), -10_000) - 1))
    return exact_sum(number, -half), exact_sum(number, half)


def exact_sum(left: Decimal, right: Decimal) -> Decimal:
    """left + right without the 28 digits of the default context; far apart exponents leave the larger one as it is."""
    if abs(left.adjusted() - right.adjusted()) > 2000:
        return left if left.adjusted() > right.adjusted() else right
    (sign_a, digits_a, exponent_a), (sign_b, digits_b, exponent_b) = left.as_tuple(), right.as_tuple()
    assert isinstance(exponent_a, int)
    assert isinstance(exponent_b, int)
    exponent = min(exponent_a, exponent_b)
    a = int("".join(map(str, digits_a)) or "0") * 10 ** (exponent_a - exponent) * (-1 if sign_a else 1)
    b = int("".join(map(str, digits_b)) or "0") * 10 ** (exponent_b - exponent) * (-1 if sign_b else 1)
    return Decimal(f"{a + b}E{exponent}")


# --- dates ------------------------------------------------------------------------------------------------------------

PAST: Final = -(2**63)
FUTURE: Final = 2**63 - 1
SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
WIDTHS: Final = (("0", 25 * 3600 * SECOND), ("1", 366 * DAY + 3600 * SECOND), ("2", None))
"""(width class, the largest width in it): class 0 at most 25 hours, class 1 at most 366 days and an hour, class 2 the
rest.
"""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL: Final = _EPOCH.toordinal()
_DATE: Final = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII
)


def width_class(low: int, high: int) -> str:
    """The class of a range of instants, see docs/architecture.md, "Index entries"."""
    width = high - low
    return "0" if width <= 90_000_000_000 else "1" if width <= 31_626_000_000_000 else "2"


class Calendar:
    """Dates and times of one server: what has no offset is in its zone (HESTIA_TIMEZONE).

    Spec: R4 search.html#date. All results are microseconds since 1970-01-01T00:00:00Z; ranges are half open.
    """

    def __init__(self, zone: tzinfo = UTC) -> None:
        self.zone = zone
        self._utc = zone is UTC or str(zone) in ("UTC", "Etc/UTC")
        self.day_range = lru_cache(maxsize=8192)(self._day_range)

    def offset(self, year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
        """Seconds east of UTC at that local time; at the first of two equal local times."""
        if self._utc:
            return 0
        # A zone's rules cannot be asked at the very ends of the calendar; a year further in they are the same.
        if not 1 < year < 9999:
            year, day = min(max(year, 2), 9998), min(day, 28)
        found = datetime(year, month, day, hour, minute, tzinfo=self.zone).utcoffset()
        return 0 if found is None else int(found.total_seconds())

    def midnight(self, year: int, month: int, day: int) -> int:
        """The instant at which that local day begins (years 1 to 10000)."""
        if year == 10000:
            return self.midnight(9999, 12, 31) + DAY
        return (
            (date(year, month, day).toordinal() - _EPOCH_ORDINAL) * 86_400 - self._day_offset(year, month, day)
        ) * SECOND

    def _day_offset(self, year: int, month: int, day: int) -> int:
        if self._utc:
            return 0
        if not 1 < year < 9999:
            return self.offset(year, month, day)
        found = datetime(year, month, day, tzinfo=self.zone).utcoffset()
        return 0 if found is None else int(found.total_seconds())

    def _day_range(self, year: int, month: int, day: int) -> tuple[int, int]:
        """[low, high) of a year (month 0), a month (day 0) or a day. Raises ValueError for a day that does not
        exist.
        """
        if not month:
            return self.midnight(year, 1, 1), self.midnight(year + 1, 1, 1)
        if not day:
            low = self.midnight(year, month, 1)
            return low, self.midnight(year + month // 12, month % 12 + 1, 1)
        low = self.midnight(year, month, day)
        if (year, month, day) == (9999, 12, 31):
            return low, low + DAY
        following = date(year, month, day) + timedelta(days=1)
        return low, self.midnight(following.year, following.month, following.day)

    def range(self, text: str) -> tuple[int, int]:
        """[low, high) that a date or dateTime stands for: "2020-02" all of February, "...:17Z" the whole second.

        Minutes without seconds are read (searches may leave them out); ``:60`` is the second after ``:59``; digits
        below the microsecond widen nothing. Raises: ValueError when `text` is no date that exists.
        """
        match = _DATE.fullmatch(text)
        if match is None:
            raise ValueError("not a date")
        year, month, day, hour, minute, second, fraction, zone = match.groups()
        if year == "0000" or month == "00" or day == "00":
            raise ValueError("not a date")
        if hour is None:
            return self.day_range(int(year), int(month or 0), int(day or 0))
        y, m, d, hh, mm, ss = int(year), int(month), int(day), int(hour), int(minute), int(second or 0)
        if hh > 23 or mm > 59 or ss > 60:
            raise ValueError("not a time")
        days = date(y, m, d).toordinal() - _EPOCH_ORDINAL
        if zone is None:
            offset = self.offset(y, m, d, hh, mm)
        elif zone == "Z":
            offset = 0
        else:
            offset_hours, offset_minutes = int(zone[1:3]), int(zone[4:6])
            if offset_hours > 14 or offset_minutes > 59:
                raise ValueError("not an offset")
            offset = (offset_hours * 3600 + offset_minutes * 60) * (-1 if zone[0] == "-" else 1)
        low = (days * 86_400 + hh * 3600 + mm * 60 + ss - offset) * SECOND
        if second is None:
            return low, low + 60 * SECOND
        if fraction is None:
            return low, low + SECOND
        low += int(fraction[:6].ljust(6, "0"))
        return low, low + 10 ** max(0, 6 - len(fraction))

    def instant(self, text: str) -> int:
        """The point of an instant; ValueError when `text` is none. Below microseconds it is cut."""
        try:
            return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
        except (ValueError, TypeError, OverflowError):
            return self.range(text)[0]

    def stored(self, text: str) -> tuple[int, int]:
        """`range` of a value that has been validated, quicker for the usual forms."""
        length = len(text)
        if length <= 10:
            try:
                return self.day_range(int(text[:4]), int(text[5:7] or 0), int(text[8:] or 0))
            except ValueError:
                return self.range(text)
        if (length == 20 or length == 25) and text[19] != ".":
            try:
                delta = datetime.fromisoformat(text) - _EPOCH
            except (ValueError, TypeError, OverflowError):
                return self.range(text)
            low = (delta.days * 86_400 + delta.seconds) * SECOND
            return low, low + SECOND
        return self.range(text)


_MICROSECOND: Final = timedelta(microseconds=1)


def just_above(key: str) -> str:
    """A key between the number of `key` and every larger number."""
    return key + "0"


def just_below(key: str) -> str:
    """A key between the number of `key` and every smaller number."""
    if key == "1":
        return "0~"
    return key[:-1] + ("}" if key[0] == "0" else chr(ord(key[-1]) - 1) + "~")


_DIGITS: Final = Context(prec=60)


def fraction_key(number: Fraction) -> str:
    """The key of a number of canonical units, rounded to 60 digits: a third has no exact decimal."""
    return number_key(_DIGITS.divide(Decimal(number.numerator), Decimal(number.denominator)))
