"""What has to be done now and then beside serving: records that have expired are removed. A thread per worker."""

from __future__ import annotations

import logging
import random
import threading
from typing import Final

from hestia.composition import open_records

logger = logging.getLogger(__name__)

EVERY_S: Final = 600.0


class Housekeeping:
    """Purges the store of records every ten minutes or so, with a connection of its own."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begins; returns at once."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends after what is under way."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        # Workers start together; they need not purge together.
        while not self._stop.wait(EVERY_S * random.uniform(0.5, 1.5)):  # noqa: S311 - not a secret
            self.purge()

    def purge(self) -> int:
        """Removes what has expired; returns how much. A store that does not answer is tried again next time."""
        try:
            store = open_records(self._uri)
            try:
                return store.purge()
            finally:
                store.close()
        except Exception as error:
            logger.warning("Expired records were not removed (%s); tried again later.", type(error).__name__)
            return 0
