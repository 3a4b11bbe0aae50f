"""Writes on their way into a store: prepared before the transaction opens, resolved and versioned inside it.

R4 http.html#create, #update, #patch, #delete, #ccreate, #cond-update, #trules. A single write and a transaction are
the same thing here. `Plan.run` is the store's callback: it may run several times, so it changes nothing but what it
returns.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from fhir_server import appendonly, authorize, labels, owned, registries, sealing
from fhir_server.conditions import check_if_match, check_if_none_match
from fhir_server.errors import (
    BadRequest,
    Conflict,
    FhirError,
    Forbidden,
    Gone,
    Issue,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    TooLarge,
    Unprocessable,
)
from fhir_server.gzipped import deflate, inflate
from fhir_server.resources import jsonformat
from fhir_server.resources.references import literal_targets
from fhir_server.resources.types import TYPE_SET
from fhir_server.search import ast
from fhir_server.storage.protocol import Transaction
from fhir_server.storage.writes import MAX_STORED, Document, Stored, Version
from fhir_server.wire import instant

if TYPE_CHECKING:
    from fhir_server.linking import Links
    from fhir_server.repository import Repository

_VERSION_MARK: Final = secrets.token_hex(12)
_UPDATED_MARK: Final = secrets.token_hex(12)
_VERSION_BYTES: Final = _VERSION_MARK.encode()
_UPDATED_BYTES: Final = _UPDATED_MARK.encode()
_MARK_LENGTH: Final = len(_VERSION_BYTES)


@dataclass(frozen=True, slots=True)
class Criteria:
    """Resolved and narrowed criteria of a conditional interaction; `key` is their normalized text, the name of their
    lock.
    """

    type: str
    search: ast.Search
    key: str


@dataclass(slots=True)
class Write:
    """One create, update, patch or delete. `if_match` and `if_none_match` are version ids, ("*",) for any.

    `criteria`: of a conditional write; for a create those of If-None-Exist. `patch` makes the new resource of the
    current one and depends on nothing else. `many`: how many resources a conditional delete may meet. `label` is
    ``Bundle.entry[3]`` in a Bundle, else "". `full_url` is that entry's, by which other entries refer to it.
    `resource` belongs to the Write: in a transaction its links are rewritten in place. `new_id`: the id made for it,
    if one was. `relabels`: taking labels away is what this write is for.
    """

    action: Literal["create", "update", "patch", "delete"]
    type: str
    id: str | None = None
    resource: dict[str, Any] | None = None
    criteria: Criteria | None = None
    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None
    patch: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    many: int = 1
    label: str = ""
    full_url: str = ""
    new_id: str = ""
    relabels: bool = False


@dataclass(slots=True)
class Result:
    """What became of one Write. `found` is a create whose criteria met an existing resource; `nothing` a delete of
    nothing.

    `json` is the resource as it was stored, where this write stored one; else `version.body` has it, if anything.
    """

    outcome: Literal["created", "updated", "deleted", "found", "nothing"]
    version: Version | Stored | None = None
    json: bytes | None = None
    issues: list[Issue] = field(default_factory=list)


class StaleRegistry(Exception):
    """The registry changed since the entries were extracted; everything is prepared again."""


class AlreadyDone(Exception):
    """The ledger says that this Bundle, or this entry of it, was executed before."""


METHODS: Final = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
LETTERS: Final[Mapping[str, authorize.Action]] = {"create": "c", "update": "u", "patch": "u", "delete": "d"}
"""What a policy calls each action."""
ORDER: Final = {"delete": 0, "create": 1, "update": 2, "patch": 2}
"""R4 http.html#trules: DELETE, POST, PUT and PATCH, then GET."""

_TWICE: Final = "Two entries of the transaction write the same resource."

_TERMINOLOGY: Final = frozenset(("CodeSystem", "ValueSet", "ConceptMap", "NamingSystem"))


# --- JSON with places for version and time ----------------------------------------------------------------------------


