"""JSON in and out, digit for digit. R4 json.html, datatypes.html#decimal; R4-TRAPS 87, 102, 107."""

from __future__ import annotations

import copy
import json
import pickle
import random
from decimal import Decimal
from typing import Any

import pytest

from fhir_server.errors import BadRequest
from fhir_server.resources.jsonformat import FhirDecimal, encode, parse

LITERALS = [
    "0",
    "-0",
    "1.00",
    "0.010",
    "19.90",
    "1e-7",
    "1E-7",
    "1E+3",
    "-0.0",
    "-0e1",
    "100000000000000000.01",
    "0.1234567890123456789012345",
    "1234567890123456789012345",
    "-1234567890123456789012345",
    "18446744073709551616",
    "1e999",
    "1e-999",
]


@pytest.mark.parametrize("literal", LITERALS)
def test_number_literals_are_kept(literal: str) -> None:
    text = f'{{"a":{literal},"b":[{literal},"x"]}}'.encode()
    assert encode(parse(text)) == text
    assert parse(literal.encode()) == Decimal(literal)


def test_numbers_without_fraction_are_int_and_others_decimal() -> None:
    found = parse(b'{"a":1,"b":1.0,"c":1e2,"d":-0}')
    assert [type(value) for value in found.values()] == [int, FhirDecimal, FhirDecimal, FhirDecimal]


def test_minus_zero_inside_strings_stays_text() -> None:
    text = b'{"a":"x-0, y","b":"2020-01-0 ","c":"-0"}'
    assert encode(parse(text)) == text


def test_member_order_is_kept() -> None:
    text = b'{"z":1,"a":{"y":1,"b":2},"m":[{"k":1,"c":2}]}'
    assert encode(parse(text)) == text


def test_pretty_text_is_the_same_json() -> None:
    text = b'{"a":1.00,"b":[{"c":"\\n"}]}'
    pretty = encode(parse(text), pretty=True)
    assert b"\n  " in pretty
    assert encode(parse(pretty)) == text


def test_decimal_of_our_own_is_a_number() -> None:
    assert encode({"a": Decimal("1.50")}) == b'{"a":1.50}'


def test_copies_of_a_decimal_keep_its_literal() -> None:
    number = FhirDecimal("1e-7")
    for same in (copy.copy(number), copy.deepcopy([number])[0], pickle.loads(pickle.dumps(number))):
        assert same.text == "1e-7"
        assert same == number


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError):
        encode({"a": object()})


@pytest.mark.parametrize("literal", ["1E400000000", "1e1000", "1e-1000", "1e99999999999999999999", "1." + "1" * 1000])
def test_numbers_out_of_bounds_are_refused(literal: str) -> None:
    with pytest.raises(BadRequest):
        parse(literal.encode())


def test_integer_of_ten_thousand_digits_is_refused() -> None:
    with pytest.raises(BadRequest):
        parse(b"1" * 10_000)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b'{"resourceType":"Patient","active":true,"active":true}', "Patient.active"),
        (b'{"resourceType":"Patient","name":[{"text":"a"},{"text":"b" ,\n"text"\t:"c"}]}', "Patient.name[1].text"),
        (b'{"a":{"b":1,"b":2},"a":3}', "$this.a.b"),
        (b'{"a":1,"\\u0061":2}', "$this.a"),
        (b'{"x y":1,"x y":2}', "$this"),
        (b'{"resourceType":1,"a":"\\u003A:","a":"::"}', "$this.a"),
    ],
)
def test_duplicate_member_is_reported_where_it_is(text: bytes, path: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(text)
    assert path in [expression for issue in caught.value.issues for expression in issue.expression]


def test_duplicates_are_found_whatever_surrounds_them() -> None:
    """5,000 random texts: refused are exactly those in which the standard library counts a name twice in an object."""
    chance = random.Random(7)
    names = ['"a"', '"b"', '"\\u0061"', '":"', '"\\":"', '"\\u003a"', '"a:b"', '"c\\\\"', '""']
    blanks = ["", "", "", " ", "\n ", "\t"]

    def blank() -> str:
        return chance.choice(blanks)

    def value(depth: int) -> str:
        kind = chance.random()
        if depth > 2 or kind < 0.4:
            return chance.choice([*names, "1", "-0", "1.50", "null", "true"])
        if kind < 0.6:
            return "[" + ",".join(value(depth + 1) for _ in range(chance.randint(0, 2))) + "]"
        members = (
            f"{blank()}{chance.choice(names)}{blank()}:{blank()}{value(depth + 1)}" for _ in range(chance.randint(0, 3))
        )
        return "{" + ",".join(members) + "}"

    refused = 0
    for _ in range(5_000):
        text = value(0)
        duplicates: list[str] = []

        def note(pairs: list[tuple[str, Any]], found: list[str] = duplicates) -> dict[str, Any]:
            if len({name for name, _ in pairs}) < len(pairs):
                found.append("x")
            return dict(pairs)

        json.loads(text, object_pairs_hook=note)
        if duplicates:
            refused += 1
            with pytest.raises(BadRequest):
                parse(text.encode())
        else:
            assert json.loads(encode(parse(text.encode()))) == json.loads(text)
    assert 500 < refused < 4_500


def test_messages_name_no_values() -> None:
    with pytest.raises(BadRequest) as caught:
        parse(b'{"a":"Zyxwv98","b":}')
    assert "Zyxwv98" not in caught.value.issues[0].diagnostics
