"""The audit of one worker: its recorder, and the thread that drains it."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from fhir_server.audit.chain import Key
from fhir_server.audit.drain import Drainer
from fhir_server.audit.recorder import DurableRecorder, Sync
from fhir_server.context import Server

logger = logging.getLogger(__name__)

IDLE_S: Final = 0.25
_RETRY_S: Final = 5.0
LATE_S: Final = 60.0
"""While events are younger than this, draining them takes at most a fifth of a processor, then half of one."""
_NICE: Final = 10
_PAUSE: Final = 4.0
_LONGEST_PAUSE_S: Final = 0.5


class _Late(Exception):
    """There is no time left to drain more."""


class Audit:
    """What `start` gives. Set `recorder` on the Server of the worker; call `stop` at its end."""

    def __init__(
        self,
        open_server: Callable[[], Server],
        key: Key,
        directory: Path,
        sync: Sync,
        source_of: Callable[[str], str] = str,
    ) -> None:
        self.recorder = DurableRecorder(directory, sync=sync, source_of=source_of)
        self._open_server, self._key, self._directory = open_server, key, directory
        self._stop = threading.Event()
        self._deadline = float("inf")
        self._drainer: Drainer | None = None
        self._thread = threading.Thread(target=self._run, name="audit-drain", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Drains what is there and ends the thread. What it does not manage in time is an orphan for the next one."""
        self._deadline = time.monotonic() + timeout_s / 2
        self._stop.set()
        self._thread.join(timeout_s)
        self.recorder.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while not self._stop.is_set():
            server = None
            try:
                server = self._open_server()
                self._drain(server)
            except _Late:
                pass
            except Exception:
                # The events wait where they are; nothing is lost by trying again.
                logger.exception("The audit cannot be drained; it is tried again.")
                self._stop.wait(_RETRY_S)
            finally:
                if server is not None:
                    server.store.close()

    def _drain(self, server: Server) -> None:
        drainer = self._drainer = Drainer(server, self._key, self._directory, self.recorder, pause=self._pause)
        while not self._stop.is_set():
            self.recorder.settle(server.clock())
            if drainer.step() == 0:
                self._stop.wait(IDLE_S)
        self.recorder.settle()
        while drainer.step(orphans=False):
            pass
        drainer.anchor()
        drainer.close()

    def _pause(self, taken: float) -> None:
        """Sleeps for longer than a piece of work took, so that requests come in between; see LATE_S."""
        if not self._stop.is_set():
            late = self._drainer is not None and self._drainer.lag_s > LATE_S
            time.sleep(min(taken if late else taken * _PAUSE, _LONGEST_PAUSE_S))
        elif time.monotonic() > self._deadline:
            raise _Late


def start(
    open_server: Callable[[], Server],
    master_keys: Sequence[bytes],
    directory: Path,
    *,
    sync: Sync = "interval",
    source_of: Callable[[str], str] = str,
) -> Audit:
    """Begins the audit of this process, after any fork.

    `open_server` makes a Server with a store connection of its own; the thread calls it, and closes its store.
    `master_keys`: the first one signs. `directory` holds journals and anchors; all workers of a machine share it.
    `source_of`: which network addresses count as one source of refusals.
    """
    return Audit(open_server, Key.derive(master_keys[0]), directory, sync, source_of)
