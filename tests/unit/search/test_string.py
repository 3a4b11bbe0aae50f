"""Strings and words. R4 search.html#string, #content, patient.html (phonetic)."""

from __future__ import annotations

import pytest

from fhir_server.errors import BadRequest, NotSupported
from tests.support.shelf import Shelf, found, shelf


def patient(id: str, **name: object) -> dict[str, object]:
    return {"resourceType": "Patient", "id": id, "name": [name]}


@pytest.fixture(scope="module")
def people() -> Shelf:
    return shelf(
        [
            patient("eve", given=["Eve"], family="Everywoman", prefix=["Dr."]),
            patient("evelyn", given=["Évelyn"], family="Straße", suffix=["MD"]),
            patient("combining", given=["E\u0301velyn"], family="Strasse"),
            patient("everett", given=["EVERETT"], family="Møller"),
            patient("steven", given=["Steven"], family="van der Berg"),
            patient("wang", text="王小明", family="王"),
            patient("punctuation", family=".*", given=["O'Neil-Smith"]),
            patient("many", given=["Anna", "Maria"], family="Smyth"),
            {
                "resourceType": "Patient",
                "id": "address",
                "address": [{"line": ["12 High Street"], "city": "New York", "postalCode": "10-001", "country": "US"}],
            },
            {"resourceType": "Patient", "id": "hidden", "_birthDate": {"extension": [{"url": "x", "valueCode": "y"}]}},
        ]
    )


# R4 search.html#string: a field matches when it equals the value or starts with it, case, accents and punctuation
# aside.
@pytest.mark.parametrize(
    "query, ids",
    [
        ("given=eve", {"eve", "evelyn", "combining", "everett"}),
        ("given=ÉVE", {"eve", "evelyn", "combining", "everett"}),
        ("given=E%CC%81v", {"eve", "evelyn", "combining", "everett"}),
        ("given=ven", set()),
        ("family=strasse", {"evelyn", "combining"}),
        ("family=STRAßE", {"evelyn", "combining"}),
        ("family=møl", {"everett"}),
        ("family=MØLLER", {"everett"}),
        # A prefix of any word in a name or an address.
        ("family=berg", {"steven"}),
        ("family=der b", {"steven"}),
        ("family=van", {"steven"}),
        ("family=erg", set()),
        ("name=md", {"evelyn"}),
        ("name=dr", {"eve"}),
        ("name=王", {"wang"}),
        ("name=王小", {"wang"}),
        ("name=小明", set()),
        ("name=o neil", {"punctuation"}),
        ("name=o'neil smith", {"punctuation"}),
        ("address=high", {"address"}),
        ("address-city=york", {"address"}),
        ("address-postalcode=10 001", {"address"}),
        ("address=new york", {"address"}),
        ("given=anna,steven", {"many", "steven"}),
        ("given=anna&given=maria", {"many"}),
        ("given=anna&given=steven", set()),
        # Text is literal: no pattern, no syntax.
        ("name=.*", {"punctuation"}),
        ("name=(", set()),
        ("name=%25", set()),
        ("name=_", set()),
        ("name=\\$", set()),
        ("name=" + "a" * 10_000, set()),
    ],
)
def test_strings_begin_with_the_value(people: Shelf, query: str, ids: set[str]) -> None:
    assert found(people, f"Patient?{query}") == ids


@pytest.mark.parametrize(
    "query, ids",
    [
        ("given:exact=Eve", {"eve"}),
        ("given:exact=eve", set()),
        ("given:exact=Évelyn", {"evelyn"}),
        ("family:exact=berg", set()),
        ("family:exact=van der Berg", {"steven"}),
        ("given:contains=ven", {"steven"}),
        ("given:contains=VE", {"eve", "evelyn", "combining", "everett", "steven"}),
        ("family:contains=er b", {"steven"}),
        ("name:contains=小明", {"wang"}),
        ("name:contains=.*", {"punctuation"}),
        ("name:missing=true", {"address", "hidden"}),
        ("given:missing=false", {"eve", "evelyn", "combining", "everett", "steven", "punctuation", "many"}),
        # search.html 3.1.1.4.4: an element with extensions alone has no value.
        ("birthdate:missing=true&address:missing=true&name:missing=true", {"hidden"}),
    ],
)
def test_modifiers_of_strings(people: Shelf, query: str, ids: set[str]) -> None:
    assert found(people, f"Patient?{query}") == ids


@pytest.mark.parametrize("query", ["name:foo=x", "name:not=x", "name:in=x", "birthdate:exact=2020", "name:of-type=x"])
@pytest.mark.parametrize("handling", ["lenient", "strict"])
def test_modifiers_that_do_not_fit_are_refused_in_any_handling(people: Shelf, query: str, handling: str) -> None:
    with pytest.raises(NotSupported):
        found(people, f"Patient?{query}", handling=handling)


@pytest.mark.parametrize("value", ["maybe", "TRUE", "1"])
def test_missing_is_true_or_false(people: Shelf, value: str) -> None:
    with pytest.raises(BadRequest):
        found(people, f"Patient?name:missing={value}")


@pytest.mark.parametrize(
    "query, ids",
    [
        ("phonetic=Smith", {"many", "punctuation"}),
        ("phonetic=Stephen", {"steven"}),
        ("phonetic=Stone", set()),
        ("phonetic=Steven", {"steven"}),
        ("phonetic=王", {"wang"}),
    ],
)
def test_names_that_sound_alike(people: Shelf, query: str, ids: set[str]) -> None:
    assert found(people, f"Patient?{query}") == ids


@pytest.fixture(scope="module")
def notes() -> Shelf:
    def note(id: str, narrative: str, **more: object) -> dict[str, object]:
        div = f'<div xmlns="http://www.w3.org/1999/xhtml">{narrative}</div>'
        return {"resourceType": "Observation", "id": id, "text": {"status": "additional", "div": div}, **more}

    return shelf(
        [
            note("1", "<p>Severe <b>aortic</b> stenosis &amp; more</p>"),
            note("2", "<p title='aortic'>mild</p>", valueString="Stenose der Aorta"),
            note("3", "<p>血压偏高</p>"),
        ]
    )


# R4 search.html#content: _text is the narrative, _content the whole resource; all words must occur.
@pytest.mark.parametrize(
    "query, ids",
    [
        ("_text=aortic", {"1"}),
        ("_text=AORTIC stenosis", {"1"}),
        ("_text=aortic mild", set()),
        ("_text=血压", {"3"}),
        ("_text=压", {"3"}),
        ("_text=高", {"3"}),
        ("_text=血高", set()),
        ("_content=aorta", {"2"}),
        ("_content=mild stenose", {"2"}),
        ("_text=stenose", set()),
        ("_text=aortic,mild", {"1", "2"}),
        ("_text=div", set()),
    ],
)
def test_words(notes: Shelf, query: str, ids: set[str]) -> None:
    assert found(notes, f"Observation?{query}") == ids


def test_words_are_refused_without_their_index() -> None:
    bare = shelf([], fulltext=False)
    with pytest.raises(BadRequest):
        found(bare, "Observation?_text=x")


def test_later_words_that_are_very_long_are_still_met() -> None:
    tail = "x" * 300
    long = shelf([patient("long", family=f"Von {tail}y")])
    assert found(long, f"Patient?family={tail}") == {"long"}
    assert found(long, f"Patient?family=von {tail}y") == {"long"}
    assert found(long, f"Patient?family={'z' * 300}") == set()
