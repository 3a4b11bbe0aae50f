"""What the gate makes of a search besides its conditions (tests/spec/test_policy.py asks the server)."""

from __future__ import annotations

from dataclasses import fields

from fhir_server.authorize import Policy, narrow
from fhir_server.search.ast import NOTHING, Compare, Exists, Include, Search, Select, SortKey

POLICY = Policy({"Patient": Exists((16,), "key", Compare("key", "=", "x")), "Person": NOTHING})


def test_narrowing_keeps_everything_else_of_a_search() -> None:
    include = Include(("Patient",), (32,), Select(("Patient",)))
    sort = (SortKey((16,), "key"),)
    asked = Search(Select(("Patient",)), sort, 7, (1,), True, (include,), 11, 3, 13, containers=True)
    plain = Search(Select(("Patient",)))
    assert all(getattr(asked, one.name) != getattr(plain, one.name) for one in fields(Search) if one.name != "select")
    kept = narrow(asked, POLICY)
    changed = {one.name for one in fields(Search) if getattr(kept, one.name) != getattr(asked, one.name)}
    assert changed == {"select", "includes"}


def test_what_is_granted_to_no_avail_is_nothing() -> None:
    """As nothing it is known to whoever asks, without a search."""
    assert POLICY.predicate(("Person",)) is NOTHING
    assert POLICY.predicate(()) == NOTHING
