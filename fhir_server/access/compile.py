"""A grant lowered to predicates: scopes, role policy, compartment or treatment relation, Consent and labels, per type.

What a caller may do to a resource of a type is (any rule of the role) and (any scope of the token). A node is made when
its type is first asked for. Nothing here looks at a resource: the gate applies the nodes (`fhir_server.authorize`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import lru_cache, partial
from typing import Final, cast

from fhir_server import definitions, labels
from fhir_server.access import subjects
from fhir_server.access.consents import Layers, Restriction
from fhir_server.access.grant import Grant
from fhir_server.access.policies import ACTIONS, ROLES, RolePolicy, Rule, expand
from fhir_server.access.relations import Circle, Part, Snapshot, patients_of, relations_of
from fhir_server.authorize import OWNED, Action, Policy, narrow_node
from fhir_server.context import Server
from fhir_server.errors import FhirError, Forbidden
from fhir_server.search import ast
from fhir_server.search.resolve import resolve, resolver
from fhir_server.wire import instant
from smart_auth.scopes import ResourceScope, parse_one

SENSITIVE: Final = (
    *("ETH", "ETHUD", "OPIOIDUD", "ALC", "SUD", "PSY", "PSYTHPN", "BH", "COGN", "DVD", "EMOTDIS", "MH", "GDIS", "HIV"),
    *("STD", "SEX", "SDV", "SICKLE", "SCA", "TABOO", "VIO", "VIOLENCE", "MST", "SPI", "DIA", "GENDER"),
)
"""Labels of v3-ActCode (information sensitivity) that are kept from the guardians of older minors."""

NEVER: Final = frozenset((("AuditEvent", "u"), ("AuditEvent", "d")))
"""Nobody rewrites the record of who did what."""

_LABEL_ELEMENTS: Final = {"Composition": "confidentiality", "DocumentReference": "security-label"}
"""Parameters of elements that hold labels of the content, beside those in meta."""

_ALL: Final = frozenset(definitions.resource_types())
_ABOVE: Final = {"N": ("R", "V"), "R": ("V",), "V": ()}
_CACHED: Final = 512
_YEAR_1_US: Final = -62_135_596_800_000_000
_YEAR_10000_US: Final = 253_402_300_800_000_000
"""Periods that begin or end beyond are open there."""


def compile_policy(
    server: Server, grant: Grant, policies: Callable[[str], RolePolicy], now_us: int, *, fresh: bool = False
) -> Policy:
    """What a grant allows at this moment. `policies` gives the policy in force of a role.

    The same Policy as before while grant, role policy and relations are the same. `fresh`: relations are found out
    anew, however recent what is known. An unknown role has nothing.
    """
    if grant.role not in ROLES:
        return Policy(actions={})
    role = policies(grant.role)
    snapshot = relations_of(server).snapshot(grant, fresh=fresh)
    used = role.moments
    moment = None if not used else now_us if "%now" in used else _today(server, now_us)
    known: OrderedDict[object, tuple[object, ...]] = server.cache.setdefault("policies", OrderedDict())
    key = (grant.role, grant.scopes, grant.patient, grant.fhir_user, grant.person, grant.client_id)
    found = known.get(key)
    if found is not None and found[0] is snapshot and found[1] == (role.version, role.identity, moment):
        known.move_to_end(key)
        policy = found[2]
        assert isinstance(policy, Policy)
        return policy
    compiler = Compiler(server, grant, role, snapshot, now_us)
    made = Policy(
        actions={cast(Action, action): Granted(compiler, action) for action in ACTIONS},
        subjects=partial(subjects.numbers, server.registry),
    )
    known[key] = (snapshot, (role.version, role.identity, moment), made)
    while len(known) > _CACHED:
        known.popitem(last=False)
    return made


def role_of(policy: Policy) -> RolePolicy | None:
    """The role policy that a Policy was compiled from; None for another's."""
    granted = (policy.actions or {}).get("r")
    return granted.role if isinstance(granted, Granted) else None


def opened_of(policy: Policy) -> tuple[str, ...]:
    """References to the patients whom the caller sees, at least in part, only because their records were opened at
    need; () for another's policy.
    """
    granted = (policy.actions or {}).get("r")
    return granted.opened if isinstance(granted, Granted) else ()


