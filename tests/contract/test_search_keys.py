"""Key entries: tokens, strings, references, uris, words. Shapes as in docs/architecture.md, Index entries."""

import pytest

from fhir_server.search.match import compare
from fhir_server.storage.protocol import Store
from tests.support.given import (
    ANY,
    CODE,
    FAMILY,
    GENDER,
    ORGANIZATION_NAME,
    PRACTITIONER_NAME,
    SUBJECT,
    AllOf,
    And,
    AnyOf,
    Compare,
    Exists,
    Field,
    Not,
    Or,
    delete,
    find,
    given,
    has,
    has_key,
    put,
)

LOINC, SYSTEM = "\x1fhttp://loinc.org", "\x1fhttp://example.org/codes"


@pytest.fixture
def observations(store: Store) -> Store:
    given(
        store,
        [
            put("Observation/1", [(CODE, f"8867-4{LOINC}"), (SUBJECT, "Patient/a")]),
            put("Observation/2", [(CODE, f"8867-4{SYSTEM}"), (SUBJECT, "Patient/a")]),
            put("Observation/3", [(CODE, "8867-4\x1f"), (CODE, f"pulse{SYSTEM}")]),
            put("Observation/4", [(CODE, f"88{LOINC}"), (SUBJECT, "Patient/ab")]),
            put("Observation/5", [(CODE, f"Case\x1e{SYSTEM[1:]}"), (SUBJECT, "http://other.example/fhir/Patient/a")]),
            put("Observation/6", [(SUBJECT, "Patient/b")]),
            put("Patient/a", [(FAMILY, "zoë")]),
        ],
    )
    return store


def key(op: str, value: object) -> Compare:
    return Compare("key", op, value)  # type: ignore[arg-type]


TOKENS = [
    (key("=", f"8867-4{LOINC}"), {1}),
    (key("=", "8867-4\x1f"), {3}),
    (key("=", "8867-4"), set()),
    (key("prefix", "8867-4\x1f"), {1, 2, 3}),
    (key("in", (f"8867-4{LOINC}", f"pulse{SYSTEM}", "absent")), {1, 3}),
    (key("in", (*tuple(f"n{n}" for n in range(40)), f"88{LOINC}")), {4}),
    (key("in", ()), set()),
    (key("ends", LOINC), {1, 4}),
    (key("ends", ""), {1, 2, 3, 4, 5}),
    (key("has", "67"), {1, 2, 3}),
    (key("has", "Case"), {5}),
    (key("has", "case"), set()),
    (key("has", "%"), set()),
    (key("prefix", "8_"), set()),
    (key("prefix", ""), {1, 2, 3, 4, 5}),
    (key(">", "8867-4\x1f"), {1, 2, 3, 5}),
    (key(">=", "8867-4\x1f"), {1, 2, 3, 5}),
    (key("<", "8867-4\x1f"), {4}),
    (key("<=", "8867-4\x1f"), {3, 4}),
    (AnyOf((key("prefix", "88\x1f"), key("prefix", "Case\x1e"))), {4, 5}),
    (AnyOf((key("=", f"88{LOINC}"), key("prefix", "pulse"))), {3, 4}),
    (AnyOf(()), set()),
    (AllOf((key("prefix", "8"), key("ends", LOINC))), {1, 4}),
    (AllOf((key("prefix", "8"), key("prefix", "88"), key("has", "67"))), {1, 2, 3}),
    (AllOf((key("=", f"88{LOINC}"), key("=", f"8867-4{LOINC}"))), set()),
    (AllOf((key("in", (f"88{LOINC}", f"8867-4{LOINC}")), key("has", "67"))), {1}),
    (AllOf((key(">", "8867-4\x1f"), key("<=", f"8867-4{SYSTEM}"))), {2}),
    (ANY, {1, 2, 3, 4, 5}),
]


@pytest.mark.parametrize("test,expected", TOKENS, ids=range(len(TOKENS)))
def test_a_test_on_one_entry_selects(observations: Store, test: object, expected: set[int]) -> None:
    assert find(observations, "Observation", has(CODE, test)) == [f"Observation/{n}" for n in sorted(expected)]


