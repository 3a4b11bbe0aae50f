"""Store + policy + interceptors, per request: all that interactions may hold, and the one gate to what is stored.

Every Select is narrowed here. A write of any kind, one or a whole transaction, takes the same path:
`Repository.execute`. What does not depend on stored state happens before the store's transaction opens
(writing.Plan), the rest inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from fhir_server import authorize, owned, registries, sealing
from fhir_server import labels as labelling
from fhir_server.authorize import Action
from fhir_server.context import RequestContext, Server
from fhir_server.deciding import selects
from fhir_server.errors import BadRequest, Conflict, Forbidden, Gone, Issue, NotFound, PreconditionFailed
from fhir_server.gzipped import inflate
from fhir_server.linking import Links
from fhir_server.resources import validate
from fhir_server.search import ast
from fhir_server.search.parse import parse_query
from fhir_server.search.resolve import Resolved, resolve
from fhir_server.storage.protocol import HistoryPage, HistoryQuery, Reader, SearchPage
from fhir_server.storage.writes import Document, Stored, Version
from fhir_server.wire import query_string
from fhir_server.writing import AlreadyDone, Criteria, Plan, Result, StaleRegistry, Write, parse_body

__all__ = ["AlreadyDone", "Criteria", "Repository", "Result", "Write"]

T = TypeVar("T")

_NOT_CRITERIA: Final = frozenset(
    ("_format", "_pretty", "_summary", "_elements", "_count", "_total", "_sort", "_explain")
)
_REGISTRY_ATTEMPTS: Final = 5
_READ: Final[tuple[Action, ...]] = ("r",)
_POINTING_LOOKED_AT: Final = 10
"""Resources that point at a Binary, of which the types are taken; those of more are tried one by one."""
_HISTORY_LOOKED_AT: Final = 1000
"""Versions that one page of a restricted history looks at; what then remains is for the next page."""


def find(reader: Reader, policy: authorize.Policy, resource_type: str, resource_id: str) -> Stored | None:
    """The current version of a resource as it is stored, if the policy permits to read it; not for Binary."""
    types = (resource_type,)
    named = ast.Field("address", "=", f"{resource_type}/{resource_id}")
    left = policy.of_named(resource_type)
    if left is None:
        left = policy.left(policy.predicate(types), (named, ast.Field("id", "=", resource_id)))
        if left is None:
            stored = reader.read(resource_type, resource_id)
            return stored if stored is not None and stored.body is not None else None
    page = reader.search(ast.Search(ast.Select(types, ast.And((named, left))), count=1))
    return page.matches[0] if page.matches else None


class Repository:
    """What one request may see and do. Made per request; inside a transaction it reads through it."""

    __slots__ = ("_reader", "context", "server")

    def __init__(self, server: Server, context: RequestContext, reader: Reader | None = None) -> None:
        self.server = server
        self.context = context
        self._reader: Reader = reader if reader is not None else server.store

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, resource_type: str, resource_id: str) -> Stored:
        """The current version. Raises Forbidden, NotFound, or Gone (410) for a deletion."""
        policy = self.context.policy
        authorize.require(policy, (resource_type,), "r")
        asked = not policy.unrestricted(resource_type, "r") and resource_type != "Binary"
        if asked:
            # One question to the index; the body need not be looked into.
            found = find(self._reader, policy, resource_type, resource_id)
            if found is not None:
                return self._shown(found)
            # What is not permitted is told from what is absent by no more than the look at its row.
            stored = self._reader.read(resource_type, resource_id)
            if stored is not None and stored.body is None and self.visible(stored):
                raise Gone(f"The {resource_type} has been deleted.")
            raise NotFound(f"There is no {resource_type} with this id.")
        stored = self._reader.read(resource_type, resource_id)
        # What was asked about and not found is not looked into: the time that takes would tell that it is there.
        if stored is None or (asked and stored.body is not None) or not self.visible(stored):
            raise NotFound(f"There is no {resource_type} with this id.")
        if stored.body is None:
            raise Gone(f"The {resource_type} has been deleted.")
        return self._shown(stored)

    def vread(self, resource_type: str, resource_id: str, version_id: str) -> Stored:
        """One version. Raises Forbidden, NotFound, or Gone when that version is a deletion."""
        authorize.require(self.context.policy, (resource_type,), "r")
        stored = None
        if version_id.isascii() and version_id.isdigit() and len(version_id) < 18 and version_id[0] != "0":
            stored = self.server.store.read_version(resource_type, resource_id, int(version_id))
        if stored is None:
            self.pretend(resource_type, _READ)
        if stored is None or not self.visible(stored, labels=self._labels((stored,)).get(stored.address, ())):
            raise NotFound(f"There is no such version of this {resource_type}.")
        if stored.body is None:
            raise Gone(f"This version of the {resource_type} is its deletion.")
        return self._shown(stored)

    def history(self, query: HistoryQuery) -> HistoryPage:
        """A page of history, each version judged by its own content.

        A page may have fewer entries than its count, and yet a next one. Raises: NotFound for an id that never existed.
        """
        page = self._history(query)
        page.entries = self._all_shown(page.entries)
        return page

    def _history(self, query: HistoryQuery) -> HistoryPage:
        policy = self.context.policy
        store = self.server.store
        action: Action = "s" if query.id is None else "r"
        authorize.require(policy, None if query.type is None else (query.type,), action)
        if policy.everything or (query.type is not None and policy.unrestricted(query.type, action)):
            if query.id is not None and query.type is not None and store.read(query.type, query.id) is None:
                raise NotFound(f"There is no {query.type} with this id.")
            return store.history(query)
        whole = query.since is None and query.at is None and query.before is None
        page = HistoryPage()
        looked_at = 0
        while True:
            found = store.history(replace(query, count=max(query.count, 100), total=False))
            page.watermark = page.watermark or found.watermark
            labelled = self._labels(found.entries)
            for stored in found.entries:
                looked_at += 1
                if self.visible(stored, action, labels=labelled.get(stored.address, ())):
                    if len(page.entries) == query.count:
                        page.next = _position(page.entries[-1])
                        return page
                    page.entries.append(stored)
            if found.next is None:
                break
            if looked_at >= _HISTORY_LOOKED_AT and query.id is None:
                page.next = found.next
                return page
            query = replace(query, before=found.next, until=page.watermark)
        if query.id is not None and query.type is not None and not page.entries:
            if not looked_at:
                self.pretend(query.type, _READ)
            if whole or not self._any_visible(query):
                raise NotFound(f"There is no {query.type} with this id.")
        return page

    def _any_visible(self, query: HistoryQuery) -> bool:
        """Whether the caller may see any version of an instance: if none, it does not exist for them."""
        before = None
        while True:
            found = self.server.store.history(HistoryQuery(query.type, query.id, count=100, before=before))
            labelled = self._labels(found.entries)
            if any(self.visible(stored, labels=labelled.get(stored.address, ())) for stored in found.entries):
                return True
            if found.next is None:
                return False
            before = found.next

    def _labels(self, versions: Sequence[Stored]) -> dict[str, list[Any]]:
        """Address -> the labels that a resource has now, or had when it was deleted, of those among some versions that
        are not current: what is labelled later was no less confidential before.
        """
        policy = self.context.policy
        if policy.everything:
            return {}
        newest = self.server.store.read_many(list(dict.fromkeys(one.address for one in versions)))
        found = {}
        for address in {one.address for one in versions}:
            current = newest.get(address)
            if current is None or all(one.version == current.version for one in versions if one.address == address):
                continue
            if current.body is None:
                current = self.server.store.read_version(current.type, current.id, current.version - 1) or current
            if current.body is not None:
                found[address] = labelling.of(parse_body(current.body))
        return found

    def search(self, search: ast.Search) -> SearchPage:
        """A page of what the policy shows."""
        policy = self.context.policy
        page = self._reader.search(authorize.narrow(search, policy))
        page.matches = self._all_shown(page.matches)
        page.includes = self._all_shown(page.includes)
        return page

    def explain(self, search: ast.Search) -> tuple[ast.Search, list[dict[str, Any]]]:
        """The search, and the store's plan for it. Raises Forbidden for callers who do not see everything: a narrowed
        one tells what the policy is made of, and plans tell of what others have.
        """
        self.require_unrestricted(None, "s")
        return search, self._reader.explain(search)

    def require_unrestricted(self, resource_type: str | None, action: Action) -> None:
        """Raises Forbidden unless the caller may do that to every resource of the type (None: of all types)."""
        policy = self.context.policy
        types = self.server.registry.types if resource_type is None else (resource_type,)
        if not all(policy.unrestricted(name, action) for name in types):
            raise Forbidden("This is for callers who are not restricted.")

    def resolve(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        types: tuple[str, ...] | None,
        handling: str | None = None,
        compartment: tuple[str, str] | None = None,
    ) -> Resolved:
        """Parameters to a Search, with this server's registry and settings."""
        server = self.server
        return resolve(
            pairs,
            types=types,
            registry=server.registry,
            settings=server.extractor.settings,
            handling=handling or self.context.handling,
            compartment=compartment,
        )

    def criteria(self, resource_type: str, query: str) -> Criteria:
        """Criteria of a conditional interaction from its query string; a leading ``?`` or ``Type?`` is allowed.

        They are always strict: a parameter that is not understood may not widen what is written (400). Raises
        PreconditionFailed (412) when there is none.
        """
        text = query.partition("?")[2] if "?" in query else query
        pairs = [(name, value) for name, value in parse_query(text) if name not in _NOT_CRITERIA and value != ""]
        if not pairs:
            raise PreconditionFailed("The interaction is conditional, and has no criteria.")
        resolved = self.resolve(pairs, types=(resource_type,), handling="strict")
        select = resolved.search.select
        if not resolved.criteria:
            raise PreconditionFailed("The interaction is conditional, and has no criteria.")
        if select.contained != "no":
            raise BadRequest("The criteria of a conditional interaction select resources, not contained ones.")
        key = f"{resource_type}?{query_string(sorted(resolved.applied))}"
        if self.server.sealer is not None:
            key = self.server.sealer.opaque(key)
        search = ast.Search(select, count=2, chain_limit=resolved.search.chain_limit)
        return Criteria(resource_type, authorize.narrow(search, self.context.policy), key)

    # --- single resources before the policy ---------------------------------------------------------------------------

    def visible(
        self, stored: Stored | Version, *actions: Action, reader: Reader | None = None, labels: Sequence[Any] = ()
    ) -> bool:
        """Whether the policy permits one of some actions (none given: read) on this version.

        It is judged by its own content, a deletion by the version before it; and by `labels`, those that the resource
        has now.
        """
        policy = self.context.policy
        actions = tuple(action for action in actions or _READ if policy.grants(stored.type, action))
        if not actions:
            return False
        if any(policy.unrestricted(stored.type, action) for action in actions):
            return True
        body = stored.body
        if body is None:
            before = self.server.store.read_version(stored.type, stored.id, stored.version - 1)
            body = before.body if before is not None else None
            if body is None:
                return False
        resource = labelling.with_more(parse_body(body), list(labels))
        if stored.type == "Binary" and not self._owned(resource, stored, reader or self._reader):
            return False
        documents = self.server.extractor.documents(resource, stored.address)
        return self.permits(documents, *actions, reader=reader, updated=stored.updated)

    def pretend(self, resource_type: str, *asked: tuple[Action, ...], reader: Reader | None = None) -> None:
        """Judges some resource of the type in place of one that is not there, once per group of actions: how long a
        refusal takes shall not tell what is hidden from what is absent.
        """
        if self.context.policy.everything:
            return
        example = self.server.cache.get(("example", resource_type))
        if example is None:
            found = (reader or self._reader).search(ast.Search(ast.Select((resource_type,)), count=1)).matches
            if not found:
                return
            example = self.server.cache[("example", resource_type)] = found[0]
        for actions in asked:
            self.visible(example, *actions, reader=reader)

    def permits(
        self, documents: Sequence[Document], *actions: Action, reader: Reader | None = None, updated: int = 0
    ) -> bool:
        """Whether the policy permits one of some actions on the resource with these documents.

        Chains of its predicates ask `reader`. A Binary's owner is not asked for.
        """
        policy = self.context.policy
        if any(policy.unrestricted(documents[0].type, action) for action in actions):
            return True
        return self.matches(authorize.permitted(policy, documents[0].type, *actions), documents, reader, updated)

    def seen(self, addresses: Iterable[str], reader: Reader | None = None) -> set[str]:
        """Those of some addresses whose current resources the caller may read or find. Deletions are not seen."""
        reader = reader or self._reader
        by_type: dict[str, list[str]] = {}
        for address in addresses:
            by_type.setdefault(address.partition("/")[0], []).append(address)
        found: set[str] = set()
        for name, wanted in by_type.items():
            if name == "Binary" and not self.context.policy.unrestricted("Binary", "r"):
                stored = reader.read_many(wanted)
                found.update(
                    one for one, held in stored.items() if held.body is not None and self.visible(held, reader=reader)
                )
                continue
            select = authorize.permitted(self.context.policy, name, "r", "s")
            if select.where != ast.NOTHING:
                where = ast.And((ast.Field("address", "in", tuple(wanted)), select.where))
                page = reader.search(ast.Search(replace(select, where=where), count=len(wanted)))
                found.update(match.address for match in page.matches)
        return found

    def _owned(self, binary: dict[str, Any], stored: Stored | Version, reader: Reader) -> bool:
        """Whether the caller may read what a version of a Binary belongs to, if that were labelled as the Binary is."""
        labels = labelling.of(binary)
        address, bases = stored.address, self.server.extractor.settings.base_urls
        owner = owned.owner_of(binary, stored, reader, self.server.store, bases)
        if owner is not None:
            named = ast.Field("address", "=", owner)
            return bool(owner) and self._finds(owner.partition("/")[0], named, reader, labels)
        # Nearly always one resource points, so its type is found before any predicate of the policy is asked.
        types = [name for name in self.context.policy.granted(None, "r") if name != "Binary"]
        page = reader.search(ast.Search(ast.Select(None, owned.pointing(types, address)), count=_POINTING_LOOKED_AT))
        found = dict.fromkeys(match.type for match in page.matches)
        if page.next is not None:
            found.update(dict.fromkeys(types))
        return any(self._finds(name, owned.pointing((name,), address), reader, labels) for name in found)

    def _finds(self, resource_type: str, node: ast.Node, reader: Reader, labels: list[Any]) -> bool:
        """Whether the caller may read a resource that satisfies `node`, if it had these labels as well."""
        select = authorize.permitted(self.context.policy, resource_type, "r")
        if select.where == ast.NOTHING:
            return False
        where = replace(select, where=ast.And((node, select.where)))
        found = reader.search(ast.Search(where, count=_POINTING_LOOKED_AT if labels else 1)).matches
        return any(not labels or self._readable(match, labels, reader) for match in found)

    def _readable(self, stored: Stored, labels: list[Any], reader: Reader) -> bool:
        """Whether the caller may read a resource, if it had these labels as well."""
        assert stored.body is not None
        resource = labelling.with_more(parse_body(stored.body), labels)
        documents = self.server.extractor.documents(resource, stored.address)
        return self.permits(documents, "r", reader=reader, updated=stored.updated)

    def matches(
        self, select: ast.Select, documents: Sequence[Document], reader: Reader | None = None, updated: int = 0
    ) -> bool:
        """Whether a resource that is not stored (like this) would be selected; chains ask `reader`."""
        return selects(select, documents, reader or self._reader, updated)

    def validate(self, resource: Any, resource_type: str, resolvable: Collection[str] = ()) -> list[Issue]:
        """The warnings of a resource that may be stored. Raises Invalid (400) or Unprocessable (422) with all
        findings.
        """
        if not isinstance(resource, dict):
            raise BadRequest("A resource is a JSON object.", code="structure")
        strict = self.server.settings.validation == "strict"
        warnings = validate.check(resource, mode="strict" if strict else "default", resolvable=resolvable)
        if resource["resourceType"] != resource_type:
            raise BadRequest(f"The resource is not a {resource_type}.", code="structure", expression="resourceType")
        return warnings

    # --- writing ------------------------------------------------------------------------------------------------------

    def execute(
        self, writes: Sequence[Write], *, links: Links | None = None, ledger_key: str | None = None
    ) -> list[Result]:
        """Commits all writes or none, and returns their results in order.

        `links` resolves references between the writes of a transaction. `ledger_key`: a record that is committed
        with the writes; raises AlreadyDone when it is there already.
        """
        return self._execute(writes, links, None, ledger_key)[0]

    def execute_with(
        self,
        writes: Sequence[Write],
        inside: Callable[[Repository], T],
        *,
        links: Links | None = None,
        ledger_key: str | None = None,
    ) -> tuple[list[Result], T]:
        """Like `execute`, with the value of `inside`, which runs in the transaction and sees its writes."""
        return self._execute(writes, links, inside, ledger_key)

    def _execute(
        self,
        writes: Sequence[Write],
        links: Links | None,
        inside: Callable[[Repository], Any] | None,
        ledger_key: str | None,
    ) -> tuple[list[Result], Any]:
        server = self.server
        for _ in range(_REGISTRY_ATTEMPTS):
            plan = Plan(self, writes, links)
            try:
                results, versions, value = server.store.transact(
                    lambda transaction, plan=plan: plan.run(transaction, inside, ledger_key)  # type: ignore[misc]
                )
            except StaleRegistry:
                registries.load(server)
                continue
            if plan.changes_registry or plan.changes_terminology:
                registries.load(server)
            self._committed(versions)
            for result in results:
                self._show(result)
            return results, value
        raise Conflict("The search parameters change too fast; repeat the request.")

    def _shown(self, stored: Stored) -> Stored:
        """The version with its sealed numbers in clear or masked, as the caller may see them."""
        if self.context.seen is not None:
            self.context.seen.append((stored.type, stored.id, stored.version))
        return sealing.shown(self.server.sealer, stored, self.context.caller)

    def _all_shown(self, page: list[Stored]) -> list[Stored]:
        """The same for a page, whose members are only looked into."""
        if self.context.seen is not None:
            self.context.seen += [(stored.type, stored.id, stored.version) for stored in page]
        if not any(stored.body is not None and sealing.is_marked(stored.body) for stored in page):
            return page
        return [sealing.shown(self.server.sealer, stored, self.context.caller, compress=False) for stored in page]

    def _show(self, result: Result) -> None:
        """The same for what was written; the hooks after the commit get the versions as they are stored."""
        version = result.version
        if version is None or version.body is None or not sealing.is_marked(version.body):
            return
        result.version = sealing.shown(self.server.sealer, version, self.context.caller)
        if result.json is not None:
            assert result.version.body is not None
            result.json = inflate(result.version.body)

    def _committed(self, versions: Sequence[Version]) -> None:
        if versions:
            for hook in self.server.interceptors.after_commit:
                hook(versions)


def _position(stored: Stored) -> tuple[int, str, str, int]:
    """The place of a version in a history."""
    return stored.updated, stored.type, stored.id, stored.version
