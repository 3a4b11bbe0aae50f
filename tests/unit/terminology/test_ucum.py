"""UCUM expressions to exact factors. Values are UCUM's own definitions and its textbook conversions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminology import ucum


@pytest.mark.parametrize(
    ("code", "factor", "dimension"),
    [
        ("m", 1, "m"),
        ("mg", Fraction(1, 1000), "g"),
        ("kg/m2", 1000, "g.m-2"),
        ("mg/dL", 10, "g.m-3"),
        ("mmol/L", 1, "m-3.mol"),
        ("meq/L", 1, "m-3.mol"),
        ("mosm/kg", Fraction(1, 1_000_000), "g-1.mol"),
        ("10*9/L", 10**12, "m-3"),
        ("10^9/L", 10**12, "m-3"),
        ("10*3/uL", 10**12, "m-3"),
        ("/min", Fraction(1, 60), "s-1"),
        ("{beats}/min", Fraction(1, 60), "s-1"),
        ("Hz", 1, "s-1"),
        ("mm[Hg]", Fraction("133322"), "g.m-1.s-2"),
        ("kPa", 1_000_000, "g.m-1.s-2"),
        ("[in_i]", Fraction("0.0254"), "m"),
        ("[lb_av]", Fraction("453.59237"), "g"),
        ("[oz_av]", Fraction("28.349523125"), "g"),
        ("[psi]", Fraction("6894757.293168361336722673445"), "g.m-1.s-2"),
        ("[gal_us]", Fraction("0.003785411784"), "m3"),
        ("kcal", 4_184_000, "g.m2.s-2"),
        ("[Cal]", 4_184_000, "g.m2.s-2"),
        ("%", Fraction(1, 100), "1"),
        ("{score}", 1, "1"),
        ("1", 1, "1"),
        ("mg{creat}/g{creat}", Fraction(1, 1000), "1"),
        ("mL/min/{1.73_m2}", Fraction(1, 60_000_000), "m3.s-1"),
        ("kg.m/s2", 1000, "g.m.s-2"),
        ("J/(kg.K)", 1, "K-1.m2.s-2"),
        ("g/(24.h)", Fraction(1, 86_400), "g.s-1"),
        ("a", 31_557_600, "s"),
        ("mo", 2_629_800, "s"),
        ("wk", 604_800, "s"),
        ("[IU]/L", 1000, "[iU].m-3"),
        ("m[iU]/mL", 1000, "[iU].m-3"),
        ("k[IU]/L", 1_000_000, "[iU].m-3"),
        ("U/L", Fraction(1, 60_000), "m-3.mol.s-1"),
        ("ukat/L", Fraction(1, 1000), "m-3.mol.s-1"),
        ("[pH]", 1, "[pH]"),
        ("dB", Fraction(1, 10), "B"),
        ("/100{WBCs}", Fraction(1, 100), "1"),
        ("[HPF]", 1, "[HPF]"),
        ("m2/m2", 1, "1"),
        ("m/s/s", 1, "m.s-2"),
        ("/m/s", 1, "m-1.s-1"),
    ],
)  # fmt: skip
def test_canonical_form(code: str, factor: int | Fraction, dimension: str) -> None:
    found = ucum.canonical(code)
    assert found is not None
    assert found.dimension == dimension
    if code == "[psi]":  # The exact value has more digits than are worth writing down.
        assert abs(found.factor - factor) < Fraction(1, 10**18)
    else:
        assert found == (factor, 0, dimension)


@pytest.mark.parametrize(
    ("code", "value", "kelvin"),
    [
        ("Cel", "37", "310.15"),
        ("[degF]", "98.6", "310.15"),
        ("[degF]", "-40", "233.15"),
        ("[degRe]", "80", "373.15"),
        ("K", "310.15", "310.15"),
        ("mCel", "1000", "274.15"),
        ("Cel{oral}", "0", "273.15"),
    ],
)
def test_temperatures_have_an_offset(code: str, value: str, kelvin: str) -> None:
    found = ucum.canonical(code)
    assert found is not None
    assert found.dimension == "K"
    assert Fraction(value) * found.factor + found.offset == Fraction(kelvin)


@pytest.mark.parametrize(
    "code",
    [
        "", " ", "mg / dL", "mcg", "IU", "mmHg", "ea", "TAB", "cc", "Kg", "MG/DL", "mg//dL", "mg.", "(mg", "mg)", "()",
        "{", "{open", "mg}", "k%", "kmin", "kh", "0", "/", "mg/0", "Cel/min", "10*", "10*9999",
        "10*99.10*99.10*99" * 30,        "m" + "(" * 40 + "m" + ")" * 40, "毫克", "m²", "m/s\n",
    ],
)  # fmt: skip
def test_what_is_not_ucum_has_no_canonical_form(code: str) -> None:
    if code == "10*":  # The number ten itself is a unit.
        assert ucum.canonical(code) == (10, 0, "1")
    else:
        assert ucum.canonical(code) is None
        assert not ucum.valid(code)


def test_a_thousand_milligrams_are_a_gram() -> None:
    milligram, gram = ucum.canonical("mg"), ucum.canonical("g")
    assert milligram is not None
    assert gram is not None
    assert (1000 * milligram.factor, milligram.dimension) == (gram.factor, gram.dimension)


def test_amounts_counts_and_international_units_never_mix() -> None:
    dimensions = {ucum.canonical(code).dimension for code in ("mol/L", "/L", "[IU]/L", "[arb'U]/L", "g/L")}  # type: ignore[union-attr]
    assert len(dimensions) == 5


def test_every_unit_of_the_tables_resolves() -> None:
    for symbol in ucum._DEFINITIONS:
        assert ucum.canonical(symbol) is not None, symbol
    for symbol in ucum._METRIC_DEFINITIONS:
        assert ucum.canonical(f"m{symbol}") is not None, symbol


@given(st.text(alphabet="mgLskdeqol[]IU{}()/.10*^%'+-²", max_size=40))
def test_any_text_is_answered(code: str) -> None:
    found = ucum.canonical(code)
    assert found is None or found.factor > 0


_units = st.sampled_from(["mg", "dL", "mmol", "h", "[IU]", "m2", "10*3", "kPa", "{x}"])


@given(st.lists(_units, min_size=1, max_size=4), _units)
def test_dividing_by_a_unit_undoes_multiplying_by_it(units: list[str], other: str) -> None:
    product = ".".join(units)
    assert ucum.canonical(f"{product}.{other}/{other}") == ucum.canonical(product)
