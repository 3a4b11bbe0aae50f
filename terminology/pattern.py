"""Regular expressions of value set filters, limited to those that a backtracking matcher decides quickly.

A stored ValueSet is data from outside, and one expression such as `(a+)+b` can hold a worker for minutes. Accepted is
what has no repetition around a repetition or a choice, few open repetitions, no reference back and no look around.
"""

from __future__ import annotations

import re
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

MAX_LENGTH: Final = 500
MAX_OPEN_REPEATS: Final = 4


class Unsafe(ValueError):
    """The expression is malformed, or may take too long. Its text says which construct is at fault."""


def compile_safe(expression: str) -> re.Pattern[str]:
    """The compiled expression. Raises Unsafe."""
    if len(expression) > MAX_LENGTH:
        raise Unsafe(f"it is longer than {MAX_LENGTH} characters")
    try:
        tree = parser.parse(expression)
        if _open_repeats(tree, inside=False) > MAX_OPEN_REPEATS:
            raise Unsafe(f"it has more than {MAX_OPEN_REPEATS} open repetitions")
        return re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        raise Unsafe("it is malformed") from error


_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_PLAIN = (op.LITERAL, op.NOT_LITERAL, op.ANY, op.AT, op.IN)


def _open_repeats(tree: Any, inside: bool) -> int:
    count = 0
    for kind, value in tree:
        if kind in _REPEATS:
            low, high, body = value
            if inside:
                raise Unsafe("it repeats a repetition")
            count += _open_repeats(body, inside=high > 1)
            if high - low > 1 if high is not op.MAXREPEAT else True:
                count += 1
        elif kind is op.SUBPATTERN:
            count += _open_repeats(value[-1], inside)
        elif kind is op.BRANCH:
            if inside:
                raise Unsafe("it repeats a choice")
            count += sum(_open_repeats(branch, inside) for branch in value[1])
        elif kind is op.ATOMIC_GROUP:
            count += _open_repeats(value, inside)
        elif kind not in _PLAIN:
            raise Unsafe("it looks around or refers back")
    return count
