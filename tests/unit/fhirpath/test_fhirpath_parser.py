"""FHIRPath N1, section 12: syntax, what is refused and where, and the bounds."""

from __future__ import annotations

import pytest

from fhir_server.fhirpath import BudgetExceeded, Environment, FhirPathError, compile_expression, parse, unions, walk
from fhir_server.fhirpath.ast import Binary, Call, External, Focus, Literal, Member, TypeOp, TypeSpecifier


def test_shape_of_the_tree() -> None:
    assert parse("Patient.name.where(use = 'x')") == Call(
        Member(Member(Focus(), "Patient"), "name"), "where", (Binary("=", Member(Focus(), "use"), Literal("x")),)
    )
    assert parse("value as FHIR.Quantity") == TypeOp("as", Member(Focus(), "value"), TypeSpecifier("FHIR", "Quantity"))
    assert parse("value.as(DateTime)") == Call(Member(Focus(), "value"), "as", (TypeSpecifier(None, "DateTime"),))
    assert parse("%vs-my.set") == parse("%'vs-my.set'") == External("vs-my.set")


def test_literals_of_different_types_differ() -> None:
    assert parse("1") != parse("true")
    assert parse("1") != parse("1.0")


def test_positions_point_into_the_text() -> None:
    calls = [node for node in walk(parse("name.where(use)")) if isinstance(node, Call)]
    assert [call.position for call in calls] == [5]


@pytest.mark.parametrize(
    ("text", "grouped"),
    [
        ("a or b and c", "a or (b and c)"),
        ("a implies b or c", "a implies (b or c)"),
        ("a | b = c", "(a | b) = c"),
        ("a + b | c", "(a + b) | c"),
        ("a is b | c", "(a is b) | c"),
        ("a = b in c", "(a = b) in c"),
        ("a < b = c", "(a < b) = c"),
        ("-a + b", "(-a) + b"),
        ("-a.b", "-(a.b)"),
        ("a * b + c", "(a * b) + c"),
        ("a and b = c", "a and (b = c)"),
        ("a - b - c", "(a - b) - c"),
        ("a xor b or c", "(a xor b) or c"),
    ],
)
def test_precedence(text: str, grouped: str) -> None:
    assert parse(text) == parse(grouped)


@pytest.mark.parametrize(
    "text",
    ["a.b", "`a b`.`or`", "'it\\'s'", "(1 | 2).select($this + $index)", "@2012-01 = @T10:00", "a.div.contains('x')",
    "{}",
     "x.aggregate($total + 1, 0)", "%`ext-a b`", "-(1 'mg')", "a.is(System.String) or b is FHIR.code",
      "in.is.as.contains"],
)  # fmt: skip
def test_text_of_a_tree_parses_to_the_tree(text: str) -> None:
    assert parse(str(parse(text))) == parse(text)


def test_unions_are_taken_apart() -> None:
    assert [str(each) for each in unions(parse("a.b | (c | d.where(e | f)) | g"))] == [
        "a.b",
        "c",
        "d.where(e | f)",
        "g",
    ]


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("a.", 2), ("a b", 2), ("(a", 2), ("a)", 1), ("'x", 0), ("a = ", 4), ("a..b", 2), ("a[1", 3), ("", 0), ("#", 0),
        ("a.where(", 8), ("and a", 0), ("@2012-13", 0), ("@2012-02-30", 0), ("a.$index", 2), ("a is", 4), ("f(a,)", 4),
    ],
)  # fmt: skip
def test_faults_of_syntax_have_a_position(text: str, position: int) -> None:
    with pytest.raises(FhirPathError) as caught:
        parse(text)
    assert caught.value.position == position


@pytest.mark.parametrize(
    "text",
    [
        "nothing()",
        "first(1)",
        "where()",
        "substring()",
        "a is NoSuchType",
        "a as System.Nothing",
        "$this.matches('(')[0] & unknown()",
    ],
)
def test_unknown_functions_and_types_are_refused_when_compiled(text: str) -> None:
    with pytest.raises(FhirPathError):
        compile_expression(text)
    with pytest.raises(FhirPathError):
        compile_expression(text, "Patient")


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000 + "a" + ")" * 10_000,
        "-" * 5_000 + "1",
        "a" + ".b" * 1_000,
        "a" + ".where(b" * 1_000 + ")" * 1_000,
        "a" + " + a" * 1_000,
        "a" + "[0]" * 1_000,
        "x" * 100_000,
        "1" * 1_000,
    ],
)
def test_expressions_beyond_the_bounds_are_refused(text: str) -> None:
    with pytest.raises(FhirPathError):
        parse(text)


@pytest.mark.parametrize("op", ["|", "or", "and"])
def test_long_chains_of_one_operator_are_fine(op: str) -> None:
    text = f" {op} ".join(["active"] * 500)
    patient = {"resourceType": "Patient", "active": True}
    assert compile_expression(text).truth(patient) is True


PATIENT = {"resourceType": "Patient", "name": [{"given": ["a"] * 200}] * 50}


@pytest.mark.parametrize(
    "text",
    [
        "name.given.select(%resource.descendants().select(%resource.descendants()))",
        "name.given" + ".select($this.combine($this))" * 30,
        "repeat(%resource.name.given.select($this + 'x'))" + ".select(%resource.descendants())" * 3,
        "descendants()" + ".combine(%resource.descendants())" * 60,
    ],
)
def test_budget_ends_what_would_take_too_long(text: str) -> None:
    env = Environment(PATIENT, steps=200_000)
    with pytest.raises(BudgetExceeded):
        compile_expression(text).evaluate(PATIENT, env=env)


def test_texts_do_not_grow_without_bound() -> None:
    sixteen = " & ".join(["$total"] * 16)
    text = f"(1 | 2 | 3 | 4 | 5 | 6 | 7 | 8).aggregate({sixteen}, '0123456789')"
    with pytest.raises(FhirPathError):
        compile_expression(text).evaluate(PATIENT)


def test_replace_does_not_grow_without_bound() -> None:
    doubled = "'" + "a" * 2000 + "'.replace('', '" + "b" * 5000 + "')"
    with pytest.raises(FhirPathError):
        compile_expression(doubled).evaluate(PATIENT)
