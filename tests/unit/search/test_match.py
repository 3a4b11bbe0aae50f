"""The tree interpreted in memory: the interpreter that the stores are compared with."""

from __future__ import annotations

import pytest

from fhir_server.search import match
from fhir_server.search.ast import (
    ANY,
    CONTAINED,
    EVERYTHING,
    NOTHING,
    AllOf,
    And,
    AnyOf,
    Compare,
    Exists,
    Field,
    Linked,
    LinkedFrom,
    Node,
    Not,
    Or,
    Search,
    Select,
    SortKey,
)
from fhir_server.search.documents import Document
from fhir_server.search.match import MemoryCorpus

NAME, DATE, SUBJECT = 16, 32, 48


@pytest.fixture
def corpus() -> MemoryCorpus:
    held = MemoryCorpus()
    held.put([Document("Patient/a", "Patient", [(NAME, "eve"), (NAME, "smith")], [(DATE, "0", 5, 9, "")])], 100)
    held.put([Document("Patient/b", "Patient", [(NAME, "adam")], [(DATE, "1", 1, 20, "")])], 200)
    held.put(
        [
            Document("Observation/o", "Observation", [(SUBJECT, "Patient/a"), (SUBJECT, "Observation/o#p")]),
            Document("Observation/o#p", "Patient", [(NAME | CONTAINED, "inner")]),
        ],
        300,
    )
    return held


def key(operator: str, value: object, number: int = NAME) -> Node:
    return Exists((number,), "key", Compare("key", operator, value))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "select, addresses",
    [
        (Select(None), ["Patient/a", "Patient/b", "Observation/o"]),
        (Select(("Patient",)), ["Patient/a", "Patient/b"]),
        (Select(("Patient",), contained="both"), ["Patient/a", "Patient/b", "Observation/o#p"]),
        (Select(("Patient",), contained="only"), ["Observation/o#p"]),
        (Select(None, NOTHING), []),
        (Select(("Patient",), key("=", "eve")), ["Patient/a"]),
        (Select(("Patient",), key("in", ("eve", "adam"))), ["Patient/a", "Patient/b"]),
        (Select(("Patient",), key("prefix", "e")), ["Patient/a"]),
        (Select(("Patient",), key("ends", "th")), ["Patient/a"]),
        (Select(("Patient",), key("has", "da")), ["Patient/b"]),
        (Select(("Patient",), key("<", "b")), ["Patient/b"]),
        (Select(("Patient",), key(">=", "smith")), ["Patient/a"]),
        (Select(("Patient",), Not(key("=", "eve"))), ["Patient/b"]),
        (Select(("Patient",), And((key("=", "eve"), key("=", "smith")))), ["Patient/a"]),
        # One entry has to pass the whole test.
        (
            Select(("Patient",), Exists((NAME,), "key", AllOf((Compare("key", ">", "eve"), Compare("key", "<", "f"))))),
            [],
        ),
        (
            Select(("Patient",), Exists((NAME,), "key", AnyOf((Compare("key", "=", "x"), Compare("key", "=", "eve"))))),
            ["Patient/a"],
        ),
        (
            Select(("Patient",), Exists((DATE,), "range", AllOf((Compare("low", ">=", 5), Compare("high", "<=", 9))))),
            ["Patient/a"],
        ),
        # Numbers and text never meet.
        (Select(("Patient",), Exists((DATE,), "range", Compare("low", ">=", "5"))), []),
        (Select(None, Exists((SUBJECT,), "key", ANY)), ["Observation/o"]),
        (Select(None, Exists((NAME,), "key", AnyOf(()))), []),
        (Select(None, Field("type", "in", ("Patient", "Group"))), ["Patient/a", "Patient/b"]),
        (Select(None, Field("id", "=", "o")), ["Observation/o"]),
        (Select(None, Field("address", "=", "Patient/b")), ["Patient/b"]),
        (Select(None, Field("updated", ">", 100)), ["Patient/b", "Observation/o"]),
        # A contained resource has no id, address or time of its own.
        (Select(None, Field("updated", ">=", 0), "only"), []),
        (Select(None, Field("type", "=", "Patient"), "only"), ["Observation/o#p"]),
        (Select(None, key("=", "inner")), []),
        (Select(None, key("=", "inner"), "only"), ["Observation/o#p"]),
        (Select(None, Linked((SUBJECT,), Select(("Patient",), key("=", "eve")))), ["Observation/o"]),
        (Select(None, Linked((SUBJECT,), Select(("Patient",), key("=", "inner")))), []),
        (Select(None, Linked((SUBJECT,), Select(("Patient",), key("=", "inner"), "both"))), ["Observation/o"]),
        (Select(None, LinkedFrom((SUBJECT,), Select(("Observation",)))), ["Patient/a"]),
        (Select(None, LinkedFrom((SUBJECT,), Select(("Observation",))), "both"), ["Patient/a", "Observation/o#p"]),
        (Select(None, Or((key("=", "adam"), Field("type", "=", "Observation")))), ["Patient/b", "Observation/o"]),
        (Select(None, EVERYTHING, "only"), ["Observation/o#p"]),
    ],
)
def test_predicates(corpus: MemoryCorpus, select: Select, addresses: list[str]) -> None:
    assert [document.address for document in match.select_all(select, corpus)] == addresses


@pytest.mark.parametrize(
    "sort, addresses",
    [
        ((SortKey((NAME,), "key"),), ["Patient/b", "Patient/a", "Observation/o"]),
        ((SortKey((NAME,), "key", True),), ["Patient/a", "Patient/b", "Observation/o"]),
        ((SortKey((DATE,), "range"),), ["Patient/b", "Patient/a", "Observation/o"]),
        ((SortKey((DATE,), "range", True),), ["Patient/b", "Patient/a", "Observation/o"]),
        ((SortKey((), "updated", True),), ["Observation/o", "Patient/b", "Patient/a"]),
        ((SortKey((), "id"),), ["Patient/a", "Patient/b", "Observation/o"]),
        ((SortKey((SUBJECT,), "key"), SortKey((), "id", True)), ["Observation/o", "Patient/b", "Patient/a"]),
    ],
)
def test_order(corpus: MemoryCorpus, sort: tuple[SortKey, ...], addresses: list[str]) -> None:
    assert match.search(Search(Select(None), sort), corpus) == addresses


def test_an_update_keeps_the_place_and_forgets_what_was_contained(corpus: MemoryCorpus) -> None:
    corpus.put([Document("Patient/a", "Patient", [(NAME, "new")])], 400)
    corpus.put([Document("Observation/o", "Observation")], 500)
    assert match.search(Search(Select(None, EVERYTHING, "both")), corpus) == ["Patient/a", "Patient/b", "Observation/o"]
    assert corpus.updated("Patient/a") == 400
    corpus.delete("Observation/o")
    assert corpus.get("Observation/o") is None