@pytest.mark.parametrize("test,expected", TOKENS, ids=range(len(TOKENS)))
def test_the_negation_of_a_test_selects_all_others(observations: Store, test: object, expected: set[int]) -> None:
    assert find(observations, "Observation", Not(has(CODE, test))) == [
        f"Observation/{n}" for n in range(1, 7) if n not in expected
    ]


@pytest.mark.parametrize("test,expected", TOKENS, ids=range(len(TOKENS)))
def test_a_test_beside_another_parameter_selects_both(observations: Store, test: object, expected: set[int]) -> None:
    both = And((has_key(SUBJECT, "Patient/a"), has(CODE, test)))
    assert find(observations, "Observation", both) == [f"Observation/{n}" for n in sorted(set(expected) & {1, 2})]


def test_references_are_compared_whole(observations: Store) -> None:
    assert find(observations, "Observation", has_key(SUBJECT, "Patient/a")) == ["Observation/1", "Observation/2"]
    assert find(observations, "Observation", has_key(SUBJECT, "http://other.example/fhir/Patient/a")) == [
        "Observation/5"
    ]


def test_missing_is_the_absence_of_any_entry(observations: Store) -> None:
    assert find(observations, "Observation", Not(has(CODE))) == ["Observation/6"]
    assert find(observations, "Observation", Not(has(SUBJECT))) == ["Observation/3"]
    assert find(observations, "Observation", And((has(CODE), has(SUBJECT)))) == [
        f"Observation/{n}" for n in (1, 2, 4, 5)
    ]


def test_a_whole_test_must_pass_on_one_entry(observations: Store) -> None:
    # Observation 3 has an entry that begins with 8867-4 and another one that ends with the system.
    assert find(observations, "Observation", has(CODE, AllOf((key("prefix", "8867-4"), key("ends", SYSTEM))))) == [
        "Observation/2"
    ]
    both = And((has(CODE, key("prefix", "8867-4")), has(CODE, key("ends", SYSTEM))))
    assert find(observations, "Observation", both) == ["Observation/2", "Observation/3"]


def test_parameters_that_no_document_has_match_nothing(observations: Store) -> None:
    assert find(observations, "Observation", has_key(HAS_NEVER, "x")) == []
    assert find(observations, "Observation", Not(has(HAS_NEVER))) == [f"Observation/{n}" for n in range(1, 7)]


HAS_NEVER = 16 * 99


def test_one_exists_may_ask_several_parameters(observations: Store) -> None:
    either = Exists((CODE, SUBJECT), "key", AnyOf((key("=", "Patient/b"), key("=", f"88{LOINC}"))))
    assert find(observations, "Observation", either) == ["Observation/4", "Observation/6"]


def test_types_restrict_a_search_over_parameters_of_several(store: Store) -> None:
    given(
        store,
        [put("Practitioner/1", [(PRACTITIONER_NAME, "ann")]), put("Organization/1", [(ORGANIZATION_NAME, "ann")])],
    )
    named = Exists((PRACTITIONER_NAME, ORGANIZATION_NAME), "key", key("=", "ann"))
    assert find(store, None, named) == ["Practitioner/1", "Organization/1"]
    assert find(store, ("Organization", "Patient"), named) == ["Organization/1"]
    assert find(store, "Practitioner", named) == ["Practitioner/1"]
    assert find(store, (), named) == []
    assert find(store, "Device", named) == []


TEXTS = [
    "a",
    "ab",
    "abc",
    "b",
    "é",
    "e\u0301",
    "ａ",
    "中",
    "中文",
    "\ud7ff",
    "\ue000",
    "\U0010ffff",
    "\U0010ffff!",
    "a\x1fb",
    "a b",
    "A",
]


@pytest.mark.parametrize("op", ["prefix", "ends", "has", "<", "<=", ">", ">=", "="])
def test_text_is_compared_by_code_point(store: Store, op: str) -> None:
    given(store, [put(f"Patient/{n}", [(FAMILY, text)]) for n, text in enumerate(TEXTS)])
    for text in TEXTS:
        expected = [f"Patient/{n}" for n, other in enumerate(TEXTS) if compare(op, other, text)]
        assert find(store, "Patient", has(FAMILY, key(op, text))) == expected, ascii(text)


