"""Role policies as administrators see and change them: versions in the store of records, the shipped ones below them.

A role without a stored version has the shipped one, version 0. Nothing is ever overwritten: a change is a new version,
and restoring an old one is a change too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

from fhir_server.access import policies as access
from fhir_server.context import Server
from smart_auth.records import RolePolicy as Record
from smart_auth.store.protocol import AuthStore, Taken

CACHE_S: Final = 1.0
"""How long a worker may go on with a policy that another worker has just replaced."""


class Policies:
    """The policies in force, remembered for a moment."""

    def __init__(self, store: AuthStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, access.RolePolicy]] = {}

    def current(self, role: str) -> access.RolePolicy:
        """The newest version of a role's policy. An unknown role has no rules."""
        now = self._monotonic()
        known = self._known.get(role)
        if known is not None and now - known[0] < CACHE_S:
            return known[1]
        record = newest(self._store, role)
        policy = access.default_policy(role) if record is None else access.parse(role, record.version, record.rules)
        self._known[role] = (now, policy)
        return policy

    def forget(self) -> None:
        """Reads anew at the next question."""
        self._known.clear()


def newest(store: AuthStore, role: str) -> Record | None:
    """The stored version in force; None while the shipped one is."""
    return max(store.find(Record, role=role), key=lambda one: one.version, default=None)


class PolicyAdmin:
    """What the administrator's page works with; `auth.policies`."""

    def __init__(self, server: Server, store: AuthStore, policies: Policies, clock: Callable[[], int]) -> None:
        self._server, self._store, self._policies, self._clock = server, store, policies, clock

    def roles(self) -> list[str]:
        """Roles that have a policy."""
        return list(access.ROLES)

    def current(self, role: str) -> dict[str, Any]:
        """`version`, `rules_json` (indented), `author`, `at` (seconds, 0 for the shipped one) and `note`."""
        record = newest(self._store, role)
        if record is None:
            return _shown(0, access.default_rules(role), "Hestia", 0, "")
        return _shown(record.version, record.rules, record.author, record.created_at, record.note)

    def versions(self, role: str) -> list[dict[str, Any]]:
        """All versions, newest first; the shipped one is version 0."""
        stored = sorted(self._store.find(Record, role=role), key=lambda one: -one.version)
        shown = [_shown(one.version, one.rules, one.author, one.created_at, one.note) for one in stored]
        return [*shown, _shown(0, access.default_rules(role), "Hestia", 0, "")]

    def check(self, role: str, rules_json: str) -> list[str]:
        """What is wrong with these rules, in sentences; nothing is stored."""
        if role not in access.ROLES:
            return ["There is no such role."]
        try:
            rules = json.loads(rules_json)
        except ValueError as error:
            return [f"Not JSON: {error}"]
        return access.findings(self._server, role, rules)

    def save(self, role: str, rules_json: str, author: str, note: str) -> list[str]:
        """Puts a new version in force, or returns what is wrong with it."""
        found = self.check(role, rules_json)
        if found:
            return found
        record = newest(self._store, role)
        version = 1 if record is None else record.version + 1
        try:
            self._store.insert(
                Record(
                    id=f"{role}|{version}",
                    role=role,
                    version=version,
                    rules=json.loads(rules_json),
                    author=author,
                    note=note,
                    created_at=self._clock(),
                )
            )
        except Taken:
            return ["Somebody else has just changed this policy; look at the new version first."]
        self._policies.forget()
        return []


def _shown(version: int, rules: list[dict[str, Any]], author: str, at: int, note: str) -> dict[str, Any]:
    return {
        "version": version,
        "rules_json": json.dumps(rules, ensure_ascii=False, indent=1),
        "author": author,
        "at": at,
        "note": note,
    }
