"""Policies made by hand, each with a plain statement of what it permits: the matrix compares the server with that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fhir_server.authorize import OWNED, Action, Policy
from fhir_server.context import Server
from fhir_server.search import ast

ABOUT: Final = {"Observation": "patient", "Encounter": "patient", "DocumentReference": "patient"}
"""Types that are about a patient, and the search parameter that says so."""


@dataclass(frozen=True)
class Role:
    """`actions`: letters per type; for types about a patient, Patient and Binary they reach the patients `ids` (None:
    all). Other types are granted as a whole.
    """

    actions: Mapping[str, str]
    ids: tuple[str, ...] | None = None

    def grants(self, resource_type: str, action: str) -> bool:
        if resource_type == "Binary" and action == "s":
            return self.ids is None and "s" in self.actions.get("Binary", "")
        return action in self.actions.get(resource_type, "")

    def may(self, action: str, resource_type: str, owner: str) -> bool:
        """Whether an action is permitted on a resource about that patient ("": nobody)."""
        if not self.grants(resource_type, action):
            return False
        if self.ids is None or resource_type not in (*ABOUT, "Patient", "Binary"):
            return True
        return owner in self.ids

    def policy(self, server: Server) -> Policy:
        actions: dict[Action, dict[str, ast.Node]] = {"c": {}, "r": {}, "u": {}, "d": {}, "s": {}}
        for name, letters in self.actions.items():
            for action, predicates in actions.items():
                if action in letters:
                    predicates[name] = self._node(server, name)
        return Policy(actions=actions)

    def _node(self, server: Server, name: str) -> ast.Node:
        if self.ids is None or name not in (*ABOUT, "Patient", "Binary"):
            return ast.EVERYTHING
        if name == "Binary":
            return OWNED
        if name == "Patient":
            return ast.Field("id", "in", self.ids)
        param = server.registry.param(name, ABOUT[name])
        assert param is not None
        keys = tuple(f"Patient/{id_}" for id_ in self.ids)
        return ast.Exists(param.numbers, "key", ast.Compare("key", "in", keys))


_CLINICAL: Final = {"Observation": "cruds", "Encounter": "rs", "DocumentReference": "crus"}

ROLES: Final[Mapping[str, Role]] = {
    "patient-a": Role({**_CLINICAL, "Patient": "rs", "Binary": "cr", "Practitioner": "rs"}, ("a",)),
    "doctor-ab": Role(
        {**_CLINICAL, "Patient": "rus", "Binary": "crud", "Practitioner": "rs", "Organization": "rs"}, ("a", "b")
    ),
    "only-observations": Role({"Observation": "cruds"}),
    "reader-of-a": Role({"Observation": "r", "Patient": "r", "Encounter": "r", "DocumentReference": "r"}, ("a",)),
    "finder-of-a": Role({"Observation": "s", "Patient": "s"}, ("a",)),
    "writer-of-a": Role({"Observation": "c"}, ("a",)),
    "all-of-everything": Role(
        dict.fromkeys(("Observation", "Encounter", "DocumentReference", "Patient", "Binary", "Practitioner"), "cruds")
        | {"Organization": "cruds"}
    ),
    "nobody": Role({}, ()),
}