def _today(server: Server, now_us: int) -> str:
    zone = server.extractor.settings.calendar.zone
    return datetime.fromtimestamp(now_us / 1e6, zone).date().isoformat()


class Granted(Mapping[str, ast.Node]):
    """The types on which an action is granted, each with what a resource of it must satisfy; made when asked for."""

    __slots__ = ("_action", "_compiler", "_nodes", "_types")

    def __init__(self, compiler: Compiler, action: str) -> None:
        self._compiler = compiler
        self._action = action
        self._types = compiler.types(action)
        self._nodes: dict[str, ast.Node] = {}

    @property
    def role(self) -> RolePolicy:
        """The role policy that this comes from."""
        return self._compiler.role

    @property
    def opened(self) -> tuple[str, ...]:
        """See opened_of."""
        return self._compiler.opened

    def __getitem__(self, resource_type: str) -> ast.Node:
        node = self._nodes.get(resource_type)
        if node is None:
            if resource_type not in self._types:
                raise KeyError(resource_type)
            node = self._nodes[resource_type] = self._compiler.node(resource_type, self._action)
        return node

    def __contains__(self, resource_type: object) -> bool:
        return resource_type in self._types

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)


class Compiler:
    """Makes the nodes of one grant."""

    def __init__(self, server: Server, grant: Grant, role: RolePolicy, snapshot: Snapshot, now_us: int) -> None:
        self._server = server
        self._grant = grant
        self.role = role
        self._snapshot = snapshot
        self._now_us = now_us
        self._context = resolver(server.registry, server.extractor.settings)
        self._scopes = self._applicable()
        self._role_nodes: dict[tuple[str, str, bool], ast.Node] = {}
        self._values: dict[str, tuple[str, ...]] = {}
        self._role_alone: Policy | None = None
        treats = any(rule.compartment == "%treated" for rule in role.rules)
        needed = snapshot.needed if treats else patients_of(snapshot.opened)
        self.opened = tuple(sorted(f"Patient/{id_}" for id_ in needed))

    # --- scopes -------------------------------------------------------------------------------------------------------

    def _applicable(self) -> tuple[ResourceScope, ...]:
        """The scopes that give anything to this role at this moment."""
        contexts = {"system"} if self._grant.role == "system" else {"user"}
        if self._grant.role != "system" and self._may_launch():
            contexts.add("patient")
        found = (parse_one(text) for text in self._grant.scopes)
        return tuple(one for one in found if isinstance(one, ResourceScope) and one.context in contexts)

    def _may_launch(self) -> bool:
        """Whether the patient of the launch context may be acted for: family, or a treatment relation, or a role that
        sees the patients of the whole hospital."""
        patient = self._grant.patient
        if patient is None:
            return False
        if self._grant.role == "patient":
            return patient in patients_of(self._snapshot.patients)
        if patient in patients_of(self._snapshot.treated):
            return True
        return any(
            rule.compartment is None and not rule.criteria and rule.applies("Patient", "r") for rule in self.role.rules
        )

    def types(self, action: str) -> frozenset[str]:
        """The types on which rules and scopes together give that action."""
        wanted = frozenset(scope.type for scope in self._scopes if action in scope.actions)
        return _types(self.role, wanted, action)

    def node(self, resource_type: str, action: str) -> ast.Node:
        """What a resource of that type must satisfy; NOTHING when the type is granted to no avail."""
        limits: dict[bool, list[ast.Node]] = {}
        for scope in self._scopes:
            if scope.type in ("*", resource_type) and action in scope.actions:
                limit = self._limit(resource_type, scope.query) if scope.query else ast.EVERYTHING
                limits.setdefault(scope.context == "patient", []).append(limit)
        return either(
            both((self._of_role(resource_type, action, launched), either(kept))) for launched, kept in limits.items()
        )

    def _limit(self, resource_type: str, query: tuple[tuple[str, str], ...]) -> ast.Node:
        """The node of a granular scope. Clients choose these: what its chains lead through has to be the role's to see,
        or a scope would tell by what it shows about what it does not.
        """
        node = self._search(resource_type, query)
        try:
            return narrow_node(node, self._of_role_alone())
        except Forbidden:
            return ast.NOTHING

    def _of_role_alone(self) -> Policy:
        """What the role lets be found, whatever the scopes."""
        if self._role_alone is None:
            context = "system" if self._grant.role == "system" else "user"
            grant = replace(self._grant, scopes=(f"{context}/*.s",))
            compiler = Compiler(self._server, grant, self.role, self._snapshot, self._now_us)
            self._role_alone = Policy(actions={"s": Granted(compiler, "s")})
        return self._role_alone

    # --- role policy --------------------------------------------------------------------------------------------------

    def _of_role(self, resource_type: str, action: str, launched: bool) -> ast.Node:
        """What the role's rules say; `launched`: about the patient of the launch context alone."""
        key = (resource_type, action, launched)
        found = self._role_nodes.get(key)
        if found is None:
            found = self._role_nodes[key] = either(
                self._of_rule(rule, resource_type, launched)
                for rule in self.role.rules
                if rule.applies(resource_type, action)
            )
        return found

    def _of_rule(self, rule: Rule, resource_type: str, launched: bool) -> ast.Node:
        parts: list[ast.Node] = []
        if rule.compartment is not None:
            parts.append(self._within(self._circle(rule.compartment, launched), resource_type))
        elif resource_type in subjects.table():
            if launched:
                parts.append(self._belongs(resource_type, (self._grant.patient or "",)))
            if rule.consent and self._grant.role not in ("patient", "system"):
                parts.append(self._not_withheld(resource_type, launched))
        if any(part == ast.NOTHING for part in parts):
            return ast.NOTHING
        if rule.criteria:
            pairs = expand(rule.criteria, self._variables(rule), resource_type)
            if pairs is None:
                return ast.NOTHING
            parts.append(self._search(resource_type, pairs))
        if resource_type == "Binary" and self._grant.role != "system":
            parts.append(OWNED)
        above = _ABOVE[rule.confidentiality]
        if above:
            parts.append(ast.Not(self._labelled(resource_type, above)))
        return both(parts)

    def _search(self, resource_type: str, pairs: Iterable[tuple[str, str]]) -> ast.Node:
        """The node of criteria; NOTHING where they mean nothing for the type, so that a limit is never lost."""
        kept = list(pairs)
        try:
            resolved = resolve(
                kept,
                types=(resource_type,),
                registry=self._server.registry,
                settings=self._server.extractor.settings,
                handling="strict",
            )
        except FhirError:
            return ast.NOTHING
        if len(resolved.applied) != len(kept) or not resolved.criteria or resolved.search.select.contained != "no":
            return ast.NOTHING
        return resolved.search.select.where

    # --- patients -----------------------------------------------------------------------------------------------------

    def _circle(self, variable: str, launched: bool) -> Circle:
        snapshot = self._snapshot
        if variable == "%patient":
            return self._only(snapshot.patients if self._grant.role == "patient" else snapshot.treated)
        circle = {
            "%own": snapshot.own,
            "%patients": snapshot.patients,
            "%treated": snapshot.treated,
            "%opened": snapshot.opened,
        }[variable]
        return self._only(circle) if launched else circle

    def _only(self, circle: Circle) -> Circle:
        """Of a circle the patient of the launch context."""
        patient = self._grant.patient
        return tuple(
            Part(frozenset((patient,)), part.related, part.agreements, part.discreet)
            for part in circle
            if patient in part.ids and patient is not None
        )

    def _belongs(self, resource_type: str, ids: Iterable[str]) -> ast.Node:
        return subjects.belongs(
            self._server.registry, resource_type, tuple(sorted(f"Patient/{id_}" for id_ in ids if id_))
        )

    def _within(self, circle: Circle, resource_type: str) -> ast.Node:
        """A resource about one of these patients, as far as each one's Consents let it be seen."""
        by_limit: dict[ast.Node, set[str]] = {}
        for part in circle:
            limit = self._allowed(part, resource_type)
            if limit != ast.NOTHING:
                by_limit.setdefault(limit, set()).update(part.ids)
        return either(both((self._belongs(resource_type, ids), limit)) for limit, ids in by_limit.items())

    def _allowed(self, part: Part, resource_type: str) -> ast.Node:
        """What of these patients' resources of that type may be seen."""
        if part.related:
            allowed: ast.Node = ast.EVERYTHING
        else:
            allowed = either(self._layered(ast.NOTHING, layers, resource_type) for layers in part.agreements)
        denials = (layers for layers in part.agreements if any(layer.effect == "deny" for layer in layers))
        allowed = both((allowed, *(self._layered(ast.EVERYTHING, layers, resource_type) for layers in denials)))
        if part.discreet:
            allowed = both((allowed, ast.Not(self._labelled(resource_type, ("R", "V"), SENSITIVE))))
        return allowed

    def _labelled(self, resource_type: str, confidential: Iterable[str], sensitive: Iterable[str] = ()) -> ast.Node:
        """A resource with one of these labels: in its meta, or where its type has an element for the labels of its
        content.
        """
        texts = [f"{system}|{code}" for code in confidential for system in (*labels.CONFIDENTIALITY, "")]
        texts += [f"{system}|{code}" for code in sensitive for system in (*labels.ACT_CODE, "")]
        codes = ["_security", *([_LABEL_ELEMENTS[resource_type]] if resource_type in _LABEL_ELEMENTS else [])]
        found = [self._context.node((resource_type,), code, ",".join(texts)) for code in codes]
        if len(found) == 2:
            first, second = found
            assert isinstance(first, ast.Exists)
            assert isinstance(second, ast.Exists)
            return ast.Exists((*first.params, *second.params), "key", first.test)
        return either(found)

    def _layered(self, start: ast.Node, layers: Layers, resource_type: str) -> ast.Node:
        """One Consent applied to what holds without it: each provision is an exception from those before. Only who is
        named is given anything new."""
        node = start
        for layer in layers:
            certain = layer.effect == "permit"
            about = both(self._restricted(one, resource_type, certain) for one in layer.restrictions)
            if layer.effect == "deny":
                node = both((node, negated(about)))
            elif layer.named or start == ast.EVERYTHING:
                node = either((node, about))
        return node

    def _restricted(self, restriction: Restriction, resource_type: str, certain: bool) -> ast.Node:
        """The resources that a provision is about; `certain`: only those of which that can be told, else also those of
        which it cannot be ruled out.
        """
        if restriction.types and resource_type not in restriction.types:
            return ast.NOTHING
        parts: list[ast.Node] = []
        if restriction.labels:
            texts = [_token(system, code) for system, code in restriction.labels]
            parts.append(self._context.node((resource_type,), "_security", ",".join(texts)))
        if restriction.data:
            parts.append(ast.Field("address", "in", restriction.data))
        if restriction.codes:
            parts.append(self._coded(restriction.codes, resource_type, certain))
        if restriction.time is not None:
            parts.append(self._dated(*restriction.time, resource_type, certain))
        return both(parts)

    def _coded(self, codes: Iterable[tuple[str, str]], resource_type: str, certain: bool) -> ast.Node:
        """The resources in which one of these codes is found. R4 consent-definitions.html#Consent.provision.code."""
        params = subjects.coded(resource_type)
        if not params:
            return ast.NOTHING if certain or resource_type in subjects.DEMOGRAPHICS else ast.EVERYTHING
        text = ",".join(_token(system, code) for system, code in codes)
        nodes = [self._context.node((resource_type,), code, text) for code in params]
        medication = self._server.registry.param(resource_type, "medication")
        if medication is not None and "Medication" in medication.targets:
            nodes.append(self._search(resource_type, (("medication:Medication.code", text),)))
        return either(nodes)

    def _dated(self, start: int, end: int, resource_type: str, certain: bool) -> ast.Node:
        """The resources whose data are of a time: all their dates within it, or (not `certain`) one that overlaps it,
        or none at all.
        """
        params = subjects.dated(resource_type)
        if not params:
            return ast.NOTHING if certain or resource_type in subjects.DEMOGRAPHICS else ast.EVERYTHING

        def asked(code: str, prefix: str, moment: int, otherwise: ast.Node) -> ast.Node:
            if not _YEAR_1_US < moment < _YEAR_10000_US:
                return otherwise
            return self._context.node((resource_type,), code, prefix + instant(moment))

        absent = both(negated(self._present(resource_type, code)) for code in params)
        if certain:
            before = (asked(code, "lt", start, ast.NOTHING) for code in params)
            after = (asked(code, "ge", end, ast.NOTHING) for code in params)
            return both((negated(absent), negated(either((*before, *after)))))
        overlapping = (
            both((asked(code, "ge", start, self._present(resource_type, code)), asked(code, "lt", end, ast.EVERYTHING)))
            for code in params
        )
        return either((absent, *overlapping))

    def _present(self, resource_type: str, code: str) -> ast.Node:
        """Whether a resource has a value of that parameter."""
        param = self._server.registry.param(resource_type, code)
        assert param is not None
        return ast.Exists(param.numbers, param.shape, ast.ANY)

    def _not_withheld(self, resource_type: str, launched: bool) -> ast.Node:
        """For rules that hold for the whole hospital: not about a patient who denies it."""
        circle = self._only(self._snapshot.withheld) if launched else self._snapshot.withheld
        if not circle:
            return ast.EVERYTHING
        about = self._belongs(resource_type, patients_of(circle))
        return either((negated(about), self._within(circle, resource_type)))

    # --- variables ----------------------------------------------------------------------------------------------------

    def _variables(self, rule: Rule) -> Mapping[str, tuple[str, ...]]:
        for name in rule.variables():
            if name not in self._values:
                self._values[name] = self._value(name)
        return self._values

    def _value(self, name: str) -> tuple[str, ...]:
        grant, snapshot = self._grant, self._snapshot
        match name:
            case "%fhirUser":
                return (grant.fhir_user,) if grant.fhir_user else ()
            case "%self":
                return snapshot.references
            case "%practitioner":
                return snapshot.practitioner
            case "%roles":
                return snapshot.roles
            case "%organizations":
                return snapshot.organizations
            case "%client":
                return (grant.client_id,)
            case "%today":
                return (_today(self._server, self._now_us),)
            case "%now":
                return (instant(self._now_us),)
            case _:
                return tuple(f"Patient/{id_}" for id_ in sorted(patients_of(self._circle(name, False))))


