"""The drainer: moves events from queue and journals into chained AuditEvents, each exactly once, in bounded batches.

A batch is one transaction: the AuditEvents, the new head of the chain, and that their sources are done with (queue
records removed, the offset in the journal). It has a store connection of its own and gives way to requests.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from fhir_server import registries
from fhir_server.audit import chain, journal
from fhir_server.audit.chain import Head, Key
from fhir_server.audit.concerned import Patients
from fhir_server.audit.events import SERIOUS, Event
from fhir_server.audit.recorder import QUEUE, DurableRecorder
from fhir_server.audit.shapes import JSON, audit_events
from fhir_server.context import Server
from fhir_server.gzipped import deflate
from fhir_server.storage.protocol import Transaction
from fhir_server.storage.writes import Document, Version
from fhir_server.writing import Form, StaleRegistry

logger = logging.getLogger(__name__)

OFFSETS: Final = "audit/journal/"
"""Records of the store: name of a journal -> how much of it is in the chain."""
PROCESSES: Final = "audit/process/"
"""Records of the store: recorder -> host, pid and when it last said that it lives."""

BATCH: Final = 32
"""Events of a batch, from one source; a transaction's events stay together. Few: the embedded store has one writer."""
_CHANGES: Final = frozenset(("update", "patch"))
ANCHOR_S: Final = 60.0
ANCHOR_EVENTS: Final = 1000
ORPHANS_S: Final = 20.0
ALIVE_S: Final = 60.0
_BEAT_S: Final = 10.0
_LOOK_S: Final = 5.0
_MARGIN_US: Final = 300_000_000


class Stale(Exception):
    """Another drainer was faster, or a commit of ours came through after all: what is known is read anew."""


@dataclass(slots=True)
class Batch:
    """Events with what has to be noted about their source in the same transaction."""

    events: list[Event]
    queue: tuple[str, ...] = ()
    journal: str = ""
    begin: int = 0
    end: int = 0