class Form:
    """A resource's JSON with places for version and time, so that filling them in needs no second encoding."""

    __slots__ = ("head", "middle", "tail", "time_first")

    def __init__(self, resource: Mapping[str, Any], id: str) -> None:
        data = jsonformat.encode(with_server_values(resource, id, _VERSION_MARK, _UPDATED_MARK))
        at_version, at_time = data.index(_VERSION_BYTES), data.index(_UPDATED_BYTES)
        self.time_first = at_time < at_version
        first, second = (at_time, at_version) if self.time_first else (at_version, at_time)
        self.head = data[:first]
        self.middle = data[first + _MARK_LENGTH : second]
        self.tail = data[second + _MARK_LENGTH :]

    def holds(self, data: bytes) -> bool:
        """Whether these bytes are somewhere in the JSON."""
        return data in self.head or data in self.middle or data in self.tail

    def fill(self, version: int, updated: int) -> bytes:
        """The JSON of that version."""
        number, time = str(version).encode(), instant(updated).encode()
        if self.time_first:
            number, time = time, number
        return b"".join((self.head, number, self.middle, time, self.tail))


def with_server_values(resource: Mapping[str, Any], id: str, version: str, updated: str) -> dict[str, Any]:
    """The resource with the server's id, meta.versionId and meta.lastUpdated; member order kept. R4
    http.html#update.
    """
    meta = resource.get("meta")
    new_meta: dict[str, Any] = {}
    if not meta or "versionId" not in meta:
        new_meta["versionId"] = version
    if not meta or "lastUpdated" not in meta:
        new_meta["lastUpdated"] = updated
    for name, value in (meta or {}).items():
        if name == "versionId":
            new_meta[name] = version
        elif name == "lastUpdated":
            new_meta[name] = updated
        elif name not in ("_versionId", "_lastUpdated"):
            new_meta[name] = value
    if "id" in resource and "meta" in resource:
        return {**resource, "id": id, "meta": new_meta}
    result: dict[str, Any] = {}
    if "id" not in resource:
        result["resourceType"] = resource["resourceType"]
        result["id"] = id
        if "meta" not in resource:
            result["meta"] = new_meta
    for name, value in resource.items():
        if name == "id":
            result["id"] = id
            if "meta" not in resource:
                result["meta"] = new_meta
        elif name == "meta":
            result["meta"] = new_meta
        else:
            result[name] = value
    return result


def parse_body(body: bytes) -> dict[str, Any]:
    """The resource in a stored gzip member."""
    return jsonformat.parse(inflate(body))


# --- errors -----------------------------------------------------------------------------------------------------------


def relabel(error: FhirError, label: str) -> FhirError:
    """The same error, its issues naming the Bundle entry at fault."""
    if not label or any(path.startswith("Bundle.entry[") for issue in error.issues for path in issue.expression):
        return error
    return type(error)(str(error), issues=[issue.at(label) for issue in error.issues], headers=error.headers)


# --- the plan ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Prepared:
    """A Write with what could be made before the transaction. `fresh`: its id was made here, so nothing can be
    stored there.
    """

    write: Write
    id: str | None
    fresh: bool = False
    resource: dict[str, Any] | None = None
    documents: tuple[Document, ...] | None = None
    claims: tuple[str, ...] = ()
    form: Form | None = None
    sealed: bool = False
    issues: list[Issue] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{self.write.type}/{self.id}"


@dataclass(slots=True)
class Target:
    """What a write turned out to address, inside the transaction: per write one, for a conditional delete several.

    `current`: as stored, if known already. `alias`: the earlier write of the same transaction that creates the same
    thing.
    """

    id: str
    current: Stored | None = None
    known: bool = False
    found: bool = False
    alias: int | None = None


