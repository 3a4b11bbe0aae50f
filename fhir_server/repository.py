"""Store + policy + interceptors, per request: all that interactions may hold, and the one gate to what is stored.

Every Select is narrowed here. A write of any kind, one or a whole transaction, takes the same path:
`Repository.execute`. What does not depend on stored state happens before the store's transaction opens
(writing.Plan), the rest inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from fhir_server import authorize, registries, sealing
from fhir_server.context import RequestContext, Server
from fhir_server.deciding import selects
from fhir_server.errors import BadRequest, Conflict, Gone, Issue, NotFound, PreconditionFailed
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


class Repository:
    """What one request may see and do. Made per request; inside a transaction it reads through it."""

    __slots__ = ("_reader", "context", "server")

    def __init__(self, server: Server, context: RequestContext, reader: Reader | None = None) -> None:
        self.server = server
        self.context = context
        self._reader: Reader = reader if reader is not None else server.store

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, resource_type: str, resource_id: str) -> Stored:
        """The current version. Raises NotFound, or Gone (410) for a deletion."""
        stored = self._reader.read(resource_type, resource_id)
        if stored is None or not self.visible(stored):
            raise NotFound(f"There is no {resource_type} with this id.")
        if stored.body is None:
            raise Gone(f"The {resource_type} has been deleted.")
        return self._shown(stored)

    def vread(self, resource_type: str, resource_id: str, version_id: str) -> Stored:
        """One version. Raises NotFound, or Gone when that version is a deletion."""
        stored = None
        if version_id.isascii() and version_id.isdigit() and len(version_id) < 18 and version_id[0] != "0":
            stored = self.server.store.read_version(resource_type, resource_id, int(version_id))
        if stored is None or not self.visible(stored):
            raise NotFound(f"There is no such version of this {resource_type}.")
        if stored.body is None:
            raise Gone(f"This version of the {resource_type} is its deletion.")
        return self._shown(stored)

    def history(self, query: HistoryQuery) -> HistoryPage:
        """A page of history, each version judged by its own content. Raises NotFound for an id that never existed."""
        page = self._history(query)
        page.entries = [self._shown(stored) for stored in page.entries]
        return page

    def _history(self, query: HistoryQuery) -> HistoryPage:
        policy = self.context.policy
        store = self.server.store
        if query.type is not None:
            authorize.require(policy, (query.type,), "r" if query.id is not None else "s")
        if query.id is not None:
            assert query.type is not None
            if store.read(query.type, query.id) is None:
                raise NotFound(f"There is no {query.type} with this id.")
        if policy.everything:
            return store.history(query)
        page = HistoryPage()
        while True:
            found = store.history(replace(query, total=False))
            page.watermark = page.watermark or found.watermark
            for stored in found.entries:
                if self.visible(stored):
                    if len(page.entries) == query.count:
                        last = page.entries[-1]
                        page.next = (last.updated, last.type, last.id, last.version)
                        return page
                    page.entries.append(stored)
            if found.next is None:
                break
            query = replace(query, before=found.next, until=page.watermark)
        if query.id is not None and not page.entries and not self._any_visible(query):
            raise NotFound(f"There is no {query.type} with this id.")
        return page

    def _any_visible(self, query: HistoryQuery) -> bool:
        """Whether the caller may see any version of an instance: if none, it does not exist for them."""
        before = None
        while True:
            found = self.server.store.history(HistoryQuery(query.type, query.id, count=100, before=before))
            if any(self.visible(stored) for stored in found.entries):
                return True
            if found.next is None:
                return False
            before = found.next

    def search(self, search: ast.Search) -> SearchPage:
        """A page of what the policy shows."""
        policy = self.context.policy
        page = self._reader.search(authorize.narrow(search, policy))
        page.matches = [self._shown(stored) for stored in page.matches]
        page.includes = [self._shown(stored) for stored in page.includes]
        return page

    def explain(self, search: ast.Search) -> tuple[ast.Search, list[dict[str, Any]]]:
        """The narrowed search, and the store's plan for it."""
        narrowed = authorize.narrow(search, self.context.policy)
        return narrowed, self._reader.explain(narrowed)

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

    def visible(self, stored: Stored, reader: Reader | None = None) -> bool:
        """Whether the policy shows this version, by its own content; of a deletion, by the version before it."""
        policy = self.context.policy
        if policy.everything:
            return True
        if not policy.grants(stored.type, "r"):
            return False
        body = stored.body
        if body is None:
            before = self.server.store.read_version(stored.type, stored.id, stored.version - 1)
            body = before.body if before is not None else None
            if body is None:
                return False
        documents = self.server.extractor.documents(parse_body(body), stored.address)
        return self.permits(documents, reader, stored.updated)

    def permits(self, documents: Sequence[Document], reader: Reader | None = None, updated: int = 0) -> bool:
        """Whether the policy shows the resource with these documents; chains of its predicates ask `reader`."""
        policy = self.context.policy
        if policy.everything:
            return True
        return self.matches(authorize.permitted(policy, documents[0].type, "r"), documents, reader, updated)

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
        body = stored.body
        if body is None or not sealing.is_marked(body):
            return stored
        return sealing.shown(self.server.sealer, stored, getattr(self.context, "caller", None))

    def _show(self, result: Result) -> None:
        """The same for what was written; the hooks after the commit get the versions as they are stored."""
        version = result.version
        if version is None or version.body is None or not sealing.is_marked(version.body):
            return
        result.version = sealing.shown(self.server.sealer, version, getattr(self.context, "caller", None))
        if result.json is not None:
            assert result.version.body is not None
            result.json = inflate(result.version.body)

    def _committed(self, versions: Sequence[Version]) -> None:
        if versions:
            for hook in self.server.interceptors.after_commit:
                hook(versions)