def test_and_or_not_nest(observations: Store) -> None:
    a, b = has_key(SUBJECT, "Patient/a"), has(CODE, key("ends", LOINC))
    cases = [
        (Or((a, b)), {1, 2, 4}),
        (And((a, Not(b))), {2}),
        (Not(And((a, b))), {2, 3, 4, 5, 6}),
        (Not(Or((a, b))), {3, 5, 6}),
        (Or((And((a, b)), Not(has(CODE)))), {1, 6}),
        (Or((Not(a), b)), {1, 3, 4, 5, 6}),
        (And(()), {1, 2, 3, 4, 5, 6}),
        (Or(()), set()),
        (Not(And(())), set()),
        (Not(Or(())), {1, 2, 3, 4, 5, 6}),
        (And((Or(()), a)), set()),
        (Or((And(()), a)), {1, 2, 3, 4, 5, 6}),
        (Not(Not(a)), {1, 2}),
    ]
    for number, (node, expected) in enumerate(cases):
        assert find(observations, "Observation", node) == [f"Observation/{n}" for n in sorted(expected)], number


def test_fields_of_the_resource(observations: Store) -> None:
    store = observations
    updated = store.read("Observation", "1").updated  # type: ignore[union-attr]
    given(store, [put("Patient/c"), put("Patient/B")])
    later = store.read("Patient", "c").updated  # type: ignore[union-attr]
    cases = [
        (Field("id", "=", "a"), ["Patient/a"]),
        (Field("id", "in", ("c", "1", "zz")), ["Observation/1", "Patient/c"]),
        (Field("id", "in", ()), []),
        (Field("id", "=", "b"), []),
        (Field("id", ">", "6"), ["Patient/a", "Patient/c", "Patient/B"]),
        (And((Field("id", ">=", "5"), Field("id", "<", "a"))), ["Observation/5", "Observation/6", "Patient/B"]),
        (Field("address", "=", "Patient/a"), ["Patient/a"]),
        (Field("address", "in", tuple(f"Observation/{n}" for n in (6, 2, 9))), ["Observation/2", "Observation/6"]),
        (Field("address", ">", "Observation/5"), ["Observation/6", "Patient/a", "Patient/c", "Patient/B"]),
        (Field("type", "=", "Patient"), ["Patient/a", "Patient/c", "Patient/B"]),
        (Field("type", "in", ("Patient", "Device")), ["Patient/a", "Patient/c", "Patient/B"]),
        (Field("type", "<", "P"), [f"Observation/{n}" for n in range(1, 7)]),
        (Field("updated", ">", updated), ["Patient/c", "Patient/B"]),
        (And((Field("updated", ">=", later), Field("updated", "<", later + 1))), ["Patient/c", "Patient/B"]),
        (And((Field("updated", "<=", updated), Field("type", "=", "Patient"))), ["Patient/a"]),
        (Field("updated", "in", (later,)), ["Patient/c", "Patient/B"]),
        (And((Not(Field("id", "=", "a")), Field("type", "=", "Patient"))), ["Patient/c", "Patient/B"]),
        (And((Not(Field("updated", ">", updated)), has(SUBJECT))), [f"Observation/{n}" for n in (1, 2, 4, 5, 6)]),
    ]
    for number, (node, expected) in enumerate(cases):
        assert find(store, None, node) == expected, number
        assert find(store, "Patient", node) == [one for one in expected if one.startswith("Patient/")], number


def test_deleted_and_updated_resources_are_found_by_what_they_hold_now(store: Store) -> None:
    given(
        store,
        [put("Patient/1", [(FAMILY, "old"), (GENDER, "f")]), put("Patient/2", [(FAMILY, "old")])],
        [put("Patient/1", [(FAMILY, "new"), (GENDER, "f")]), delete("Patient/2")],
    )
    assert find(store, "Patient", has_key(FAMILY, "old")) == []
    assert find(store, "Patient", has_key(FAMILY, "new")) == ["Patient/1"]
    assert find(store, "Patient", has_key(GENDER, "f")) == ["Patient/1"]
    assert find(store, "Patient", Not(has_key(FAMILY, "old"))) == ["Patient/1"]
    assert find(store, "Patient") == find(store, None) == ["Patient/1"]
    assert find(store, None, Field("id", "=", "2")) == []
    given(store, [put("Patient/2", [(FAMILY, "back")])])
    assert find(store, "Patient") == ["Patient/1", "Patient/2"]
