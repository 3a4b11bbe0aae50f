"""The journal of one process: events on their way into the store, in a file that survives the process.

One line per event: eight hex digits (CRC-32 of the rest), a space, JSON. A request's lines are one `write`. A file is
locked (flock) by the process that writes it, so that another one can tell when it is an orphan.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from fhir_server.audit.events import DECODER, ENCODER, Event
from fhir_server.errors import Busy

SUFFIX: Final = ".journal"
MAX_BYTES: Final = 8_000_000
"""At this size a new file is begun; the full one is removed when all of it is in the store."""

_READ: Final = 1 << 20


class Journal:
    """The file that a process appends to. Not for two threads at once."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory, self._name = directory, name
        self._number = 0
        self._begin = b""
        self._open()

    def _open(self) -> None:
        while True:
            self.path = self._directory / f"{self._name}-{self._number:06d}{SUFFIX}"
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            if self._lock():
                break
            # Somebody took the file for an orphan before it was locked.
            os.close(self._file)
            self._number += 1
        self.size = 0
        sync_directory(self._directory)

    def _lock(self) -> bool:
        """Whether the new file is ours now, and still there."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return self.path.stat().st_ino == os.fstat(self._file).st_ino
        except (BlockingIOError, FileNotFoundError):
            return False

    def append(self, events: Sequence[Event]) -> None:
        """Appends events, all or none. Raises Busy (503) when the file system refuses."""
        data = self._begin + b"".join([_line(ENCODER.encode(event)) for event in events])
        try:
            written = os.write(self._file, data)
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError as error:
            try:
                os.ftruncate(self._file, self.size)
            except OSError:
                self._begin = b"\n"  # what was written of it shall not spoil what comes next
            raise Busy("The audit cannot be written now.") from error
        self.size += written
        self._begin = b""
        if self.size >= MAX_BYTES:
            self._rotate()

    def sync(self) -> None:
        """Makes what was appended survive a power cut. Raises Busy (503)."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise Busy("The audit cannot be written now.") from error

    def _rotate(self) -> None:
        full = self._file
        os.fsync(full)
        self._number += 1
        self._open()
        os.close(full)

    def close(self) -> None:
        """Lets go of the file; what is in it remains for whoever drains it."""
        os.fsync(self._file)
        os.close(self._file)


def _line(data: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(data), data)


def sync_directory(directory: Path) -> None:
    """Makes a change of a directory's entries survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Chunk:
    """Events of a journal from an offset on. `end`: the offset after them; `damaged`: bytes that are no events."""

    events: list[Event]
    end: int
    damaged: int = 0


def read(path: Path, offset: int, limit: int) -> Chunk:
    """At most `limit` events after `offset`. An unfinished last line is left: it was never acknowledged."""
    chunk = Chunk([], offset)
    with path.open("rb") as file:
        file.seek(offset)
        while len(chunk.events) < limit:
            line = file.readline(_READ)
            if not line.endswith(b"\n"):
                if len(line) == _READ:  # no line of ours is that long
                    chunk.damaged += len(line)
                    chunk.end += len(line)
                    continue
                break
            event = _event(line)
            if event is None:
                chunk.damaged += len(line)
            else:
                chunk.events.append(event)
            chunk.end += len(line)
    return chunk


def _event(line: bytes) -> Event | None:
    try:
        if int(line[:8], 16) != zlib.crc32(line[9:-1]):
            return None
        return DECODER.decode(line[9:-1])
    except (ValueError, msgspec.MsgspecError):
        return None


def journals(directory: Path) -> list[Path]:
    """Every journal of a directory, oldest name first."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def adopt(path: Path) -> int | None:
    """A lock on a journal whose process has ended, as a descriptor to be closed; None while it lives, or is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