class Plan:
    """Everything about some writes that does not depend on stored state, and the callback that does the rest."""

    def __init__(self, repository: Repository, writes: Sequence[Write], links: Links | None) -> None:
        self.repository = repository
        self.server = repository.server
        self.registry = self.server.registry
        self.policy = repository.context.policy
        self.links = links
        self.writes = writes
        self.order = sorted(range(len(writes)), key=lambda index: ORDER[writes[index].action])
        self.changes_registry = any(write.type == "SearchParameter" for write in writes)
        self.changes_terminology = any(write.type in _TERMINOLOGY for write in writes)
        self.locks = sorted({write.criteria.key for write in writes if write.criteria is not None})
        self.prepared = [self._identify(write) for write in writes]
        if links is not None:
            links.expect({one.write.full_url: one.address for one in self.prepared if one.write.full_url and one.id})
        issues: list[Issue] = []
        failure: FhirError | None = None
        for one in self.prepared:
            try:
                if one.write.action in ("patch", "delete"):
                    appendonly.refuse_change(one.write.type)
                authorize.require(self.policy, (one.write.type,), LETTERS[one.write.action])
                self._prepare(one)
            except FhirError as error:
                # All findings of a transaction at once.
                labelled = relabel(error, one.write.label)
                issues.extend(labelled.issues)
                failure = failure if failure is not None and failure.status == 400 else labelled
        if failure is not None:
            raise type(failure)(str(failure), issues=issues, headers=failure.headers)

    def _identify(self, write: Write) -> Prepared:
        """Gives a new id to what is created, and provisionally to what a condition may find."""
        if write.action == "create" or (write.criteria is not None and write.action == "update"):
            if write.action == "update" and write.id is not None:
                return Prepared(write, write.id)
            if not write.new_id:
                write.new_id = self.server.new_id()
            return Prepared(write, write.new_id, fresh=True)
        return Prepared(write, write.id)

    def _prepare(self, one: Prepared) -> None:
        write = one.write
        if write.action in ("patch", "delete"):
            return
        if not isinstance(write.resource, dict):
            raise BadRequest("A resource is a JSON object.", code="structure")
        resource = write.resource
        late = False
        one.issues = self.repository.validate(resource, write.type, self.links.urls if self.links else ())
        if self.links is not None:
            late = self.links.prepare(write)
        if write.type == "SearchParameter":
            registries.check(resource)
        if write.type in appendonly.TYPES:
            appendonly.check_new(resource, one.id or "")
        if not late:
            self._derive(one, resource, early=True)

    def _derive(
        self, one: Prepared, resource: dict[str, Any], stored: Stored | None = None, *, early: bool = False
    ) -> None:
        """Entries, claims and JSON of a resource whose address and references are known, numbers sealed.

        `early`: `stored` is not known yet. An update with a masked number, which depends on it, is left for later.
        """
        assert one.id is not None
        kept, form = resource, Form(resource, one.id)
        sealer = self.server.sealer
        if sealer is not None and sealer.concerns(form.holds):
            masked = sealer.has_masked(resource)
            if masked and early and one.write.action == "update":
                return
            kept = sealer.seal(resource, lambda: stored.body if stored is not None else None)
            if kept is not resource:
                one.sealed, form = True, Form(kept, one.id)
            if masked:
                resource = sealer.open_resource(kept)
        one.resource = resource
        one.documents = self.server.extractor.documents(kept, one.address)
        one.claims = self.server.interceptors.claims(one.write.type, kept)
        one.form = form

    # --- inside the transaction ---------------------------------------------------------------------------------------

    def run(
        self, tx: Transaction, inside: Callable[[Repository], Any] | None, ledger_key: str | None
    ) -> tuple[list[Result], list[Version], Any]:
        """Resolves, checks and appends. Raises StaleRegistry, AlreadyDone, and every FhirError that a write may
        meet.
        """
        if registries.version(tx) != self.registry.version:
            raise StaleRegistry
        if ledger_key is not None and tx.get_meta(ledger_key) is not None:
            raise AlreadyDone
        for key in self.locks:
            tx.lock(key)
        if len(self.writes) == 1:
            targets = [self._target(0, tx, frozenset())]
        else:
            targets = self._targets(tx)
        mapping = self._mapping(targets)
        conditional = self._conditional_references(tx, targets, mapping) if self.links is not None else {}
        current = self._current(tx, targets, mapping, conditional)
        results, versions = self._versions(tx, targets, current, mapping, conditional)
        if versions:
            tx.append(versions)
            if self.changes_registry:
                registries.record(tx, versions, current)
            if self.changes_terminology:
                registries.bump(tx, terminology=True)
        if self.server.recorder is not None:
            unchanged = [
                (write, result)
                for write, result in zip(self.writes, results, strict=True)
                if result.outcome in ("found", "nothing")
            ]
            self.server.recorder.wrote(tx, self.repository.context, versions, unchanged)
        value = None
        if inside is not None:
            from fhir_server.repository import Repository

            value = inside(Repository(self.server, self.repository.context, tx))
        if ledger_key is not None:
            tx.put_meta(ledger_key, True)
        return results, versions, value

    def _target(self, index: int, tx: Transaction, deleted: frozenset[str]) -> list[Target]:
        """What write `index` addresses. `deleted`: what the same transaction deletes first."""
        one = self.prepared[index]
        write = one.write
        if write.criteria is None:
            assert one.id is not None
            return [Target(one.id, known=one.fresh)]
        search = write.criteria.search
        room = (write.many if write.action == "delete" else 1) + len(deleted) + 1
        page = tx.search(replace(search, count=room))
        matches = [match for match in page.matches if match.address not in deleted]
        if write.action == "delete":
            if len(matches) > write.many:
                raise _refuse(
                    PreconditionFailed(
                        f"The criteria match more than {write.many} resources; nothing was deleted.",
                        code="multiple-matches",
                    ),
                    write,
                )
            return [Target(match.id, match, known=True) for match in matches]
        if len(matches) > 1:
            raise _refuse(PreconditionFailed("The criteria match several resources.", code="multiple-matches"), write)
        if matches:
            match = matches[0]
            if write.action == "update" and write.id is not None and write.id != match.id:
                raise _refuse(
                    BadRequest("The id in the body is not that of the resource that the criteria match.", code="value"),
                    write,
                )
            return [Target(match.id, match, known=True, found=write.action == "create")]
        if write.action == "patch":
            raise _refuse(NotFound("The criteria match no resource."), write)
        assert one.id is not None
        return [Target(one.id, known=one.fresh)]

    def _targets(self, tx: Transaction) -> list[list[Target]]:
        """Targets of all writes of a transaction, deletes first; nothing may be addressed twice. R4
        http.html#trules.
        """
        targets: list[list[Target]] = [[] for _ in self.writes]
        taken: set[str] = set()
        deleted: frozenset[str] | None = None
        creating: dict[str, int] = {}
        changing: set[str] = set()
        for index in self.order:
            write = self.writes[index]
            if write.action != "delete" and deleted is None:
                deleted = frozenset(taken)
            found = self._target(index, tx, deleted or frozenset())
            if write.action == "create" and write.criteria is not None and not found[0].found:
                found = [self._among_created(index, found[0], creating, tx)]
            elif write.criteria is not None and write.action in ("update", "patch"):
                if write.criteria.key in changing or self._meets_created(write, tx):
                    raise _refuse(BadRequest(_TWICE, code="conflict"), write)
                changing.add(write.criteria.key)
            targets[index] = found
            for target in found:
                if target.found or target.alias is not None:
                    continue
                address = f"{write.type}/{target.id}"
                if address in taken:
                    raise _refuse(BadRequest(_TWICE, code="conflict"), write)
                taken.add(address)
        return targets

    def _among_created(self, index: int, target: Target, creating: dict[str, int], tx: Transaction) -> Target:
        """The same conditional create twice in one transaction creates once; two different ones cannot be told
        apart.
        """
        write = self.writes[index]
        assert write.criteria is not None
        for other_index, other in enumerate(self.prepared):
            if (
                other.write.action == "create"
                and other.write.criteria is None
                and self._meets(write.criteria, other, tx)
            ):
                return Target(other.id or "", alias=other_index)
        first = creating.setdefault(write.criteria.key, index)
        if first == index:
            return target
        if self.writes[first].resource != write.resource:
            raise _refuse(PreconditionFailed("Two different entries are to be created under the same criteria."), write)
        return Target(self.prepared[first].id or "", alias=first)

    def _meets_created(self, write: Write, tx: Transaction) -> bool:
        assert write.criteria is not None
        return any(
            other.write.action == "create" and other.write is not write and self._meets(write.criteria, other, tx)
            for other in self.prepared
        )

    def _meets(self, criteria: Criteria, other: Prepared, tx: Transaction) -> bool:
        """Whether criteria match a resource of this very transaction, decided in memory."""
        if other.write.type != criteria.type or other.resource is None or other.documents is None:
            return False
        return self.repository.matches(criteria.search.select, other.documents, tx)

    def _mapping(self, targets: list[list[Target]]) -> dict[str, str]:
        """fullUrl -> address of what it turned out to be, where that is not what was expected."""
        changed: dict[str, str] = {}
        for one, found in zip(self.prepared, targets, strict=True):
            if one.write.full_url and found and one.write.action != "delete" and found[0].id != one.id:
                changed[one.write.full_url] = f"{one.write.type}/{found[0].id}"
        return changed

    def _conditional_references(
        self, tx: Transaction, targets: list[list[Target]], mapping: Mapping[str, str]
    ) -> dict[str, str]:
        """Search references -> addresses. They see the state after all writes, those of this transaction included."""
        assert self.links is not None
        found: dict[str, str] = {}
        written: dict[str, Prepared] = {}
        touched: set[str] = set()
        if self.links.conditional:
            for one, own in zip(self.prepared, targets, strict=True):
                for target in own:
                    if not target.found and target.alias is None:
                        touched.add(f"{one.write.type}/{target.id}")
                        if one.write.resource is not None:
                            written[f"{one.write.type}/{target.id}"] = one
        for text, (criteria, write) in self.links.conditional.items():
            page = tx.search(replace(criteria.search, count=2 + len(touched)))
            addresses = {match.address for match in page.matches if match.address not in touched}
            for address, one in written.items():
                if one.write.type != criteria.type:
                    continue
                documents = one.documents or self._unfinished(tx, one.write.resource or {}, address)
                if self.repository.matches(criteria.search.select, documents, tx):
                    addresses.add(address)
            if len(addresses) != 1:
                number = "no resource" if not addresses else "several resources"
                raise _refuse(
                    PreconditionFailed(
                        f"A conditional reference to {criteria.type} matches {number}.",
                        code="not-found" if not addresses else "multiple-matches",
                    ),
                    write,
                )
            found[text] = addresses.pop()
        return found

    def _unfinished(self, tx: Transaction, resource: dict[str, Any], address: str) -> tuple[Document, ...]:
        """The documents of a resource whose own references are still to be resolved."""

        def current() -> bytes | None:
            stored = tx.read(*address.split("/"))
            return stored.body if stored is not None else None

        if self.server.sealer is not None:
            resource = self.server.sealer.seal(resource, current)
        return self.server.extractor.documents(resource, address)

    def _current(
        self,
        tx: Transaction,
        targets: list[list[Target]],
        mapping: Mapping[str, str],
        conditional: Mapping[str, str],
    ) -> dict[str, Stored]:
        """What is stored at every address that is written, in one command; under integrity also what is referred to."""
        wanted: dict[str, None] = {}
        present: dict[str, Stored] = {}
        written: set[str] = set()
        for one, own in zip(self.prepared, targets, strict=True):
            for target in own:
                address = f"{one.write.type}/{target.id}"
                if target.current is not None:
                    present[address] = target.current
                elif not target.known and target.alias is None:
                    wanted[address] = None
                if one.write.action != "delete":
                    written.add(address)
        if wanted:
            present.update(tx.read_many(list(wanted)))
        return present

    def _versions(
        self,
        tx: Transaction,
        targets: list[list[Target]],
        current: Mapping[str, Stored],
        mapping: Mapping[str, str],
        conditional: Mapping[str, str],
    ) -> tuple[list[Result], list[Version]]:
        results: list[Result | None] = [None] * len(self.writes)
        versions: list[Version] = []
        now = tx.now()
        removed: list[str] = []
        texts: list[tuple[Write, dict[str, Any], str]] = []
        for index in self.order:
            write = self.writes[index]
            try:
                if write.action == "delete":
                    results[index] = self._delete(tx, index, targets[index], current, now, versions, removed)
                else:
                    results[index] = self._write(
                        tx, index, targets[index][0], current, now, versions, mapping, conditional, texts
                    )
            except FhirError as error:
                raise relabel(error, write.label) from None
        for index, own in enumerate(targets):
            if own and own[0].alias is not None:
                original = results[own[0].alias]
                assert original is not None
                results[index] = Result("found", original.version, original.json)
        if self.server.settings.integrity:
            self._check_integrity(tx, texts, removed, versions)
        return [result for result in results if result is not None], versions

    def _delete(
        self,
        tx: Transaction,
        index: int,
        targets: list[Target],
        current: Mapping[str, Stored],
        now: int,
        versions: list[Version],
        removed: list[str],
    ) -> Result:
        """Appends deletions; what is deleted already, or never was, stays as it is. R4 http.html#delete."""
        write = self.writes[index]
        result = Result("nothing")
        if not targets:
            check_if_match(write.if_match, None)
        for target in targets:
            address = f"{write.type}/{target.id}"
            stored = current.get(address)
            if stored is None:
                self._pretend(tx, write)
            elif not self._may_change(tx, write, stored):
                stored = None
            check_if_match(write.if_match, stored)
            if stored is None:
                continue
            if stored.body is None:
                result.version = stored
                continue
            self._intercept(tx, address, None, stored)
            version = Version(
                write.type,
                target.id,
                stored.version + 1,
                _after(now, stored.updated),
                "DELETE",
                None,
                registry=self.registry.version,
            )
            versions.append(version)
            removed.append(address)
            result = Result("deleted", version)
        return result

    def _write(
        self,
        tx: Transaction,
        index: int,
        target: Target,
        current: Mapping[str, Stored],
        now: int,
        versions: list[Version],
        mapping: Mapping[str, str],
        conditional: Mapping[str, str],
        texts: list[tuple[Write, dict[str, Any], str]],
    ) -> Result | None:
        write, prepared = self.writes[index], self.prepared[index]
        if target.alias is not None:
            return None
        address = f"{write.type}/{target.id}"
        stored = current.get(address)
        if target.found:
            return Result("found", stored)
        fresh = target.id == prepared.id and prepared.fresh
        if not self.policy.everything:
            self._authorize(tx, write, stored, fresh)
        if stored is not None:
            appendonly.refuse_change(write.type)
        check_if_match(write.if_match, stored)
        check_if_none_match(write.if_none_match, stored)
        one = prepared
        if write.action == "patch":
            one = self._patched(prepared, target, stored, mapping)
        elif write.action == "update" and stored is None and not self.server.settings.update_create:
            raise MethodNotAllowed("Clients may not choose ids.", headers={"Allow": "GET, HEAD"})
        elif one.form is None or target.id != one.id or (self.links is not None and self.links.depends(write, mapping)):
            one = Prepared(write, target.id, issues=prepared.issues)
            resource = write.resource or {}
            if self.links is not None:
                resource = self.links.resolved(write, mapping, conditional)
            self._derive(one, resource, stored)
        if self.server.interceptors.before_commit:
            changed = self._intercept(tx, address, one.resource, stored)
            if changed is not None and changed is not one.resource:
                one = Prepared(write, target.id, issues=one.issues)
                self._derive(one, changed, stored)
        assert one.documents is not None
        assert one.form is not None
        if not self.policy.everything:
            self._authorize_content(tx, one, stored, fresh, now)
        number = 1 if stored is None else stored.version + 1
        updated = now if stored is None else _after(now, stored.updated)
        data = one.form.fill(number, updated)
        body = sealing.mark(deflate(data)) if one.sealed else deflate(data)
        if len(body) > MAX_STORED:
            raise TooLarge(f"A resource may have at most {MAX_STORED:,} bytes when compressed.")
        version = Version(
            write.type,
            target.id,
            number,
            updated,
            METHODS[write.action],
            body,
            one.documents,
            one.claims,
            self.registry.version,
        )
        versions.append(version)
        if self.server.settings.integrity and one.resource is not None:
            texts.append((write, one.resource, address))
        created = stored is None or stored.body is None
        return Result("created" if created else "updated", version, data, one.issues)

    def _patched(self, one: Prepared, target: Target, stored: Stored | None, mapping: Mapping[str, str]) -> Prepared:
        """The current resource with the patch applied, validated like an update with that content. R4
        http.html#patch.
        """
        write = one.write
        if stored is None:
            raise NotFound(f"There is no {write.type} with this id.")
        if stored.body is None:
            raise Gone(f"The {write.type} has been deleted.")
        assert write.patch is not None
        current = parse_body(stored.body)
        if sealing.is_marked(stored.body):
            # The patch sees what the caller sees, so that no expression in it can feel for a masked number.
            caller = self.repository.context.caller
            current = sealing.shown_resource(self.server.sealer, current, stored.address, caller)
        resource = write.patch(current)
        if (
            not isinstance(resource, dict)
            or resource.get("resourceType") != write.type
            or resource.get("id") != target.id
        ):
            raise BadRequest("A patch may not change the type or the id.", code="value")
        patched = Prepared(write, target.id)
        patched.issues = self.repository.validate(resource, write.type, self.links.urls if self.links else ())
        if self.links is not None:
            self.links.rewrite(resource, mapping)
        if write.type == "SearchParameter":
            registries.check(resource)
        self._derive(patched, resource, stored)
        return patched

    def _intercept(
        self, tx: Transaction, address: str, resource: dict[str, Any] | None, stored: Stored | None
    ) -> dict[str, Any] | None:
        hooks = self.server.interceptors.before_commit
        if not hooks:
            return resource
        before = parse_body(stored.body) if stored is not None and stored.body is not None else None
        if before is not None and self.server.sealer is not None:
            before = self.server.sealer.open_resource(before)
        for hook in hooks:
            resource = hook(tx, address, resource, before)
        return resource

    # --- what the policy says of a write ------------------------------------------------------------------------------

    def _may_change(self, tx: Transaction, write: Write, stored: Stored) -> bool:
        """Whether the policy permits the write on what is stored; False where it does not even show it.

        Raises: Forbidden for what the caller can read or find, and not change.
        """
        if self.repository.visible(stored, LETTERS[write.action], reader=tx):
            return True
        if self.repository.visible(stored, "r", "s", reader=tx):
            raise Forbidden(f"This {write.type} may not be changed.")
        return False

    def _pretend(self, tx: Transaction, write: Write) -> None:
        """What `_may_change` does, for what is not stored."""
        self.repository.pretend(write.type, (LETTERS[write.action],), ("r", "s"), reader=tx)

    def _authorize(self, tx: Transaction, write: Write, stored: Stored | None, fresh: bool) -> None:
        """What can be said before the new content is known. `fresh`: the id was made here, so this is a create.

        Raises: Forbidden; NotFound for what is not stored and for what is not shown, alike.
        """
        if fresh:
            authorize.require(self.policy, (write.type,), "c")
            return
        if stored is None:
            # A client that chooses an id learns whether it is taken; only those may who may write any resource of
            # the type.
            allowed = self.policy.unrestricted(write.type, "c") and self.policy.unrestricted(write.type, "u")
            if write.action == "update" and allowed:
                return
            self._pretend(tx, write)
        elif self._may_change(tx, write, stored):
            return
        raise NotFound(f"There is no {write.type} with this id.")

    def _authorize_content(
        self, tx: Transaction, one: Prepared, stored: Stored | None, fresh: bool, updated: int
    ) -> None:
        """The new content is within the policy as well: nothing is moved out of it, or into it. Raises Forbidden."""
        documents, kind = one.documents or (), one.write.type
        actions: list[authorize.Action] = ["c" if fresh else "u"]
        if not fresh and (stored is None or stored.body is None):
            actions.append("c")
        refused = Forbidden("The resource would be outside what is granted.")
        old = None if stored is None or stored.body is None else parse_body(stored.body)
        for alone in (documents, *self._each_subject(documents, old)):
            if not all(self.repository.permits(alone, action, reader=tx, updated=updated) for action in actions):
                raise refused
        free = one.write.relabels or self.policy.unrestricted(kind, "u")
        if old is not None and not free and not labels.kept(old, one.resource or {}):
            raise Forbidden(
                "Labels that restrict who sees a resource are taken away by $meta-delete alone.",
                expression="meta.security",
            )
        bases = self.server.extractor.settings.base_urls
        if kind == "Binary" and not all(self.policy.unrestricted(kind, action) for action in actions):
            owner = owned.owner(one.resource or {}, bases)
            if not owner or not self._shown_or_written(tx, {owner}):
                raise Forbidden("Content needs a securityContext that is granted.", expression="Binary.securityContext")
        if not self.policy.unrestricted("Binary", "r"):
            pointers = owned.pointed_at(documents)
            if pointers and stored is not None and stored.body is not None:
                before = self.server.extractor.documents(parse_body(stored.body), stored.address)
                pointers -= owned.pointed_at(before)
            if pointers and not self._shown_or_written(tx, pointers):
                # To point at content is to see it.
                raise Forbidden("The resource points at content that is not granted.")

    def _each_subject(
        self, documents: Sequence[Document], old: dict[str, Any] | None
    ) -> Iterator[tuple[Document, ...]]:
        """The resource as if it were about one patient alone, for each whom it is newly about; nothing when that is one
        in all. What is about somebody as well is in that person's record, and may give others access to it.
        """
        numbers = frozenset(self.policy.subjects(documents[0].type))
        about = _patients(documents[0], numbers)
        if len(about) < 2:
            return
        if old is not None:
            about -= _patients(self.server.extractor.documents(old, documents[0].address)[0], numbers)
        for address in sorted(about):
            keys = [entry for entry in documents[0].keys if entry[0] not in numbers or entry[1] == address]
            yield replace(documents[0], keys=keys), *documents[1:]

    def _shown_or_written(self, tx: Transaction, addresses: set[str]) -> bool:
        """Whether the caller sees all of these, or writes them in this very transaction (which is judged as a
        whole).
        """
        written = {one.address for one in self.prepared if one.write.action == "create"}
        missing = addresses - written
        return not missing or missing == self.repository.seen(missing, tx)

    def _check_integrity(
        self,
        tx: Transaction,
        texts: list[tuple[Write, dict[str, Any], str]],
        removed: list[str],
        versions: list[Version],
    ) -> None:
        """HESTIA_INTEGRITY: literal references lead somewhere (422), and nothing that is referred to disappears
        (409).
        """
        alive = {version.address for version in versions if version.body is not None}
        gone = set(removed)
        wanted: dict[str, list[tuple[Write, str]]] = {}
        for write, resource, _ in texts:
            for reference, path in literal_targets(resource, self.server.extractor.settings.base_urls):
                if reference not in alive and reference.partition("/")[0] in TYPE_SET:
                    wanted.setdefault(reference, []).append((write, path))
        present = tx.read_many(list(wanted)) if wanted else {}
        if present and not self.policy.everything:
            # What is not shown does not exist: else a reference would ask for it.
            seen = self.repository.seen(present, tx)
            present = {address: stored for address, stored in present.items() if address in seen}
        issues: list[Issue] = []
        for reference, places in wanted.items():
            target = present.get(reference)
            if reference in gone or target is None or target.body is None:
                for write, path in places:
                    issue = Issue(
                        "error", "not-found", "The reference leads to a resource that does not exist.", (path,)
                    )
                    issues.append(issue.at(write.label) if write.label else issue)
        if issues:
            raise Unprocessable("A reference leads nowhere.", issues=issues)
        if gone:
            written = alive | gone
            params = registries.reference_params(self.registry)
            test = ast.Compare("key", "in", tuple(sorted(gone)))
            search = ast.Search(ast.Select(None, ast.Exists(params, "key", test)), count=len(written) + 1)
            if any(match.address not in written for match in tx.search(search).matches):
                raise Conflict("The resource is referred to by others, and this server keeps references whole.")


def _patients(document: Document, numbers: frozenset[int]) -> set[str]:
    return {key for number, key in document.keys if number in numbers and key.startswith("Patient/")}


def _refuse(error: FhirError, write: Write) -> FhirError:
    return relabel(error, write.label)


def _after(now: int, before: int) -> int:
    """A time after the predecessor's; a multiple of a millisecond."""
    return now if now > before else before - before % 1000 + 1000
