"""Limits of one test on index entries, alike on both stores: a search is refused on both or on none.

They keep what a test compiles to below what MongoDB takes (regular expressions end at 32,764 bytes) and what SQLite
plans well.
"""

from __future__ import annotations

from typing import Final, assert_never

from fhir_server.errors import TooCostly
from fhir_server.search.ast import AllOf, AnyOf, Compare, Test

MAX_ALTERNATIVES: Final = 256
"""Conjunctions that one test may stand for."""
MAX_TEXT: Final = 10_000
"""UTF-8 bytes of a text to be looked for within or at the end of others."""


def alternatives(test: Test) -> list[list[Compare]]:
    """`test` as alternatives, each a list of comparisons that all hold on one entry.

    Raises: TooCostly above MAX_ALTERNATIVES or MAX_TEXT.
    """
    match test:
        case Compare(op="has" | "ends", value=str(text)) if len(text.encode()) > MAX_TEXT:
            raise TooCostly("A value of this search is too long to look for inside others.")
        case Compare():
            return [[test]]
        case AnyOf(tests):
            return [alternative for one in tests for alternative in alternatives(one)]
        case AllOf(tests):
            product: list[list[Compare]] = [[]]
            for one in tests:
                more = alternatives(one)
                if len(product) * len(more) > MAX_ALTERNATIVES and len(product) > 1:
                    raise TooCostly("A parameter of this search combines too many alternatives.")
                product = [[*left, *right] for left in product for right in more]
            return product
        case _:
            assert_never(test)