class Drainer:
    """One chain, and what fills it. For one thread, with a Server of its own."""

    def __init__(
        self,
        server: Server,
        key: Key,
        directory: Path,
        recorder: DurableRecorder | None = None,
        *,
        pause: Callable[[float], None] = lambda taken: None,
    ) -> None:
        """`recorder`: that of this process, if it has one. `pause` is called with the seconds that some work took, and
        may sleep.
        """
        self.chain = secrets.token_hex(8)
        self._server, self._key, self._directory = server, key, directory
        self._recorder = recorder
        self._pause = pause
        self._patients = Patients(server)
        self._head = Head(0, chain.START, key.id)
        self._seen = 0
        self._look_until = 0.0
        self._next_orphans = self._next_beat = self._next_anchor = 0.0
        self._since_anchor = 0
        self.lag_s = 0.0
        """How old the first event was that was moved last."""

    # --- from the sources ---------------------------------------------------------------------------------------------

    def step(self, *, orphans: bool | None = None) -> int:
        """Drains what there is now, and anchors when it is time; returns how many events were moved.

        `orphans`: also what ended processes left; None: when it is time.
        """
        moved = 0
        self._server.refresh()
        self._beat()
        if orphans is None:
            orphans = time.monotonic() >= self._next_orphans
        try:
            for batch in self._batches(orphans):
                moved += self._commit(batch)
        except (Stale, StaleRegistry) as error:
            if isinstance(error, StaleRegistry):
                registries.load(self._server)
            self._reload()
            return moved + 1  # there is more to do, now
        if orphans:
            self._next_orphans = time.monotonic() + ORPHANS_S
        self._anchor_when_due()
        return moved

    def drain(self) -> int:
        """Drains until nothing is left, orphans included; anchors at the end."""
        moved = 0
        while (now := self.step(orphans=True)) > 0:
            moved += now
        self.anchor()
        return moved

    def _batches(self, orphans: bool) -> Iterator[Batch]:
        if self._recorder is not None:
            queued = self._recorder.queued
            if queued != self._seen:
                # What is counted may not be committed yet: it is looked for during a while.
                self._seen, self._look_until = queued, time.monotonic() + _LOOK_S
            if time.monotonic() < self._look_until:
                yield from self._queue(f"{QUEUE}{self._recorder.id}/")
            yield from self._journal(self._recorder.journal)
        if orphans:
            yield from self._orphans()

    def _queue(self, prefix: str) -> Iterator[Batch]:
        store = self._server.store
        batch = Batch([])
        for key, value in store.meta_items(prefix).items():
            batch.events += msgspec.convert(value, list[Event])
            batch.queue = (*batch.queue, key)
            if len(batch.events) >= BATCH:
                yield batch
                batch = Batch([])
        if batch.queue:
            yield batch

    def _journal(self, path: Path) -> Iterator[Batch]:
        name = path.name.removesuffix(journal.SUFFIX)
        offset = int(self._server.store.get_meta(OFFSETS + name) or 0) if path.stat().st_size else 0
        while path.stat().st_size > offset:
            chunk = journal.read(path, offset, BATCH)
            if chunk.end == offset:
                return
            if chunk.damaged:
                logger.error("%d bytes of the audit journal %s are damaged.", chunk.damaged, path.name)
                lost = {"damaged": f"{chunk.damaged} bytes of {path.name}"}
                at = self._server.clock()
                chunk.events.append(Event(at=at, kind="security", action="audit-damaged", outcome=SERIOUS, detail=lost))
            yield Batch(chunk.events, journal=name, begin=offset, end=chunk.end)
            offset = chunk.end

    def _orphans(self) -> Iterator[Batch]:
        """What is left of processes that have ended: journals of this machine, queues of any."""
        store = self._server.store
        own = self._recorder.journal if self._recorder is not None else None
        for path in journal.journals(self._directory):
            name = path.name.removesuffix(journal.SUFFIX)
            descriptor = journal.adopt(path) if path != own else None
            if descriptor is None:
                continue
            try:
                yield from self._journal(path)
                left = path.stat().st_size - int(store.get_meta(OFFSETS + name) or 0)
                if left:
                    logger.warning(
                        "The last %d bytes of %s are no whole entry, and were not answered.", left, path.name
                    )
                path.unlink()
                journal.sync_directory(self._directory)
            finally:
                os.close(descriptor)
            store.transact(lambda transaction, name=name: transaction.remove_meta([OFFSETS + name]))  # type: ignore[misc]
        mine = self._recorder.id if self._recorder is not None else ""
        processes = self._processes()
        alive = {one for one, said in processes.items() if not _has_ended(said)} - {mine}
        waiting = dict.fromkeys(key.split("/")[2] for key in store.meta_items(QUEUE))
        for one in waiting:
            if one not in alive:
                yield from self._queue(f"{QUEUE}{one}/")
        gone = [PROCESSES + one for one in processes if one not in alive and one not in waiting and one != mine]
        if gone:
            store.transact(lambda transaction: transaction.remove_meta(gone))

    def _processes(self) -> dict[str, Any]:
        return {key.removeprefix(PROCESSES): value for key, value in self._server.store.meta_items(PROCESSES).items()}

    def _beat(self) -> None:
        if self._recorder is None or time.monotonic() < self._next_beat:
            return
        self._server.store.put_meta(PROCESSES + self._recorder.id, {**self._recorder.process(), "at": time.time()})
        self._next_beat = time.monotonic() + _BEAT_S

    # --- into the chain -----------------------------------------------------------------------------------------------

    def _commit(self, batch: Batch) -> int:
        server, head = self._server, self._head
        if batch.events:
            self.lag_s = (server.clock() - batch.events[0].at) / 1e6
        prepared: list[tuple[str, Form, tuple[Document, ...]]] = []
        sequence, previous = head.sequence, head.hash
        for event in self._audit_events(batch.events):
            began = time.monotonic()
            sequence += 1
            resource, previous = chain.linked(event, self.chain, sequence, previous, self._key)
            id_ = resource["id"]
            documents = server.extractor.documents(resource, f"AuditEvent/{id_}")
            prepared.append((id_, Form(resource, id_), documents))
            self._pause(time.monotonic() - began)
        head_key = chain.HEADS + self.chain

        def work(transaction: Transaction) -> Head:
            if registries.version(transaction) != server.registry.version:
                raise StaleRegistry
            if (transaction.get_meta(head_key) or {"hash": chain.START})["hash"] != head.hash:
                raise Stale
            if batch.queue and transaction.remove_meta(batch.queue) != len(batch.queue):
                raise Stale
            if batch.journal:
                if int(transaction.get_meta(OFFSETS + batch.journal) or 0) != batch.begin:
                    raise Stale
                transaction.put_meta(OFFSETS + batch.journal, batch.end)
            now = transaction.now()
            if not prepared:
                return head
            transaction.append(
                [
                    Version(
                        "AuditEvent",
                        id_,
                        1,
                        now,
                        "POST",
                        deflate(form.fill(1, now)),
                        documents,
                        registry=server.registry.version,
                    )
                    for id_, form, documents in prepared
                ]
            )
            moved = Head(sequence, previous, self._key.id, now)
            transaction.put_meta(head_key, moved.as_json())
            return moved

        began = time.monotonic()
        self._head = server.store.transact(work)
        self._since_anchor += len(prepared)
        self._pause(time.monotonic() - began)
        return len(batch.events)

    def _audit_events(self, events: list[Event]) -> Iterator[JSON]:
        references = [one for event in events if event.kind == "rest" for one in _concerning(event)]
        patients = self._patients.of(references)
        base_url = self._server.settings.base_url
        for event in events:
            found = dict.fromkeys(one for reference in _concerning(event) for one in patients.get(reference, ()))
            if event.patient:
                found[event.patient] = None
            yield from audit_events(event, tuple(found), base_url)

    def _reload(self) -> None:
        """Learns the head and what is queued anew, after something went otherwise than expected."""
        record = self._server.store.get_meta(chain.HEADS + self.chain)
        self._head = Head.of(record) if record is not None else Head(0, chain.START, self._key.id)
        self._look_until = time.monotonic() + _LOOK_S

    # --- anchors ------------------------------------------------------------------------------------------------------

    def _anchor_when_due(self) -> None:
        if self._since_anchor and (time.monotonic() >= self._next_anchor or self._since_anchor >= ANCHOR_EVENTS):
            self.anchor()

    def anchor(self) -> JSON | None:
        """Ties the heads that moved since the last anchor to it, in the store and in the file; None if none moved."""
        store = self._server.store
        last = store.get_meta(chain.LAST_ANCHOR)
        before = last or self._newest_anchor()
        since = before["at"] - _MARGIN_US
        known = before["heads"]
        recent = {
            key.removeprefix(chain.HEADS): Head.of(record)
            for key, record in store.meta_items(chain.HEADS).items()
            if record["at"] >= since
        }
        heads = {one: head for one, head in recent.items() if known.get(one) != head.hash}
        self._since_anchor = 0
        self._next_anchor = time.monotonic() + ANCHOR_S
        if not heads:
            return None

        def work(transaction: Transaction) -> JSON:
            if transaction.get_meta(chain.LAST_ANCHOR) != last:
                raise Stale
            number, now = before["number"] + 1, transaction.now()
            made = chain.anchor(number, now, before["hash"], heads, self._key)
            transaction.put_meta(chain.anchor_key(number), made)
            hashes = {one: head.hash for one, head in recent.items()}
            newest = {"number": number, "at": now, "hash": made["hash"], "heads": hashes}
            transaction.put_meta(chain.LAST_ANCHOR, newest)
            return made

        try:
            made = store.transact(work)
        except Stale:
            return None  # somebody else has anchored just now
        self._write_anchor(made)
        return made

    def _newest_anchor(self) -> JSON:
        """The last anchor where nothing says which one that is: there is none, or the record was removed."""
        found: JSON = {"number": 0, "hash": chain.START}
        for _, record in chain.anchors(self._server.store):
            found = record
        return {**found, "at": 0, "heads": {}}

    def _write_anchor(self, made: JSON) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._directory / chain.ANCHORS_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(made) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Says that this process has ended."""
        if self._recorder is not None:
            with contextlib.suppress(Exception):
                gone = [PROCESSES + self._recorder.id]
                self._server.store.transact(lambda transaction: transaction.remove_meta(gone))


def _concerning(event: Event) -> tuple[str, ...]:
    """References to what an event showed, wrote and wrote over, or was refused."""
    if event.kind != "rest":
        return ()
    if event.seen and event.action in _CHANGES:
        # What is moved from one record to another leaves its trace in both.
        return (*event.seen, *(before for one in event.seen if (before := _before(one))))
    return event.seen or ((event.target,) if "/" in event.target else ())


def _before(version: str) -> str:
    """The version before one (``Type/id/_history/n``); "" when it is the first."""
    address, _, number = version.rpartition("/")
    return f"{address}/{int(number) - 1}" if number.isdigit() and int(number) > 1 else ""


def _has_ended(said: Any) -> bool:
    """Whether a process has ended, or has not been heard of for long."""
    if not isinstance(said, dict) or time.time() - said.get("at", 0) > ALIVE_S:
        return True
    if said.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(said["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
