"""Role policies: what a role may do, as data that an administrator can read and change.

A policy is a list of rules in JSON; a resource is granted when one rule of the role, and one scope of the token, say
so::

    {"types": ["Observation"], "interactions": "rs", "compartment": "%patients", "criteria": "status=final,amended"}

`docs/access-control.md` describes every member. The shipped policies are default_policies.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from fhir_server.access import subjects
from fhir_server.context import Server
from fhir_server.errors import FhirError
from fhir_server.resources.types import TYPE_SET
from fhir_server.search.parse import parse_query, split_values
from fhir_server.search.resolve import resolve

ROLES: Final = ("patient", "doctor", "pharmacist", "nurse", "laboratory", "administrator", "system")

ACTIONS: Final = "cruds"

COMPARTMENTS: Final = ("%patients", "%own", "%patient", "%treated", "%opened")
"""Variables that stand for patients, and can be a rule's compartment."""

VARIABLES: Final = frozenset(
    (*COMPARTMENTS, "%fhirUser", "%self", "%practitioner", "%roles", "%organizations", "%client", "%today", "%now")
)

CONFIDENTIALITY: Final = ("N", "R", "V")
"""Up to which label (v3-Confidentiality) a rule reaches; lower ones count as N."""

MAX_RULES: Final = 200

