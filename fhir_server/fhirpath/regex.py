r"""Regular expressions whose time is linear in the text: matches() takes patterns from users and texts from anyone.

Python's `re` backtracks, and a pattern such as ``(a+)+b`` takes exponential time. Here a pattern becomes a
nondeterministic automaton, of which a deterministic one is built while it runs.

Literals, ``.``, classes ``[...]``, ``\d \D \w \W \s \S``, escapes, groups (capturing or ``(?:``), ``|``,
``* + ? {n} {n,} {n,m}`` (a ``?`` for laziness makes no difference), ``^``, ``$``. Refused, since not supported:
look-around, back-references, ``\b``, flags.

N1, 5.6.9 leaves open whether matches() means the whole text; it is true when a part matches, as later versions of
FHIRPath say, and as R4's own anchored patterns (eld-16, sdf-19) expect.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, assert_never

from fhir_server.fhirpath.errors import FhirPathError

MAX_PATTERN = 1000
MAX_STATES = 5000
MAX_TEXT = 1_000_000
_CACHED_TRANSITIONS = 20_000

Test: TypeAlias = Callable[[str], bool]


# --- syntax -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Char:
    test: Test


@dataclass(frozen=True, slots=True)
class _Sequence:
    parts: tuple[_Regex, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    parts: tuple[_Regex, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    part: _Regex
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class _Anchor:
    end: bool


_Regex: TypeAlias = "_Char | _Sequence | _Choice | _Repeat | _Anchor"


def _fault(what: str) -> FhirPathError:
    return FhirPathError(f"A regular expression {what}.")


def _is_digit(char: str) -> bool:
    return "0" <= char <= "9"


def _is_word(char: str) -> bool:
    return char == "_" or char.isalnum()


def _not(test: Test) -> Test:
    return lambda char: not test(char)


_CLASSES: dict[str, Test] = {
    "d": _is_digit,
    "D": _not(_is_digit),
    "w": _is_word,
    "W": _not(_is_word),
    "s": str.isspace,
    "S": _not(str.isspace),
}
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}


class _Parser:
    def __init__(self, pattern: str) -> None:
        if len(pattern) > MAX_PATTERN:
            raise _fault("is too long")
        self.text = pattern
        self.at = 0
        self.depth = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        char = self.peek()
        if not char:
            raise _fault("ends too early")
        self.at += 1
        return char

    def parse(self) -> _Regex:
        found = self.choice()
        if self.at < len(self.text):
            raise _fault("has a parenthesis too many")
        return found

    def choice(self) -> _Regex:
        parts = [self.sequence()]
        while self.peek() == "|":
            self.at += 1
            parts.append(self.sequence())
        return parts[0] if len(parts) == 1 else _Choice(tuple(parts))

    def sequence(self) -> _Regex:
        parts: list[_Regex] = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated(self.atom()))
        return parts[0] if len(parts) == 1 else _Sequence(tuple(parts))

    def repeated(self, part: _Regex) -> _Regex:
        while True:
            char = self.peek()
            if char == "*":
                least, most = 0, None
            elif char == "+":
                least, most = 1, None
            elif char == "?":
                least, most = 0, 1
            elif char == "{":
                match = re.compile(r"\{(\d{1,4})(?:(,)(\d{1,4})?)?\}", re.ASCII).match(self.text, self.at)
                if match is None:
                    raise _fault("has a brace that is not a repetition")
                least = int(match[1])
                most = least if not match[2] else int(match[3]) if match[3] else None
                if most is not None and most < least:
                    raise _fault("has a repetition whose bounds are in the wrong order")
                self.at = match.end() - 1
            else:
                return part
            self.at += 1
            if isinstance(part, _Anchor):
                raise _fault("repeats an anchor")
            part = _Repeat(part, least, most)
            if self.peek() == "?":
                self.at += 1
            elif self.peek() in ("+", "*", "{"):
                raise _fault("repeats a repetition")

    def atom(self) -> _Regex:
        char = self.take()
        if char == "(":
            self.depth += 1
            if self.depth > 30:
                raise _fault("is nested too deeply")
            if self.peek() == "?":
                if self.text[self.at : self.at + 2] != "?:":
                    raise _fault("has a group of a kind that is not supported")
                self.at += 2
            found = self.choice()
            if self.take() != ")":
                raise _fault("has a group without its end")
            self.depth -= 1
            return _Sequence((found,)) if isinstance(found, _Anchor) else found
        if char == "[":
            return _Char(self.char_class())
        if char == "\\":
            escape = self.escape()
            return _Char(escape if callable(escape) else escape.__eq__)
        if char == ".":
            return _Char(lambda _: True)  # N1: single line mode
        if char in "^$":
            return _Anchor(char == "$")
        if char in "*+?{":
            raise _fault("repeats nothing")
        return _Char(char.__eq__)

    def escape(self) -> str | Test:
        char = self.take()
        if char in _CLASSES:
            return _CLASSES[char]
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char == "u":
            digits = self.text[self.at : self.at + 4]
            if re.fullmatch("[0-9A-Fa-f]{4}", digits) is None:
                raise _fault("has an unfinished escape")
            self.at += 4
            return chr(int(digits, 16))
        if char.isalnum():
            raise _fault("has an escape that is not supported")
        return char

    def char_class(self) -> Test:
        negated = self.peek() == "^"
        self.at += negated
        singles: set[str] = set()
        ranges: list[tuple[str, str]] = []
        tests: list[Test] = []
        first = True
        while True:
            char = self.take()
            if char == "]" and not first:
                break
            first = False
            if char == "[" and self.peek() in (":", "=", "."):
                raise _fault("has a class of a kind that is not supported")
            item = self.escape() if char == "\\" else char
            if not isinstance(item, str):
                tests.append(item)
                continue
            following = self.text[self.at : self.at + 2]
            if following[:1] == "-" and len(following) == 2 and following[1] != "]":
                self.at += 1
                end = self.take()
                stop = self.escape() if end == "\\" else end
                if not isinstance(stop, str) or stop < item:
                    raise _fault("has a range in the wrong order")
                ranges.append((item, stop))
            else:
                singles.add(item)

        def test(char: str) -> bool:
            found = (
                char in singles or any(low <= char <= high for low, high in ranges) or any(each(char) for each in tests)
            )
            return found is not negated

        return test


# --- automaton --------------------------------------------------------------------------------------------------------


class _Automaton:
    """Thompson's construction: `tests[state]` with `nexts[state]`, empty moves in `moves`, anchors in `anchors`."""

    def __init__(self, pattern: _Regex, full: bool) -> None:
        self.tests: list[Test | None] = []
        self.nexts: list[int] = []
        self.moves: list[list[int]] = []
        self.anchors: list[str] = []
        self.full = full
        self.accept = self.state()
        self.begin = self.build(pattern, self.accept)
        self.cache: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self.start = self.closure([self.begin], at_start=True)
        # Where a part may match, an attempt begins before every character.
        self.restart = frozenset() if full else self.closure([self.begin], at_start=False)

    def state(
        self, test: Test | None = None, following: int = -1, moves: list[int] | None = None, anchor: str = ""
    ) -> int:
        if len(self.tests) >= MAX_STATES:
            raise _fault("is too large")
        self.tests.append(test)
        self.nexts.append(following)
        self.moves.append(moves or [])
        self.anchors.append(anchor)
        return len(self.tests) - 1

    def build(self, node: _Regex, following: int) -> int:
        """The first state of an automaton for `node` that goes on at `following`."""
        match node:
            case _Char(test=test):
                return self.state(test, following)
            case _Sequence(parts=parts):
                for part in reversed(parts):
                    following = self.build(part, following)
                return following
            case _Choice(parts=parts):
                return self.state(moves=[self.build(part, following) for part in parts])
            case _Anchor(end=end):
                return self.state(moves=[following], anchor="$" if end else "^")
            case _Repeat(part=part, least=least, most=most):
                if most is None:
                    loop = self.state(moves=[following])
                    self.moves[loop].insert(0, self.build(part, loop))
                    following = loop
                else:
                    after = following
                    for _ in range(most - least):
                        following = self.state(moves=[self.build(part, following), after])
                for _ in range(least):
                    following = self.build(part, following)
                return following
            case _:
                assert_never(node)

    def closure(self, states: list[int], at_start: bool = False, at_end: bool = False) -> frozenset[int]:
        found: set[int] = set()
        stack = list(states)
        while stack:
            state = stack.pop()
            if state in found:
                continue
            anchor = self.anchors[state]
            found.add(state)
            if (anchor == "^" and not at_start) or (anchor == "$" and not at_end):
                continue
            stack += self.moves[state]
        return frozenset(found)

    def step(self, states: frozenset[int], char: str) -> frozenset[int]:
        key = (states, char)
        found = self.cache.get(key)
        if found is None:
            tests, nexts = self.tests, self.nexts
            reached = [nexts[state] for state in states if (test := tests[state]) is not None and test(char)]
            found = self.closure(reached) | self.restart
            if len(self.cache) >= _CACHED_TRANSITIONS:
                self.cache.clear()
            self.cache[key] = found
        return found

    def __call__(self, text: str) -> bool:
        if len(text) > MAX_TEXT:
            raise FhirPathError("A text is too long for a regular expression.")
        states, accept, full = self.start, self.accept, self.full
        if not full and accept in states:
            return True
        for char in text:
            states = self.step(states, char)
            if not full and accept in states:
                return True
            if full and not states:
                return False
        # Anchors for the end (and, in an empty text, for both) are decided here.
        return accept in self.closure(list(states), at_start=not text, at_end=True)