def _token(system: str, code: str) -> str:
    """A token's value; a system or code with signs of the search syntax is escaped."""
    for sign in ("\\", ",", "|", "$"):
        system, code = system.replace(sign, "\\" + sign), code.replace(sign, "\\" + sign)
    return f"{system}|{code}" if system else code


@lru_cache(maxsize=512)
def _types(role: RolePolicy, wanted: frozenset[str], action: str) -> frozenset[str]:
    found: set[str] = set()
    candidates = _ALL if "*" in wanted else wanted & _ALL
    for rule in role.rules:
        if action in rule.interactions:
            found.update(name for name in candidates if name not in found and rule.applies(name, action))
    return frozenset(name for name in found if (name, action) not in NEVER)


# --- nodes ------------------------------------------------------------------------------------------------------------


def both(parts: Iterable[ast.Node]) -> ast.Node:
    """And, flat, without what always holds; NOTHING with what never does."""
    kept = [one for one in dict.fromkeys(one for part in parts for one in _conjuncts(part)) if one != ast.EVERYTHING]
    if any(part == ast.NOTHING for part in kept):
        return ast.NOTHING
    return kept[0] if len(kept) == 1 else ast.And(tuple(kept)) if kept else ast.EVERYTHING


def either(parts: Iterable[ast.Node]) -> ast.Node:
    """Or, without what never holds; EVERYTHING with what always does.

    What all alternatives have in common stands before them: the stores can begin with it, and test it once.
    """
    kept = [part for part in dict.fromkeys(parts) if part != ast.NOTHING]
    if any(part == ast.EVERYTHING for part in kept):
        return ast.EVERYTHING
    if len(kept) < 2:
        return kept[0] if kept else ast.NOTHING
    lists = [_conjuncts(part) for part in kept]
    common = [one for one in lists[0] if all(one in others for others in lists[1:])]
    if not common:
        return ast.Or(tuple(kept))
    return both((*common, either(both(one for one in conjuncts if one not in common) for conjuncts in lists)))


def _conjuncts(node: ast.Node) -> tuple[ast.Node, ...]:
    # OWNED is a mark of its own, and no list.
    return node.parts if isinstance(node, ast.And) and node not in (OWNED, ast.EVERYTHING) else (node,)


def negated(node: ast.Node) -> ast.Node:
    """Not, of what is certain the other certainty."""
    if node == ast.NOTHING:
        return ast.EVERYTHING
    return ast.NOTHING if node == ast.EVERYTHING else ast.Not(node)


__all__ = ["Compiler", "Granted", "both", "compile_policy", "either", "negated", "opened_of", "role_of"]