_MEMBERS: Final = frozenset(
    ("types", "except", "interactions", "criteria", "compartment", "confidentiality", "consent", "comment")
)
_VARIABLE: Final = re.compile(r"%[A-Za-z]+")
_FILE: Final = Path(__file__).parent / "default_policies.json"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `types` ("*",) means all, less `excluded`; with a `compartment` those that can be about a patient.

    `criteria` are names and values of a search, values still with %variables. `confidentiality` is the highest label
    that is reached, `consent` whether a patient's Consent can withhold what the rule gives without a compartment.
    """

    types: tuple[str, ...]
    interactions: str
    criteria: tuple[tuple[str, str], ...] = ()
    compartment: str | None = None
    confidentiality: str = "N"
    consent: bool = True
    excluded: frozenset[str] = frozenset()

    def applies(self, resource_type: str, action: str) -> bool:
        """Whether the rule says something about that type and action; cheap."""
        if action not in self.interactions or resource_type in self.excluded:
            return False
        if self.compartment is not None and resource_type not in subjects.table():
            return False
        return self.types == ("*",) or resource_type in self.types

    def variables(self) -> set[str]:
        """The variables of its criteria."""
        return {name for _, value in self.criteria for name in _VARIABLE.findall(value)}


@dataclass(frozen=True, slots=True)
class RolePolicy:
    """What a role may do. `version` 0 is the shipped policy. `break_glass`: whether it may open a record at need."""

    role: str
    version: int
    rules: tuple[Rule, ...]
    break_glass: bool = False
    identity: int = field(default=0, compare=False)
    """Tells policies of one version apart that were parsed from different rules (in tests, in drafts)."""
    moments: frozenset[str] = field(init=False, compare=False)
    """Those of %now and %today that its rules use: what they say changes by itself."""

    def __post_init__(self) -> None:
        used = {name for rule in self.rules for name in rule.variables()}
        object.__setattr__(self, "moments", frozenset(used & {"%now", "%today"}))


def parse(role: str, version: int, rules: Iterable[Mapping[str, Any]]) -> RolePolicy:
    """The policy that `rules` describe. Raises ValueError for a shape that `findings` would complain about."""
    made: list[Rule] = []
    break_glass = False
    kept = list(rules)
    for position, rule in enumerate(kept):
        wrong = _shape(rule, f"rules[{position}]")
        if wrong:
            raise ValueError(wrong[0])
        if "breakGlass" in rule:
            break_glass = break_glass or bool(rule["breakGlass"])
        else:
            made.append(_rule(rule))
    return RolePolicy(role, version, tuple(made), break_glass, hash(json.dumps(kept, sort_keys=True)))


def _rule(rule: Mapping[str, Any]) -> Rule:
    compartment = rule.get("compartment")
    return Rule(
        types=tuple(dict.fromkeys(rule["types"])),
        interactions="".join(letter for letter in ACTIONS if letter in rule["interactions"]),
        criteria=tuple(parse_query(rule["criteria"])) if rule.get("criteria") else (),
        compartment=compartment,
        confidentiality=rule.get("confidentiality", "R" if compartment else "N"),
        consent=rule.get("consent", True),
        excluded=frozenset(rule.get("except", ())),
    )


# --- the shipped policies ---------------------------------------------------------------------------------------------


@cache
def _shipped() -> Mapping[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return found


def default_rules(role: str) -> list[dict[str, Any]]:
    """The shipped rules of a role, those that every person shares first; [] for an unknown role."""
    if role not in ROLES:
        return []
    shared = _shipped()["everyone"] if role != "system" else []
    return [dict(rule) for rule in (*shared, *_shipped()[role])]


@cache
def default_policy(role: str) -> RolePolicy:
    """The shipped policy of a role, version 0; one without rules for an unknown role."""
    return parse(role, 0, default_rules(role))


# --- checking ---------------------------------------------------------------------------------------------------------


def findings(server: Server, role: str, rules: Any) -> list[str]:
    """What is wrong with rules that somebody wants to put in force, each with its path; [] when nothing is."""
    if role not in ROLES:
        return [f"role: {role} is not one of {', '.join(ROLES)}."]
    if not isinstance(rules, list):
        return ["rules: a list of rules is expected."]
    if len(rules) > MAX_RULES:
        return [f"rules: at most {MAX_RULES} rules are read."]
    found: list[str] = []
    for position, rule in enumerate(rules):
        path = f"rules[{position}]"
        wrong = _shape(rule, path)
        found += wrong
        if not wrong and "breakGlass" not in rule:
            found += _meaning(server, _rule(rule), path)
    return found


def _shape(rule: Any, path: str) -> list[str]:
    """Faults of form: unknown members, wrong kinds of values, unknown types and variables."""
    if not isinstance(rule, Mapping):
        return [f"{path}: a rule is an object."]
    if "breakGlass" in rule:
        fine = isinstance(rule["breakGlass"], bool) and not set(rule) - {"breakGlass", "comment"}
        return [] if fine else [f"{path}.breakGlass: true or false, and nothing beside it."]
    found = [f"{path}.{name}: rules have no such member." for name in rule if name not in _MEMBERS]
    for name in ("types", "except"):
        value = rule.get(name, [] if name != "types" else None)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            found.append(f"{path}.{name}: a list of names is expected.")
            continue
        allowed = TYPE_SET | ({"*"} if name == "types" else set())
        found += [f"{path}.{name}: {one} is not a resource type." for one in value if one not in allowed]
        if name == "types" and (not value or ("*" in value and len(value) > 1)):
            found.append(f'{path}.types: resource types, or only "*".')
    letters = rule.get("interactions")
    if not isinstance(letters, str) or not letters or set(letters) - set(ACTIONS):
        found.append(f"{path}.interactions: letters of {ACTIONS} are expected.")
    if rule.get("compartment") is not None and rule["compartment"] not in COMPARTMENTS:
        found.append(f"{path}.compartment: one of {', '.join(COMPARTMENTS)}.")
    if rule.get("confidentiality", "N") not in CONFIDENTIALITY:
        found.append(f"{path}.confidentiality: one of {', '.join(CONFIDENTIALITY)}.")
    if not isinstance(rule.get("consent", True), bool):
        found.append(f"{path}.consent: true or false.")
    found += _criteria_shape(rule.get("criteria", ""), path)
    return found


def _criteria_shape(criteria: Any, path: str) -> list[str]:
    if not isinstance(criteria, str):
        return [f"{path}.criteria: a search is expected, such as status=final."]
    try:
        pairs = parse_query(criteria)
    except FhirError as error:
        return [f"{path}.criteria: {error}"]
    if criteria and not pairs:
        return [f"{path}.criteria: a search is expected, such as status=final."]
    found = []
    for name, value in pairs:
        if not value:
            found.append(f"{path}.criteria: {name} has no value.")
        found += [
            f"{path}.criteria: {one} is not a variable; there are {', '.join(sorted(VARIABLES))}."
            for one in _VARIABLE.findall(value)
            if one not in VARIABLES
        ]
    return found


def _meaning(server: Server, rule: Rule, path: str) -> list[str]:
    """What only the search parameters tell: unknown parameters and modifiers, types that cannot be in a compartment."""
    found = []
    known = subjects.table()
    for name in rule.types if rule.types != ("*",) else ():
        if rule.compartment is not None and name not in known:
            found.append(f"{path}.types: {name} cannot be about a patient, and the rule has a compartment.")
    for name in rule.types if rule.types != ("*",) else ("Patient",):
        if not rule.criteria:
            break
        # A variable may be a reference to anything; here it is one to what is asked about.
        examples: dict[str, tuple[str, ...]] = dict.fromkeys(VARIABLES, (f"{name}/example",))
        examples.update(dict.fromkeys(COMPARTMENTS, ("Patient/example",)))
        examples.update({"%today": ("2020-01-01",), "%now": ("2020-01-01T00:00:00Z",), "%client": ("example",)})
        pairs = expand(rule.criteria, examples, name)
        if pairs is None:
            found.append(f"{path}.criteria: for {name}: a variable is never an id of that type.")
            continue
        try:
            resolved = resolve(
                pairs,
                types=(name,),
                registry=server.registry,
                settings=server.extractor.settings,
                handling="strict",
            )
        except FhirError as error:
            found.append(f"{path}.criteria: for {name}: {error}")
            continue
        if len(resolved.applied) != len(pairs) or resolved.search.select.contained != "no" or not resolved.criteria:
            found.append(f"{path}.criteria: for {name}: a parameter restricts nothing.")
    return found


def expand(
    criteria: Iterable[tuple[str, str]], values: Mapping[str, tuple[str, ...]], resource_type: str
) -> list[tuple[str, str]] | None:
    """Criteria with the variables' values in their place; None when one of them stands for nothing.

    A variable alone between commas may have many values; within a value (``ge%today``) it needs one. For `_id`, of
    references only those to `resource_type` count, by their ids: Patient/1 and Person/1 may be two people.
    """
    pairs = []
    for name, value in criteria:
        if "%" not in value:
            pairs.append((name, value))
            continue
        alternatives: list[str] = []
        for part in split_values(value):
            if part in values and name == "_id":
                prefix = f"{resource_type}/"
                alternatives += (one[len(prefix) :] for one in values[part] if one.startswith(prefix))
            elif part in values:
                alternatives += map(_escaped, values[part])
            elif all(len(values[one]) == 1 for one in _VARIABLE.findall(part)):
                for variable in _VARIABLE.findall(part):
                    part = part.replace(variable, _escaped(values[variable][0]))
                alternatives.append(part)
        if not alternatives:
            return None
        pairs.append((name, ",".join(alternatives)))
    return pairs


def _escaped(text: str) -> str:
    for sign in ("\\", ",", "|", "$"):
        text = text.replace(sign, "\\" + sign)
    return text
