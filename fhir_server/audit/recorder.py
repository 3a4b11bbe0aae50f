"""Where events go at first: with a write into its transaction, everything else into the journal of the process.

Both are drained into the chain later (drain.py). What was answered is in one of the two by then.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from fhir_server.audit.events import Event
from fhir_server.audit.journal import Journal
from fhir_server.audit.repeats import Repeats
from fhir_server.audit.requests import written
from fhir_server.context import RequestContext
from fhir_server.errors import Busy
from fhir_server.storage.protocol import Transaction
from fhir_server.storage.writes import Version

QUEUE: Final = "audit/queue/"
"""Records of the store, ``audit/queue/<recorder>/<number>``: the events of one transaction."""

FLUSH_S: Final = 0.05

Sync = Literal["interval", "always"]


class DurableRecorder:
    """See fhir_server.interceptors.Recorder. One per process; `record` may be called by any thread."""

    def __init__(self, directory: Path, *, sync: Sync = "interval", source_of: Callable[[str], str] = str) -> None:
        """`sync`: "always" makes every answer wait until its event would survive a power cut; "interval" makes that so
        within a tenth of a second. `source_of`: see Repeats.
        """
        self.id = secrets.token_hex(8)
        self.queued = 0
        self._always = sync == "always"
        self._journal = Journal(directory, self.id)
        self._repeats = Repeats(source_of)
        self._lock = threading.Lock()
        self._dirty = threading.Event()
        self._closed = False
        self._flusher: threading.Thread | None = None
        if not self._always:
            self._flusher = threading.Thread(target=self._flush, name="audit-flush", daemon=True)
            self._flusher.start()

    @property
    def journal(self) -> Path:
        """The file that is written now."""
        return self._journal.path

    def record(self, events: Sequence[Event]) -> None:
        """Appends events to the journal; they survive the end of this process. Raises Busy (503)."""
        with self._lock:
            self._append(events)

    def _append(self, events: Sequence[Event]) -> None:
        self._journal.append(events)
        if self._always:
            self._journal.sync()
        elif not self._dirty.is_set():
            self._dirty.set()

    def tally(self, event: Event) -> None:
        """Records the first event of its kind and counts the next ones (repeats.py). Raises Busy (503)."""
        with self._lock:
            self._settle(event.at)
            if not self._repeats.repeated(event):
                self._append((event,))
                self._repeats.begin(event)

    def settle(self, now: int | None = None) -> None:
        """Records what was counted until its minute was over at `now` (microseconds since 1970); None: everything.
        Called now and then by the drainer, so that a count does not wait for the next of its kind. Raises Busy.
        """
        with self._lock:
            self._settle(now)

    def _settle(self, now: int | None) -> None:
        repeats = self._repeats
        if self._closed or not repeats.due(now):
            return
        over = repeats.over(now)
        events = [one for one in map(repeats.summary, over) if one is not None]
        if events:
            self._append(events)
        repeats.end(over)

    def wrote(
        self, transaction: Transaction, context: RequestContext, versions: Sequence[Version], others: Sequence[Any]
    ) -> None:
        """Queues what a write did inside its own transaction: one record, whatever the number of entries.

        `others`: (Write, Result) of what changed nothing.
        """
        events = written(context, transaction.now(), versions, others)
        if events:
            self.queued += 1
            transaction.put_meta(f"{QUEUE}{self.id}/{self.queued:012d}", msgspec.to_builtins(events))

    def process(self) -> dict[str, Any]:
        """What is known of this process, for others that look whether it lives."""
        return {"host": socket.gethostname(), "pid": os.getpid()}

    def _flush(self) -> None:
        while True:
            self._dirty.wait()
            if self._closed:
                return
            self._dirty.clear()
            try:
                with self._lock:
                    descriptor = os.dup(self._journal._file)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            except OSError:
                self._dirty.set()
            time.sleep(FLUSH_S)

    def close(self) -> None:
        """Ends the recorder; what was recorded remains to be drained."""
        with self._lock:
            if self._closed:
                return
            with contextlib.suppress(Busy):
                self._settle(None)
            self._closed = True
        self._dirty.set()
        if self._flusher is not None:
            self._flusher.join()
        with self._lock:
            self._journal.close()
