"""Chains, reverse chains and their limit. R4 search.html#chaining, #has."""

import pytest

from fhir_server.errors import TooCostly
from fhir_server.storage.protocol import Store
from tests.support.given import (
    CODE,
    FAMILY,
    GENDER,
    GENERAL_PRACTITIONER,
    HAS_MEMBER,
    ORGANIZATION_NAME,
    PART_OF,
    PRACTITIONER_NAME,
    SUBJECT,
    And,
    Field,
    Linked,
    LinkedFrom,
    Not,
    Or,
    Select,
    delete,
    find,
    given,
    has,
    has_key,
    put,
    searching,
)


@pytest.fixture
def hospital(store: Store) -> Store:
    given(
        store,
        [
            put("Organization/top", [(ORGANIZATION_NAME, "top")]),
            put("Organization/ward", [(ORGANIZATION_NAME, "ward"), (PART_OF, "Organization/top")]),
            put("Practitioner/ann", [(PRACTITIONER_NAME, "ann")]),
            put("Patient/1", [(FAMILY, "one"), (GENDER, "f"), (GENERAL_PRACTITIONER, "Practitioner/ann")]),
            put("Patient/2", [(FAMILY, "two"), (GENDER, "f"), (GENERAL_PRACTITIONER, "Organization/ward")]),
            put("Patient/3", [(FAMILY, "three"), (GENDER, "m")]),
            put("Observation/1", [(SUBJECT, "Patient/1"), (CODE, "x")]),
            put("Observation/2", [(SUBJECT, "Patient/2"), (CODE, "x"), (HAS_MEMBER, "Observation/1")]),
            put("Observation/3", [(SUBJECT, "Patient/3"), (CODE, "y"), (HAS_MEMBER, "Observation/2")]),
            put("Observation/4", [(SUBJECT, "Patient/absent"), (CODE, "y")]),
            put("Observation/5", [(SUBJECT, "Patient/1"), (CODE, "y")]),
        ],
    )
    return store


def patient(where: object) -> Linked:
    return Linked((SUBJECT,), Select(("Patient",), where))  # type: ignore[arg-type]


def observed(where: object) -> LinkedFrom:
    return LinkedFrom((SUBJECT,), Select(("Observation",), where))  # type: ignore[arg-type]


def test_a_chain_follows_references(hospital: Store) -> None:
    assert find(hospital, "Observation", patient(has_key(FAMILY, "one"))) == ["Observation/1", "Observation/5"]
    assert find(hospital, "Observation", patient(has_key(GENDER, "f"))) == [f"Observation/{n}" for n in (1, 2, 5)]
    assert find(hospital, "Observation", patient(has_key(FAMILY, "nobody"))) == []
    assert find(hospital, "Observation", Not(patient(has_key(GENDER, "f")))) == ["Observation/3", "Observation/4"]
    assert find(hospital, "Observation", patient(Not(has_key(GENDER, "f")))) == ["Observation/3"]
    assert find(hospital, "Observation", patient(And(()))) == [f"Observation/{n}" for n in (1, 2, 3, 5)]


def test_a_chain_and_a_token_hold_together(hospital: Store) -> None:
    assert find(hospital, "Observation", And((patient(has_key(GENDER, "f")), has_key(CODE, "y")))) == ["Observation/5"]
    assert find(hospital, "Observation", Or((patient(has_key(FAMILY, "two")), has_key(CODE, "y")))) == [
        f"Observation/{n}" for n in (2, 3, 4, 5)
    ]


def test_chains_chain(hospital: Store) -> None:
    top = Linked((PART_OF,), Select(("Organization",), has_key(ORGANIZATION_NAME, "top")))
    in_ward = Linked((GENERAL_PRACTITIONER,), Select(("Organization",), top))
    assert find(hospital, "Observation", patient(in_ward)) == ["Observation/2"]


def test_a_chain_through_a_reference_to_several_types(hospital: Store) -> None:
    by_name = Select(
        ("Organization", "Practitioner"), Or((has_key(ORGANIZATION_NAME, "ward"), has_key(PRACTITIONER_NAME, "ann")))
    )
    assert find(hospital, "Patient", Linked((GENERAL_PRACTITIONER,), by_name)) == ["Patient/1", "Patient/2"]
    only = Select(("Practitioner",), by_name.where)
    assert find(hospital, "Patient", Linked((GENERAL_PRACTITIONER,), only)) == ["Patient/1"]


def test_a_chain_ends_at_current_resources_only(hospital: Store) -> None:
    given(hospital, [delete("Patient/1"), put("Patient/2", [(FAMILY, "one")])])
    assert find(hospital, "Observation", patient(has_key(FAMILY, "one"))) == ["Observation/2"]
    assert find(hospital, "Observation", patient(Field("id", "=", "1"))) == []
    assert find(hospital, "Observation", patient(Field("id", "=", "2"))) == ["Observation/2"]


