"""Units of measure: UCUM expressions, case-sensitive, to an exact factor over base units.

Spec: The Unified Code for Units of Measure 2.1, ucum.org; R4 ucum.html

A quantity in one unit equals `value * factor + offset` in the base units of its dimension, so two quantities compare
when their dimensions are equal. Exact: factors are Fractions, pi is the decimal that UCUM states.

Where this is narrower or wider than UCUM, always so that fewer quantities are called equal:

- the mole is a base unit, not the number 6.0221367e23, so amounts of substance and counts are different dimensions;
- an arbitrary unit ([IU], [CFU], ...) is a dimension of its own, as UCUM 24 demands, and so are a logarithmic one
  ([pH], B, Np: dB and B convert, pH and mol/L do not) and the microscope's [HPF] and [LPF];
- a temperature with an offset (Cel, [degF], [degRe]) stands alone, as UCUM 22 demands: Cel/min has no canonical form;
- an annotation may hold any character but braces, and may follow a number (`/100{WBCs}`) or a parenthesis.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache, lru_cache
from typing import Final, NamedTuple

MAX_LENGTH: Final = 256
_MAX_EXPONENT: Final = 99
_MAX_BITS: Final = 4_096


class Canonical(NamedTuple):
    """A unit over base units: canonical value = value * factor + offset.

    `dimension` is comparable text such as `g.m-3`; `1` when there is none.
    """

    factor: Fraction
    offset: Fraction
    dimension: str


_Powers = tuple[tuple[str, int], ...]
_Unit = tuple[Fraction, _Powers]

_PREFIXES: Final[dict[str, Fraction]] = {
    **{
        prefix: Fraction(10) ** exponent
        for prefix, exponent in (
            ("Y", 24), ("Z", 21), ("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3), ("h", 2), ("da", 1),
            ("d", -1), ("c", -2), ("m", -3), ("u", -6), ("n", -9), ("p", -12), ("f", -15), ("a", -18), ("z", -21),
            ("y", -24),
        )
    },
    **{prefix: Fraction(2) ** exponent for prefix, exponent in (("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40))},
}  # fmt: skip

# Base units of UCUM, and the mole.
_BASE: Final = ("m", "s", "g", "rad", "K", "C", "cd", "mol")

# Symbol, value, unit; by the tables of UCUM. Metric ones take prefixes.
_METRIC: Final = """
sr 1 rad2
Hz 1 s-1
N 1 kg.m/s2
Pa 1 N/m2
J 1 N.m
W 1 J/s
A 1 C/s
V 1 J/C
F 1 C/V
Ohm 1 V/A
S 1 Ohm-1
Wb 1 V.s
T 1 Wb/m2
H 1 Wb/A
lm 1 cd.sr
lx 1 lm/m2
Bq 1 s-1
Gy 1 J/kg
Sv 1 J/kg
l 1 dm3
L 1 dm3
ar 100 m2
t 1000 kg
bar 100000 Pa
u 1.6605402e-24 g
eV 1.60217733e-19 J
pc 3.085678e16 m
[c] 299792458 m/s
[h] 6.6260755e-34 J.s
[k] 1.380658e-23 J/K
[eps_0] 8.854187817e-12 F/m
[mu_0] 4e-7 [pi].N/A2
[e] 1.60217733e-19 C
[m_e] 9.1093897e-28 g
[m_p] 1.6726231e-24 g
[G] 6.67259e-11 m3.kg-1.s-2
[g] 9.80665 m/s2
[ly] 1 [c].a_j
gf 1 g.[g]
Ky 1 cm-1
Gal 1 cm/s2
dyn 1 g.cm/s2
erg 1 dyn.cm
P 1 dyn.s/cm2
Bi 10 A
St 1 cm2/s
Mx 1e-8 Wb
G 1e-4 T
Oe 250 A/m/[pi]
Gb 1 Oe.cm
sb 1 cd/cm2
Lmb 1 cd/cm2/[pi]
ph 1e-4 lx
Ci 3.7e10 Bq
R 2.58e-4 C/kg
RAD 100 erg/g
REM 1 RAD
cal_[15] 4.18580 J
cal_[20] 4.18190 J
cal_m 4.19002 J
cal_IT 4.1868 J
cal_th 4.184 J
cal 1 cal_th
tex 1 g/km
m[H2O] 9.80665 kPa
m[Hg] 133.3220 kPa
eq 1 mol
osm 1 mol
g% 1 g/dl
kat 1 mol/s
U 1 umol/min
[IU] 1 [iU]
st 1 m3
mho 1 S
bit 1 1
By 8 bit
Bd 1 s-1
"""

_PLAIN: Final = """
10* 10 1
10^ 10 1
[pi] 3.1415926535897932384626433832795028841971693993751058209749445923 1
% 1e-2 1
[ppth] 1e-3 1
[ppm] 1e-6 1
[ppb] 1e-9 1
[pptr] 1e-12 1
gon 0.9 deg
deg 2 [pi].rad/360
' 1 deg/60
'' 1 '/60
min 60 s
h 60 min
d 24 h
a_t 365.24219 d
a_j 365.25 d
a_g 365.2425 d
a 1 a_j
wk 7 d
mo_s 29.53059 d
mo_j 1 a_j/12
mo_g 1 a_g/12
mo 1 mo_j
AU 149597.870691 Mm
atm 101325 Pa
[lbf_av] 1 [lb_av].[g]
[in_i] 2.54 cm
[ft_i] 12 [in_i]
[yd_i] 3 [ft_i]
[mi_i] 5280 [ft_i]
[fth_i] 6 [ft_i]
[nmi_i] 1852 m
[kn_i] 1 [nmi_i]/h
[sin_i] 1 [in_i]2
[sft_i] 1 [ft_i]2
[syd_i] 1 [yd_i]2
[cin_i] 1 [in_i]3
[cft_i] 1 [ft_i]3
[cyd_i] 1 [yd_i]3
[bf_i] 144 [in_i]3
[cr_i] 128 [ft_i]3
[mil_i] 1e-3 [in_i]
[cml_i] 1 [pi]/4.[mil_i]2
[hd_i] 4 [in_i]
[ft_us] 1200 m/3937
[yd_us] 3 [ft_us]
[in_us] 1 [ft_us]/12
[rd_us] 16.5 [ft_us]
[ch_us] 4 [rd_us]
[lk_us] 1 [ch_us]/100
[rch_us] 100 [ft_us]
[rlk_us] 1 [rch_us]/100
[fth_us] 6 [ft_us]
[fur_us] 40 [rd_us]
[mi_us] 8 [fur_us]
[acr_us] 160 [rd_us]2
[srd_us] 1 [rd_us]2
[smi_us] 1 [mi_us]2
[sct] 1 [mi_us]2
[twp] 36 [sct]
[mil_us] 1e-3 [in_us]
[in_br] 2.539998 cm
[ft_br] 12 [in_br]
[rd_br] 16.5 [ft_br]
[ch_br] 4 [rd_br]
[lk_br] 1 [ch_br]/100
[fth_br] 6 [ft_br]
[pc_br] 2.5 [ft_br]
[yd_br] 3 [ft_br]
[mi_br] 5280 [ft_br]
[nmi_br] 6080 [ft_br]
[kn_br] 1 [nmi_br]/h
[acr_br] 4840 [yd_br]2
[gal_us] 231 [in_i]3
[bbl_us] 42 [gal_us]
[qt_us] 1 [gal_us]/4
[pt_us] 1 [qt_us]/2
[gil_us] 1 [pt_us]/4
[foz_us] 1 [gil_us]/4
[fdr_us] 1 [foz_us]/8
[min_us] 1 [fdr_us]/60
[crd_us] 128 [ft_i]3
[bu_us] 2150.42 [in_i]3
[gal_wi] 1 [bu_us]/8
[pk_us] 1 [bu_us]/4
[dqt_us] 1 [pk_us]/8
[dpt_us] 1 [dqt_us]/2
[tbs_us] 1 [foz_us]/2
[tsp_us] 1 [tbs_us]/3
[cup_us] 16 [tbs_us]
[foz_m] 30 mL
[cup_m] 240 mL
[tsp_m] 5 mL
[tbs_m] 15 mL
[gal_br] 4.54609 l
[pk_br] 2 [gal_br]
[bu_br] 4 [pk_br]
[qt_br] 1 [gal_br]/4
[pt_br] 1 [qt_br]/2
[gil_br] 1 [pt_br]/4
[foz_br] 1 [gil_br]/5
[fdr_br] 1 [foz_br]/8
[min_br] 1 [fdr_br]/60
[gr] 64.79891 mg
[lb_av] 7000 [gr]
[oz_av] 1 [lb_av]/16
[dr_av] 1 [oz_av]/16
[scwt_av] 100 [lb_av]
[lcwt_av] 112 [lb_av]
[ston_av] 20 [scwt_av]
[lton_av] 20 [lcwt_av]
[stone_av] 14 [lb_av]
[pwt_tr] 24 [gr]
[oz_tr] 20 [pwt_tr]
[lb_tr] 12 [oz_tr]
[sc_ap] 20 [gr]
[dr_ap] 3 [sc_ap]
[oz_ap] 8 [dr_ap]
[lb_ap] 12 [oz_ap]
[oz_m] 28 g
[lne] 1 [in_i]/12
[pnt] 1 [lne]/6
[pca] 12 [pnt]
[pnt_pr] 0.013837 [in_i]
[pca_pr] 12 [pnt_pr]
[pied] 32.48 cm
[pouce] 1 [pied]/12
[ligne] 1 [pouce]/12
[didot] 1 [ligne]/6
[cicero] 12 [didot]
[degR] 5 K/9
[Cal] 1 kcal_th
[Btu_39] 1.05967 kJ
[Btu_59] 1.05480 kJ
[Btu_60] 1.05468 kJ
[Btu_m] 1.05587 kJ
[Btu_IT] 1.05505585262 kJ
[Btu_th] 1.054350 kJ
[Btu] 1 [Btu_th]
[HP] 550 [ft_i].[lbf_av]/s
[den] 1 g/9/km
[in_i'H2O] 1 m[H2O].[in_i]/m
[in_i'Hg] 1 m[Hg].[in_i]/m
[PRU] 1 mm[Hg].s/ml
[wood'U] 1 mm[Hg].min/L
[diop] 1 m-1
[mesh_i] 1 [in_i]-1
[Ch] 1 mm/3
[drp] 1 ml/20
[MET] 3.5 mL/min/kg
[S] 1e-13 s
Ao 0.1 nm
b 100 fm2
att 1 kgf/cm2
[psi] 1 [lbf_av]/[in_i]2
circ 2 [pi].rad
sph 4 [pi].sr
[car_m] 0.2 g
[car_Au] 1 /24
[smoot] 67 [in_i]
"""

# Units that convert into nothing but themselves: arbitrary (UCUM 24), logarithmic or trigonometric (UCUM 21), and the
# two microscope fields, whose size depends on the microscope.
_ALONE_METRIC: Final = ("[iU]", "Np", "B", "B[SPL]", "B[V]", "B[mV]", "B[uV]", "B[10.nV]", "B[W]", "B[kW]")
_ALONE_TEXT: Final = (
    "[arb'U] [USP'U] [GPL'U] [MPL'U] [APL'U] [beth'U] [anti'Xa'U] [todd'U] [dye'U] [smgy'U] [bdsk'U] [ka'U] [knk'U] "
    "[mclg'U] [tb'U] [CCID_50] [TCID_50] [EID_50] [PFU] [FFU] [CFU] [IR] [BAU] [AU] [Amb'a'1'U] [PNU] [Lf] [D'ag'U] "
    "[FEU] [ELU] [EU] [hp_X] [hp_C] [hp_M] [hp_Q] [kp_X] [kp_C] [kp_M] [kp_Q] [hp'_X] [hp'_C] [hp'_M] [hp'_Q] "
    "[hnsf'U] [NTU] [FNU] [HPF] [LPF] [pH] [p'diop] %[slope] [m/s2/Hz^0.5] [m/s2/Hz^(1/2)] bit_s"
)
_ALONE: Final = tuple(_ALONE_TEXT.split())

# kelvin = value * factor + offset
_TEMPERATURES: Final[dict[str, tuple[Fraction, Fraction]]] = {
    "Cel": (Fraction(1), Fraction("273.15")),
    "[degF]": (Fraction(5, 9), Fraction("459.67") * 5 / 9),
    "[degRe]": (Fraction(5, 4), Fraction("273.15")),
}
_METRIC_TEMPERATURES: Final = frozenset({"Cel"})

_token = re.compile(
    r"(?P<annotation>\{[^{}]*\})"
    r"|(?P<open>\()|(?P<close>\))|(?P<dot>\.)|(?P<slash>/)"
    r"|(?P<symbol>10[*^]|(?:[!\"#$%&'*,:;<=>?@A-Z\\^_`a-z|~]|\[[^\[\]{}\s]+\])+)(?P<exponent>[+\-]?[0-9]+)?"
    r"|(?P<factor>[0-9]+)",
    re.ASCII,
)


class _Malformed(ValueError):
    pass


def canonical(code: str) -> Canonical | None:
    """The unit over base units, or None when it is not an expression in units that are known here.

    `canonical("mg/dL")` is (10, 0, "g.m-3"); `canonical("Cel")` is (1, 273.15, "K").
    """
    if len(code) > MAX_LENGTH:
        return None
    return _canonical(code)


def valid(code: str) -> bool:
    """Whether a code is a UCUM expression in units that are known here."""
    return canonical(code) is not None


@lru_cache(maxsize=4096)
def _canonical(code: str) -> Canonical | None:
    bare = re.sub(r"\{[^{}]*\}$", "", code) or code
    temperature = _temperature(bare)
    if temperature is not None:
        factor, offset = temperature
        return Canonical(factor, offset, "K")
    try:
        factor, powers = _parse(code)
    except _Malformed:
        return None
    return Canonical(factor, Fraction(0), ".".join(f"{s}{p if p != 1 else ''}" for s, p in powers) or "1")


def _temperature(symbol: str) -> tuple[Fraction, Fraction] | None:
    if symbol in _TEMPERATURES:
        return _TEMPERATURES[symbol]
    for name in _METRIC_TEMPERATURES:
        prefix = symbol.removesuffix(name)
        if prefix != symbol and prefix in _PREFIXES:
            factor, offset = _TEMPERATURES[name]
            return factor * _PREFIXES[prefix], offset
    return None


def _parse(code: str) -> _Unit:
    tokens: list[re.Match[str]] = []
    at = 0
    while at < len(code):
        found = _token.match(code, at)
        if found is None:
            raise _Malformed
        tokens.append(found)
        at = found.end()
    if not tokens:
        raise _Malformed
    unit, rest = _term(tokens, 0, depth=0)
    if rest != len(tokens):
        raise _Malformed
    return unit


def _term(tokens: list[re.Match[str]], at: int, depth: int) -> tuple[_Unit, int]:
    """[/] component {(. | /) component}; evaluated from left to right."""
    if depth > 16:
        raise _Malformed
    factor = Fraction(1)
    powers: dict[str, int] = {}
    sign = 1
    if at < len(tokens) and tokens[at].lastgroup == "slash":
        sign, at = -1, at + 1
    while True:
        (part, dimensions), at = _component(tokens, at, depth)
        factor = factor * part if sign == 1 else factor / part
        if factor.numerator.bit_length() + factor.denominator.bit_length() > _MAX_BITS:
            raise _Malformed
        for symbol, power in dimensions:
            powers[symbol] = powers.get(symbol, 0) + sign * power
        if at == len(tokens) or tokens[at].lastgroup not in ("dot", "slash"):
            break
        sign, at = (1 if tokens[at].lastgroup == "dot" else -1), at + 1
    return (factor, tuple(sorted((s, p) for s, p in powers.items() if p))), at


def _component(tokens: list[re.Match[str]], at: int, depth: int) -> tuple[_Unit, int]:
    if at == len(tokens):
        raise _Malformed
    token = tokens[at]
    unit: _Unit
    if token["annotation"] is not None:
        return (Fraction(1), ()), at + 1
    if token["open"] is not None:
        unit, at = _term(tokens, at + 1, depth + 1)
        if at == len(tokens) or tokens[at]["close"] is None:
            raise _Malformed
    elif token["factor"] is not None:
        number = int(token["factor"])
        if number == 0:
            raise _Malformed
        unit = (Fraction(number), ())
    elif token["symbol"] is not None:
        factor, powers = _simple(token["symbol"])
        exponent = int(token["exponent"]) if token["exponent"] else 1
        if abs(exponent) > _MAX_EXPONENT:
            raise _Malformed
        unit = (factor**exponent, tuple((s, p * exponent) for s, p in powers if exponent))
    else:
        raise _Malformed
    at += 1
    if at < len(tokens) and tokens[at]["annotation"] is not None:
        at += 1
    return unit, at


def _simple(symbol: str) -> _Unit:
    unit = _atom(symbol)
    if unit is not None:
        return unit
    for length in (2, 1):
        prefix, atom = symbol[:length], symbol[length:]
        if prefix in _PREFIXES and (atom in _METRIC_DEFINITIONS or atom in _BASE or atom in _ALONE_METRIC):
            unit = _atom(atom)
            if unit is not None:
                return _PREFIXES[prefix] * unit[0], unit[1]
    raise _Malformed


def _definitions(table: str) -> dict[str, tuple[str, str]]:
    return {symbol: (value, unit) for symbol, value, unit in (line.split() for line in table.strip().splitlines())}


_METRIC_DEFINITIONS: Final = _definitions(_METRIC)
_DEFINITIONS: Final = {**_METRIC_DEFINITIONS, **_definitions(_PLAIN)}
_KNOWN_ALONE: Final = frozenset((*_BASE, *_ALONE, *_ALONE_METRIC))


@cache
def _atom(symbol: str) -> _Unit | None:
    if symbol in _KNOWN_ALONE:
        return Fraction(1), ((symbol, 1),)
    if symbol not in _DEFINITIONS:
        return None
    value, unit = _DEFINITIONS[symbol]
    factor, powers = _parse(unit)
    return Fraction(value) * factor, powers
