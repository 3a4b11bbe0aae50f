"""The store's own records of what was indexed how: registry and terminology generations, and the custom search
parameters.

R4 searchparameter.html. ``generations`` is one small record, read in every write transaction and at most every
second outside:
``{"registry": 7, "terminology": 3, "ready": 2}``. ``registry`` holds the frozen numbers of custom parameters and
which of them are ready.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from fhir_server.errors import Unprocessable
from fhir_server.gzipped import inflate
from fhir_server.resources import jsonformat
from fhir_server.search import registry as search_registry
from fhir_server.search.extract import Extractor
from fhir_server.search.registry import Registry
from fhir_server.storage.protocol import Store, Transaction
from fhir_server.storage.writes import Stored, Version

if TYPE_CHECKING:
    from fhir_server.context import Server

_RECHECKS_S: Final = (2.0, 10.0, 70.0)
"""A transaction lives a minute at most (MongoDB's transactionLifetimeLimitSeconds)."""

GENERATIONS: Final = "generations"
REGISTRY: Final = "registry"


def version(tx: Transaction) -> int:
    """The registry version that is in force, inside a transaction."""
    return int((tx.get_meta(GENERATIONS) or {}).get("registry", 0))


def bump(tx: Transaction, *, registry: bool = False, terminology: bool = False, ready: bool = False) -> None:
    """Announces a change to all workers, together with the write that makes it."""
    record = dict(tx.get_meta(GENERATIONS) or {})
    for name, changed in (("registry", registry), ("terminology", terminology), ("ready", ready)):
        if changed:
            record[name] = int(record.get(name, 0)) + 1
    tx.put_meta(GENERATIONS, record)


_IN_FORCE: Final = ("base", "code", "component", "expression", "target", "type", "url", "xpathUsage")


def record(tx: Transaction, versions: Iterable[Version], before: Mapping[str, Stored]) -> None:
    """Announces SearchParameters that come, go or change, with the write that does it; they have to be indexed
    again.
    """
    keys: set[str] = set()
    for version in versions:
        if version.type != "SearchParameter":
            continue
        stored = before.get(version.address)
        old, new = _in_force(stored.body if stored is not None else None), _in_force(version.body)
        if {name: old.get(name) for name in _IN_FORCE} != {name: new.get(name) for name in _IN_FORCE}:
            for one in (old, new):
                keys.update(f"{name}.{one['code']}" for name in (search_registry.custom_bases(one) if one else ()))
    if not keys:
        return
    known = dict(tx.get_meta(REGISTRY) or {})
    if keys.intersection(known.get("ready", ())):
        known["ready"] = [key for key in known["ready"] if key not in keys]
        tx.put_meta(REGISTRY, known)
    bump(tx, registry=True)


def _in_force(body: bytes | None) -> dict[str, Any]:
    """A stored SearchParameter that takes part in searches; empty for one that does not."""
    resource = jsonformat.parse(inflate(body)) if body is not None else {}
    return resource if resource and search_registry.effective(resource) else {}


def check(resource: dict[str, Any]) -> None:
    """Raises Unprocessable (422) for an active SearchParameter that cannot be put in force."""
    issues = search_registry.problems(resource)
    if issues:
        raise Unprocessable("The search parameter cannot be put in force.", issues=issues)


def stored_parameters(store: Store) -> list[dict[str, Any]]:
    """The SearchParameter resources of a store, by id."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = store.scan(after=after, types=("SearchParameter",))
        if not page:
            return found
        found.extend(jsonformat.parse(inflate(one.body)) for one in page if one.body is not None)
        after = page[-1].address


def load(server: Server) -> None:
    """Takes over the registry and terminology generation that the store records. Called often; one small read when
    nothing changed.
    """
    record = server.store.get_meta(GENERATIONS) or {}
    server.terminology_generation = int(record.get("terminology", 0))
    seen = (int(record.get("registry", 0)), int(record.get("ready", 0)))
    if seen != server.registry_seen:
        if seen[1] != server.registry_seen[1]:
            now = time.monotonic()
            server.rechecks = [now + later for later in _RECHECKS_S]
        install(server, build(server.store, seen[0]))
        server.registry_seen = seen


def build(store: Store, number: int) -> Registry:
    """The registry `number` with the store's SearchParameter resources; numbers that they lack are assigned and
    recorded.
    """
    parameters = [one for one in stored_parameters(store) if search_registry.effective(one)]
    if not parameters:
        return Registry(number)

    def assign(old: Any) -> Any:
        record = dict(old or {})
        record["numbers"] = search_registry.assign_numbers(parameters, record.get("numbers", {}))
        return record

    old = store.get_meta(REGISTRY) or {}
    if search_registry.assign_numbers(parameters, old.get("numbers", {})) != old.get("numbers", {}):
        old = store.update_meta(REGISTRY, assign)
    return search_registry.build(
        parameters, version=number, numbers=old["numbers"], ready=frozenset(old.get("ready", ()))
    )


def install(server: Server, registry: Registry) -> None:
    """Puts a registry in force in this worker."""
    server.registry = registry
    server.extractor = Extractor(registry, server.extractor.settings)
    server.cache.clear()


def custom_keys(registry: Registry) -> set[str]:
    """``Type.code`` of every custom parameter in force."""
    return {
        f"{name}.{param.code}"
        for name in registry.types
        for param in registry.params(name).values()
        if not param.builtin
    }


def reference_params(registry: Registry) -> tuple[int, ...]:
    """The numbers of all reference parameters of all types."""
    numbers: set[int] = set()
    for name in registry.types:
        for param in registry.params(name).values():
            if param.type == "reference":
                numbers.update(param.numbers)
    return tuple(sorted(numbers))