def test_has_asks_what_points_here(hospital: Store) -> None:
    assert find(hospital, "Patient", observed(has_key(CODE, "x"))) == ["Patient/1", "Patient/2"]
    assert find(hospital, "Patient", observed(has_key(CODE, "y"))) == ["Patient/1", "Patient/3"]
    assert find(hospital, "Patient", And((observed(has_key(CODE, "x")), observed(has_key(CODE, "y"))))) == ["Patient/1"]
    assert find(hospital, "Patient", Not(observed(has_key(CODE, "x")))) == ["Patient/3"]
    assert find(hospital, "Patient", observed(has_key(CODE, "z"))) == []
    assert find(hospital, "Organization", observed(has_key(CODE, "x"))) == []


def test_has_nests(hospital: Store) -> None:
    member = LinkedFrom((HAS_MEMBER,), Select(("Observation",), has_key(CODE, "y")))
    assert find(hospital, "Observation", member) == ["Observation/2"]
    assert find(hospital, "Patient", observed(member)) == ["Patient/2"]
    assert find(
        hospital, "Organization", LinkedFrom((GENERAL_PRACTITIONER,), Select(("Patient",), observed(member)))
    ) == ["Organization/ward"]


def test_chain_and_has_combine(hospital: Store) -> None:
    # Observations of patients that have an observation with code x
    assert find(hospital, "Observation", patient(observed(has_key(CODE, "x")))) == [
        f"Observation/{n}" for n in (1, 2, 5)
    ]
    assert find(hospital, "Patient", observed(patient(has_key(GENDER, "m")))) == ["Patient/3"]


def test_a_link_selects_at_most_the_limit(hospital: Store) -> None:
    for link in (patient(has_key(GENDER, "f")), Linked((SUBJECT,), Select(None, has_key(GENDER, "f")))):
        assert len(find(hospital, "Observation", link, chain_limit=2)) == 3
        with pytest.raises(TooCostly):
            find(hospital, "Observation", link, chain_limit=1)
    assert len(find(hospital, "Patient", observed(has_key(CODE, "x")), chain_limit=2)) == 2
    with pytest.raises(TooCostly):
        find(hospital, "Patient", observed(has_key(CODE, "x")), chain_limit=1)


def test_the_limit_counts_documents_selected_not_references_found(hospital: Store) -> None:
    # Three patients, of whom two are referred to; five observations, of which one names an absent patient.
    assert find(
        hospital, "Patient", Linked((GENERAL_PRACTITIONER,), Select(("Practitioner",), And(()))), chain_limit=1
    ) == ["Patient/1"]
    with pytest.raises(TooCostly):
        find(hospital, "Observation", And((patient(And(())), has_key(CODE, "x"))), chain_limit=2)
    with pytest.raises(TooCostly):
        find(hospital, "Patient", observed(And(())), chain_limit=4)
    assert len(find(hospital, "Patient", observed(And(())), chain_limit=5)) == 3


def test_the_limit_holds_at_inner_links_and_beside_empty_conditions(hospital: Store) -> None:
    inner = LinkedFrom((SUBJECT,), Select(("Observation",), patient(has_key(GENDER, "f"))))
    with pytest.raises(TooCostly):
        find(hospital, "Patient", inner, chain_limit=1)
    with pytest.raises(TooCostly):
        find(hospital, "Observation", And((has_key(CODE, "absent"), patient(has_key(GENDER, "f")))), chain_limit=1)
    with pytest.raises(TooCostly):
        find(hospital, "Observation", Not(patient(has_key(GENDER, "f"))), chain_limit=1)


@pytest.mark.parametrize("count", [0, 1])
def test_the_limit_holds_for_totals(hospital: Store, count: int) -> None:
    with pytest.raises(TooCostly):
        hospital.search(searching("Observation", patient(has_key(GENDER, "f")), chain_limit=1, count=count, total=True))


def test_chains_over_many_documents(store: Store) -> None:
    """More documents at a link than one statement or pipeline lists."""
    size = 1300
    given(
        store,
        [put(f"Patient/{n:04}", [(GENDER, "f" if n % 2 else "m"), (FAMILY, f"name {n % 7}")]) for n in range(size)],
    )
    given(
        store,
        [
            put(f"Observation/{n:04}", [(SUBJECT, f"Patient/{n:04}"), (CODE, "x" if n % 3 else "y")])
            for n in range(size)
        ],
    )
    everyone = And(())
    assert find(store, "Observation", patient(everyone), count=5) == [f"Observation/{n:04}" for n in range(5)]
    assert find(store, "Observation", And((patient(everyone), has_key(CODE, "y"))), count=3) == [
        f"Observation/{n:04}" for n in (0, 3, 6)
    ]
    assert store.search(searching("Observation", Not(patient(everyone)), count=5)).matches == []
    assert store.search(searching("Observation", patient(has(GENDER)), count=0)).total == size
    assert find(store, "Patient", observed(everyone), count=5) == [f"Patient/{n:04}" for n in range(5)]
    assert find(store, "Patient", And((observed(has(CODE)), has_key(FAMILY, "name 6"))), count=2) == [
        "Patient/0006",
        "Patient/0013",
    ]
    assert store.search(searching("Patient", observed(has(CODE)), count=0)).total == size
    assert find(store, "Observation", patient(observed(has(CODE))), count=2) == ["Observation/0000", "Observation/0001"]
    with pytest.raises(TooCostly):
        find(store, "Observation", patient(everyone), chain_limit=size - 1)
    assert len(find(store, "Observation", patient(everyone), chain_limit=size, count=2)) == 2
