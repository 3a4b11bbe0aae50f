"""`hestia load`: Bundles, NDJSON and single resources from files and directories, gzip or not, into the store.

Everything goes through the repository, so it is validated as a request is. A transaction or batch is executed once: a
ledger record with its digest (for a batch, digest and entry number) commits with the data, so an interrupted load is
simply repeated. Other Bundles are stored as resources. What is refused goes to a file with the reason, and the load
goes on. A store that does not answer ends it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from fhir_server.authorize import EVERYTHING
from fhir_server.context import FhirRequest, RequestContext, Server
from fhir_server.errors import Busy, FhirError, Issue, outcome, outcome_resource
from fhir_server.interactions import update
from fhir_server.interactions.bundle import execute_bundle, update_write
from fhir_server.repository import Repository
from fhir_server.resources import jsonformat, xmlformat
from fhir_server.writing import Write
from hestia.progress import Progress

logger = logging.getLogger(__name__)

BATCH: Final = 100
"""Single resources per transaction of the store."""

LEDGER: Final = "ledger/"
"""Leads the keys of the records of what was executed."""

ENDINGS: Final = (".json", ".ndjson", ".jsonl", ".xml")


@dataclass(slots=True)
class Report:
    """What a load did, in resources (`bundles_skipped`: in Bundles). `refused_file` holds one JSON line per refusal."""

    written: int = 0
    skipped: int = 0
    refused: int = 0
    bundles_skipped: int = 0
    refused_file: Path | None = None
    by_type: dict[str, int] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        """How many resources were dealt with."""
        return self.written + self.skipped + self.refused

    def sentence(self) -> str:
        """One line for a person."""
        text = f"{self.written:,} resources written"
        if self.skipped:
            text += f", {self.skipped:,} were there already"
        if self.bundles_skipped:
            text += f", {self.bundles_skipped:,} Bundles had been executed before"
        if self.refused:
            text += f", {self.refused:,} refused (see {self.refused_file})"
        return text + "."


class Loader:
    """Loads into one server. `overwrite`: resources with an id replace present ones; `store_bundles`: execute none."""

    def __init__(
        self,
        server: Server,
        *,
        overwrite: bool = False,
        store_bundles: bool = False,
        refused_file: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.repository = Repository(server, RequestContext(EVERYTHING))
        self.overwrite, self.store_bundles, self.progress = overwrite, store_bundles, progress
        self.report = Report(refused_file=refused_file)
        self._pending: list[tuple[dict[str, Any], str]] = []
        self._shown = 0

    # --- sources ------------------------------------------------------------------------------------------------------

    def files(self, paths: Iterable[Path]) -> None:
        """Loads every file; progress counts bytes. Raises Busy when the store does not answer."""
        for path in paths:
            self.file(path)
        self.flush()

    def file(self, path: Path) -> None:
        """One file, by its ending. What cannot be read at all is one refusal."""
        name = path.name.removesuffix(".gz")
        counted = 0
        try:
            with _opened(path) as (raw, handle):
                if name.endswith((".ndjson", ".jsonl")):
                    for number, line in enumerate(handle, 1):
                        if line.strip():
                            self.resource_bytes(line, f"{path.name}:{number}")
                        if number % BATCH == 0:
                            here = raw.tell()
                            self._progress(here - counted)
                            counted = here
                else:
                    data = handle.read()
                    if name.endswith(".xml"):
                        self._value(xmlformat.parse(data), data, path.name)
                    else:
                        self.resource_bytes(data, path.name)
        except (OSError, EOFError, zlib.error) as error:
            reason = f"The file cannot be read: {type(error).__name__}."
            self._refuse(path.name, None, [Issue("error", "invalid", reason)])
        except Busy:
            raise
        except FhirError as error:
            self._refuse(path.name, None, error.issues)
        self.flush()
        self._progress(path.stat().st_size - counted)

    def resource_bytes(self, data: bytes, source: str) -> None:
        """One JSON text: a resource, or a Bundle."""
        try:
            value = jsonformat.parse(data)
        except FhirError as error:
            self._refuse(source, None, error.issues)
            return
        self._value(value, data, source)

    def bundle_bytes(self, data: bytes, source: str) -> None:
        """A transaction or batch as bytes; progress counts its resources."""
        before = self.report.seen
        self.resource_bytes(data, source)
        self.flush()
        self._progress(self.report.seen - before)

    def _progress(self, done: int) -> None:
        if self.progress is not None:
            self.progress.add(done, self.report.seen - self._shown)
            self._shown = self.report.seen

    # --- what a value is ----------------------------------------------------------------------------------------------

    def _value(self, value: Any, data: bytes, source: str) -> None:
        if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
            reason = "This is not a FHIR resource: `resourceType` is missing."
            self._refuse(source, None, [Issue("error", "structure", reason)])
            return
        ledger_key = LEDGER + hashlib.sha256(data.strip()).hexdigest()
        if (
            value["resourceType"] == "Bundle"
            and not self.store_bundles
            and value.get("type") in ("transaction", "batch")
        ):
            self.flush()
            if value["type"] == "transaction":
                self._transaction(value, ledger_key, source)
            else:
                self._batch(value, ledger_key, source)
        elif "id" in value:
            self._pending.append((value, source))
            if len(self._pending) >= BATCH:
                self.flush()
        else:
            self.flush()
            self._create_once(value, ledger_key, source)

    def _transaction(self, value: dict[str, Any], ledger_key: str, source: str) -> None:
        try:
            done = execute_bundle(self.repository, value, prefer="return=minimal", ledger_key=ledger_key)
        except Exception as error:
            self._failed(source, value, error)
            return
        entries = value.get("entry") or []
        if done is None:
            self.report.bundles_skipped += 1
            self.report.skipped += len(entries)
        else:
            self._count(entries)

    def _batch(self, value: dict[str, Any], ledger_key: str, source: str) -> None:
        """Each entry has a ledger record of its own; one that was done before answers 200 without anything else."""
        try:
            done = execute_bundle(self.repository, value, prefer="return=minimal", ledger_key=ledger_key)
        except Exception as error:
            self._failed(source, value, error)
            return
        assert done is not None
        answers = jsonformat.parse(done).get("entry", [])
        before = self.report.skipped
        for number, (entry, answer) in enumerate(zip(value.get("entry") or [], answers, strict=True)):
            response = answer["response"]
            if response["status"].startswith("503"):
                raise Busy
            if not response["status"].startswith("2"):
                self._refuse_outcome(f"{source}#{number}", entry, response.get("outcome"))
            elif response == {"status": "200 OK"} and "resource" not in answer:
                self.report.skipped += 1
            else:
                self._count([entry])
        if answers and self.report.skipped - before == len(answers):
            self.report.bundles_skipped += 1

    def _create_once(self, value: dict[str, Any], ledger_key: str, source: str) -> None:
        """A resource without an id is created, once for its bytes."""
        entry = {"resource": value, "request": {"method": "POST", "url": value["resourceType"]}}
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
        try:
            done = execute_bundle(self.repository, bundle, prefer="return=minimal", ledger_key=ledger_key)
        except Exception as error:
            self._failed(source, value, error)
            return
        if done is None:
            self.report.skipped += 1
        else:
            self._count([entry])

    # --- resources with ids, in batches -------------------------------------------------------------------------------

    def flush(self) -> None:
        """Writes what is waiting: all at once, or, when something is refused, one by one."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        writes: dict[tuple[str, str], tuple[Write, dict[str, Any], str]] = {}
        for value, source in pending:
            try:
                write = self._write(value)
            except Exception as error:
                self._failed(source, value, error)
                continue
            assert write.id is not None
            key = (write.type, write.id)
            if key in writes:
                self.report.skipped += 1
                if not self.overwrite:
                    continue  # the first one is there, as one after the other would have found
            writes[key] = (write, value, source)
        if not self.overwrite and writes:
            present = self.repository.server.store.read_many([f"{kind}/{id_}" for kind, id_ in writes])
            for stored in present.values():
                if not stored.deleted:
                    del writes[stored.type, stored.id]
                    self.report.skipped += 1
        items = list(writes.values())
        if not items:
            return
        try:
            self.repository.execute([write for write, _, _ in items])
        except Exception as error:
            if isinstance(error, Busy):
                raise
            for write, value, source in items:
                try:
                    self.repository.execute([write])
                except Exception as one:
                    self._failed(source, value, one)
                else:
                    self._count([{"resource": value}])
        else:
            self._count([{"resource": value} for _, value, _ in items])

    def _write(self, value: dict[str, Any]) -> Write:
        """The update that puts a resource at its own id. Raises FhirError for an unknown type or an unusable id."""
        write = update_write(self.repository, value)
        return update.plan(self.repository, FhirRequest("PUT", type=write.type, id=write.id, resource=value))

    def _count(self, entries: Iterable[dict[str, Any]]) -> None:
        for entry in entries:
            kind = (entry.get("resource") or {}).get("resourceType", "")
            self.report.written += 1
            self.report.by_type[kind] = self.report.by_type.get(kind, 0) + 1

    # --- refusals -----------------------------------------------------------------------------------------------------

    def _failed(self, source: str, value: Any, error: Exception) -> None:
        """One refusal. Raises what the load cannot go on after."""
        if isinstance(error, Busy):
            raise error
        if not isinstance(error, FhirError):
            logger.error("%s could not be loaded.", source, exc_info=error)
        self._refuse(source, value, outcome(error).issues)

    def _refuse(self, source: str, value: Any, issues: Iterable[Issue]) -> None:
        self._refuse_outcome(source, value, outcome_resource(issues))

    def _refuse_outcome(self, source: str, value: Any, outcome: Any) -> None:
        self.report.refused += 1
        if self.report.refused_file is None:
            return
        self.report.refused_file.parent.mkdir(parents=True, exist_ok=True)
        with self.report.refused_file.open("ab") as handle:
            handle.write(jsonformat.encode({"source": source, "outcome": outcome, "resource": value}) + b"\n")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The file itself, whose position tells the progress, and what is in it."""
    with path.open("rb") as raw:
        if path.name.endswith(".gz"):
            yield raw, cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 16))
        else:
            yield raw, raw


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The loadable files below `paths`, in order of their names; a file named directly is taken whatever its ending."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (
                one for one in path.rglob("*") if one.name.removesuffix(".gz").endswith(ENDINGS) and one.is_file()
            )
            found.extend(sorted(inside))
        else:
            found.append(path)
    return found


def default_refused_file(data: Path) -> Path:
    """Where a load of now puts what it refuses."""
    return data / "refused" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.ndjson"
