"""The one protocol of both stores of records; tests/smart_store/ proves it on both.

A store holds records (smart_auth/records.py) by kind and id. It knows nothing of OAuth. A store object is used by one
thread at a time. An expired record is absent to every method here, whether it was purged yet or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from smart_auth.records import Record

R = TypeVar("R", bound=Record)


class Taken(Exception):
    """Another record holds the same unique value, or the same id. `field` names it, never its value."""

    def __init__(self, field: str) -> None:
        super().__init__(f"`{field}` is taken.")
        self.field = field


class StoreBusy(Exception):
    """The store could not serialize this change now; the client may repeat (503)."""


class AuthStore(Protocol):
    """A database of records. Built by `smart_auth.store.sqlite.open_store(path)` or `.mongo.open_store(uri)`."""

    def get(self, kind: type[R], id: str) -> R | None:
        """The record, or None. One command."""

    def together(self, *wanted: tuple[type[Record], str]) -> tuple[Record | None, ...]:
        """Several records by kind and id, as of one moment where the store can; asked at each use of an access token.
        The same objects as before while nothing changed, where the store can tell.
        """

    def find(self, kind: type[R], **equal: Any) -> list[R]:
        """Records whose indexed or unique fields equal these values, oldest first. Raises ValueError for a field that
        has no index.
        """

    def page(self, kind: type[R], *, after: str = "", limit: int = 100) -> list[R]:
        """Records by id ascending, above `after`."""

    def count(self, kind: type[R], **equal: Any) -> int:
        """How many `find` would return."""

    def insert(self, record: Record) -> None:
        """Adds a record. Raises Taken when its id or one of its unique values is held already."""

    def put(self, record: Record) -> None:
        """Adds or replaces a record. Raises Taken for a unique value that another record holds."""

    def change(self, kind: type[R], id: str, change: Callable[[R], R | None], *, turn: str = "") -> R | None:
        """Atomic read-modify-write of an existing record: returns what `change` returned and is now stored; None when
        there is no such record, or when `change` returned None (nothing is stored then). `change` may run several
        times and has no side effects. Raises Taken, StoreBusy.

        Changes that name the same `turn` happen one after the other, whatever records they are about: what `change`
        reads of other records by this store is then, when its result is stored, as every earlier one left it.
        """

    def take(self, kind: type[R], id: str) -> R | None:
        """Removes a record and returns it; of several callers exactly one gets it."""

    def delete(self, kind: type[Record], id: str) -> bool:
        """Removes a record; whether there was one."""

    def hit(self, key: str, window_s: int) -> int:
        """Counts one more event under `key` and returns how many there were in the current window of `window_s`
        seconds, this one included. Atomic; windows are aligned to the clock.
        """

    def purge(self) -> int:
        """Removes what has expired; returns how much. Run now and then."""

    def restore(self, records: Iterable[Record]) -> int:
        """Puts the records of a backup (`rows.dump`) back, in place of those with the same id; returns how many. Raises
        Taken.
        """

    def close(self) -> None: ...