@lru_cache(maxsize=256)
def matcher(pattern: str, full: bool = False) -> Callable[[str], bool]:
    """The test whether a text, or (not `full`) some part of it, matches. Raises FhirPathError for a faulty pattern."""
    return _Automaton(_Parser(pattern).parse(), full)


# --- replacement ------------------------------------------------------------------------------------------------------

# Backtracking over r repetitions of single characters takes at most n ** (r + 1) steps; these lengths keep that small.
_REPLACE_LENGTHS = (100_000, 5_000, 300, 80)
_SUBSTITUTION = re.compile(r"\\(.)|\$(\d)", re.DOTALL)


def _repetitions(node: _Regex) -> int:
    match node:
        case _Char() | _Anchor():
            return 0
        case _Sequence(parts=parts) | _Choice(parts=parts):
            return sum(map(_repetitions, parts))
        case _Repeat(part=part, least=least, most=most):
            if least == most:
                return _repetitions(part) * least
            if not isinstance(part, _Char):
                raise _fault("of replaceMatches() repeats more than a single character or class")
            return 1
        case _:
            assert_never(node)


@lru_cache(maxsize=256)
def replacer(pattern: str) -> Callable[[str, str], str]:
    """replaceMatches() for one pattern: (text, substitution with ``$1``) -> text.

    Finding the ends of matches needs backtracking, so the pattern is limited: at most three variable repetitions, each
    of a single character or class, and texts whose length makes even the worst case quick. FhirPathError otherwise.
    """
    repetitions = _repetitions(_Parser(pattern).parse())
    if repetitions >= len(_REPLACE_LENGTHS):
        raise _fault("of replaceMatches() has more than three variable repetitions")
    longest = _REPLACE_LENGTHS[repetitions]
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error:
        raise _fault("is not understood") from None

    def replace(text: str, substitution: str) -> str:
        if len(text) > longest or len(substitution) > 10_000:
            raise FhirPathError("A text is too long for replaceMatches() with this regular expression.")

        def expand(match: re.Match[str]) -> str:
            def part(reference: re.Match[str]) -> str:
                if reference[1] is not None:
                    return reference[1]
                group = int(reference[2])
                return (match[group] or "") if group <= compiled.groups else ""

            return _SUBSTITUTION.sub(part, substitution)

        if pattern == "":
            return text
        result = compiled.sub(expand, text)
        if len(result) > 4_000_000:
            raise FhirPathError("The expression makes a text that is too long.")
        return result

    return replace
