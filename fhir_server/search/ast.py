"""The search tree: what a search means once syntax, prefixes and modifiers are gone.

Three interpreters read it: storage/sqlite/compile.py, storage/mongo/compile.py and search/match.py in memory. They
know no
FHIRPath, no prefixes, no time zones: everything below is comparison of store-neutral index entries that
`search/extract.py` wrote.

Index entries
    A *document* is one resource, or one resource contained in it. It has an address (``Patient/1``; contained:
    ``Observation/7#p1``) and entries of two shapes:

    key entry    ``(param, key)``                          token, string, reference, uri, words
    range entry  ``(param, key, low, high, unit)``         date, number, quantity, composite, position

    `param` is a number that the registry gives to a (type, search parameter, variant); see `registry.param_id`. `key`
    and `unit`
    are text compared by code point (UTF-8 memcmp; SQLite BINARY, MongoDB simple collation). `low` and `high` are
    either signed
    64-bit integers (instants in microseconds since 1970-01-01T00:00:00Z, saturated; micro-degrees) or text
    (order-preserving
    keys of exact decimals, see values.number_key; second components of composites); of one type within one (param, key
    class).
    U+0000 never occurs; separators are U+001D..U+001F, which R4 forbids in strings (datatypes.html#string).
    Duplicate entries of one document are removed before they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

Scalar: TypeAlias = int | str
Column: TypeAlias = Literal["key", "low", "high", "unit"]
Operator: TypeAlias = Literal["=", "<", "<=", ">", ">=", "in", "prefix", "ends", "has"]


# --- tests on ONE index entry -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compare:
    """`column` of the entry compared with `value`.

    ``in`` takes a tuple of scalars; ``prefix``, ``ends`` and ``has`` (substring) take text and apply to text columns
    only.
    """

    column: Column
    op: Operator
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every test holds, on the same entry. An empty tuple holds always."""

    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one test holds, on the same entry. An empty tuple never holds."""

    tests: tuple[Test, ...]


Test: TypeAlias = Compare | AllOf | AnyOf

ANY: Final[Test] = AllOf(())


# --- predicates on one document ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class And:
    """Every part holds. `lasting`: what a policy demands, the same object in every search of a caller; whoever compiles
    it may keep what it became. It means nothing else, and equality does not look at it.
    """

    parts: tuple[Node, ...]
    lasting: bool = field(default=False, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


@dataclass(frozen=True, slots=True)
class Exists:
    """ONE entry of one of `params` passes the WHOLE test. ``:missing`` is ``Not(Exists(params, shape, ANY))``."""

    params: tuple[int, ...]
    shape: Literal["key", "range"]
    test: Test


@dataclass(frozen=True, slots=True)
class Linked:
    """A chain: a key entry of one of `params` is the address of a document that `target` selects.

    When `target.contained` is set, the addresses of contained documents count too (search.html 3.1.1.5.5).
    """

    params: tuple[int, ...]
    target: Select


@dataclass(frozen=True, slots=True)
class LinkedFrom:
    """`_has`: a document that `source` selects has, for one of `params`, a key entry equal to this document's
    address.
    """

    params: tuple[int, ...]
    source: Select


@dataclass(frozen=True, slots=True)
class Field:
    """A comparison on the resource itself, not on an entry.

    name     value
    type     text, the resource type
    id       text, the logical id (case-sensitive)
    address  text, ``Type/id``
    updated  int, microseconds: meta.lastUpdated
    Contained documents have the `type` of their own, and id, address, updated of none.
    """

    name: Literal["type", "id", "address", "updated"]
    op: Literal["=", "<", "<=", ">", ">=", "in"]
    value: Scalar | tuple[Scalar, ...]


Node: TypeAlias = And | Or | Not | Exists | Linked | LinkedFrom | Field

EVERYTHING: Final[Node] = And(())
NOTHING: Final[Node] = Or(())


@dataclass(frozen=True, slots=True)
class Select:
    """Binds one document. `types` None means every type. Deleted resources are never selected.

    `contained`: "no" binds resources only; "only" binds contained documents only; "both" either. A contained document's
    entries carry `param | CONTAINED` (see registry), so the compilers shift parameter numbers by the mode of the
    enclosing Select: tests written against the plain number are applied to plain numbers ("no"), to shifted ones
    ("only") or to both.
    A contained document belongs to its container and is narrowed with it: a policy's predicate does not apply to it.
    """

    types: tuple[str, ...] | None
    where: Node = EVERYTHING
    contained: Literal["no", "only", "both"] = "no"


CONTAINED: Final = 8  # bit of a param number: the entry belongs to a contained document; see registry.param_id


# --- a whole search ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SortKey:
    """One `_sort` rule. Minimum of the values ascending, maximum descending; documents without a value last in both.

    shape "key": the entries' key text. "range": low when ascending, high when descending. "updated", "id": the field;
    params ().
    For several `types`, `params` holds the numbers of all of them. `prefix`, for shape "key": only keys that begin with
    it are values (the type of a view such as `patient`); empty for all.
    """

    params: tuple[int, ...]
    shape: Literal["key", "range", "updated", "id"]
    descending: bool = False
    prefix: str = ""

    @property
    def test(self) -> Test:
        """What an entry passes that is a value."""
        return Compare("key", "prefix", self.prefix) if self.prefix else ANY


@dataclass(frozen=True, slots=True)
class Include:
    """One `_include` or `_revinclude`, narrowed.

    forward: for each selected document of `source` types, the targets of its `params` key entries that `select`
    selects.
    reverse: the documents that `select` selects whose `params` entries point at a selected document.
    `iterate`: applied again to what was included, up to the depth limit; otherwise only to matches.
    """

    source: tuple[str, ...] | None
    params: tuple[int, ...]
    select: Select
    reverse: bool = False
    iterate: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    """What a store executes. Every Select in it has passed `authorize.narrow`."""

    select: Select
    sort: tuple[SortKey, ...] = ()
    count: int = 50  # matches per page; 0 = only the total
    after: tuple[Scalar | None, ...] | None = None  # `SearchPage.next` of the page before
    total: bool = False  # count all matches exactly
    includes: tuple[Include, ...] = ()
    include_limit: int = 1000
    include_depth: int = 5
    chain_limit: int = 100_000  # more documents than this at one Linked/LinkedFrom: TooCostly
    containers: bool = False  # select.contained != "no": answer the containers instead of the contained documents
