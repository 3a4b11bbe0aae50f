"""`hestia load`: Bundles, NDJSON and single resources from files and directories, gzip or not, into the store.

Everything goes through the repository, so it is validated as a request is. A transaction or batch is executed once: a ledger record with
its digest (for a batch, digest and entry number) commits with the data, so an interrupted load is simply repeated. Other Bundles
are stored as resources. What is refused goes to a file with the reason, and the load goes on.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from fhir_server.authorize import EVERYTHING
from fhir_server.context import FhirRequest, RequestContext, Server
from fhir_server.errors import FhirError, Issue, outcome_resource
from fhir_server.interactions import update
from fhir_server.interactions.bundle import execute_bundle
from fhir_server.repository import Repository
from fhir_server.resources import jsonformat, xmlformat
from fhir_server.writing import Write
from hestia.progress import Progress

BATCH = 100
"""Single resources per transaction of the store."""

ENDINGS = (".json", ".ndjson", ".jsonl", ".xml")


@dataclass(slots=True)
class Report:
    """What a load did, in resources (`bundles`: in Bundles). `refused_file` holds one JSON line per refusal."""

    written: int = 0
    skipped: int = 0
    refused: int = 0
    bundles: int = 0
    bundles_skipped: int = 0
    refused_file: Path | None = None
    by_type: dict[str, int] = field(default_factory=dict)

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

    # --- sources ------------------------------------------------------------------------------------------------------

    def files(self, paths: Iterable[Path]) -> None:
        """Loads every file; progress counts bytes."""
        for path in paths:
            self.file(path)
        self.flush()

    def file(self, path: Path) -> None:
        """One file, by its ending. What cannot be read at all is one refusal."""
        size = path.stat().st_size
        name = path.name.removesuffix(".gz")
        before = self.report.written
        try:
            if name.endswith((".ndjson", ".jsonl")):
                with _open(path) as handle:
                    for number, line in enumerate(handle, 1):
                        if line.strip():
                            self.resource_bytes(line, f"{path.name}:{number}")
                            if number % BATCH == 0 and self.progress:
                                self.progress.add(0, self.report.written - before)
                                before = self.report.written
            else:
                with _open(path) as handle:
                    data = handle.read()
                if name.endswith(".xml"):
                    self._value(xmlformat.parse(data), data, path.name)
                else:
                    self.resource_bytes(data, path.name)
        except (OSError, EOFError, zlib.error) as error:
            self._refuse(path.name, None, [Issue("error", "invalid", f"The file cannot be read: {type(error).__name__}.")])
        except FhirError as error:
            self._refuse(path.name, None, error.issues)
        self.flush()
        if self.progress:
            self.progress.add(size, self.report.written - before)

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
        before = self.report.written + self.report.skipped
        self.resource_bytes(data, source)
        self.flush()
        if self.progress:
            self.progress.add(self.report.written + self.report.skipped - before)

    # --- what a value is ----------------------------------------------------------------------------------------------

    def _value(self, value: Any, data: bytes, source: str) -> None:
        if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
            self._refuse(source, None, [Issue("error", "structure", "This is not a FHIR resource: `resourceType` is missing.")])
            return
        if value["resourceType"] == "Bundle" and not self.store_bundles:
            digest = hashlib.sha256(data).hexdigest()
            if value.get("type") == "transaction":
                self.flush()
                self._transaction(value, digest, source)
                return
            if value.get("type") == "batch":
                self.flush()
                self._batch(value, digest, source)
                return
        if isinstance(value.get("id"), str):
            self._pending.append((value, source))
            if len(self._pending) >= BATCH:
                self.flush()
        else:
            self._create_once(value, f"ledger/{hashlib.sha256(data.strip()).hexdigest()}", source)

    def _transaction(self, value: dict[str, Any], digest: str, source: str) -> None:
        self.report.bundles += 1
        entries = value.get("entry") or []
        try:
            done = execute_bundle(self.repository, value, prefer="return=minimal", ledger_key=f"ledger/{digest}")
        except FhirError as error:
            self._refuse(source, value, error.issues)
            return
        if done is None:
            self.report.bundles_skipped += 1
            self.report.skipped += len(entries)
        else:
            self._count(entries)

    def _batch(self, value: dict[str, Any], digest: str, source: str) -> None:
        """Each entry has a ledger record of its own; an entry that was done before answers 200 without anything else."""
        self.report.bundles += 1
        try:
            done = execute_bundle(self.repository, value, prefer="return=minimal", ledger_key=f"ledger/{digest}")
        except FhirError as error:
            self._refuse(source, value, error.issues)
            return
        assert done is not None
        for number, (entry, answer) in enumerate(zip(value.get("entry") or [], jsonformat.parse(done).get("entry", []), strict=True)):
            response = answer["response"]
            if not response["status"].startswith("2"):
                self._refuse_outcome(f"{source}#{number}", entry, response.get("outcome"))
            elif response == {"status": "200 OK"} and not isinstance(answer.get("resource"), dict):
                self.report.skipped += 1
            else:
                self._count([entry])

    def _create_once(self, value: dict[str, Any], ledger_key: str, source: str) -> None:
        entry = {"resource": value, "request": {"method": "POST", "url": value["resourceType"]}}
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
        try:
            done = execute_bundle(self.repository, bundle, prefer="return=minimal", ledger_key=ledger_key)
        except FhirError as error:
            self._refuse(source, value, error.issues)
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
        unique: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}
        for item in pending:
            unique[(item[0]["resourceType"], item[0]["id"])] = item  # the last one wins, as one after the other would
        self.report.skipped += len(pending) - len(unique)
        items = list(unique.values())
        if not self.overwrite:
            present = self.repository.server.store.read_many([f"{kind}/{id_}" for kind, id_ in unique])
            kept = [item for item in items if not _is_there(present.get(f"{item[0]['resourceType']}/{item[0]['id']}"))]
            self.report.skipped += len(items) - len(kept)
            items = kept
        try:
            if items:
                self.repository.execute([self._write(value) for value, _ in items])
        except FhirError:
            for value, source in items:
                try:
                    self.repository.execute([self._write(value)])
                except FhirError as error:
                    self._refuse(source, value, error.issues)
                else:
                    self._count([{"resource": value}])
        else:
            self._count([{"resource": value} for value, _ in items])

    def _write(self, value: dict[str, Any]) -> Write:
        request = FhirRequest("PUT", type=value["resourceType"], id=value["id"], resource=value)
        return update.plan(self.repository, request)

    def _count(self, entries: Iterable[dict[str, Any]]) -> None:
        for entry in entries:
            kind = (entry.get("resource") or {}).get("resourceType", "")
            self.report.written += 1
            self.report.by_type[kind] = self.report.by_type.get(kind, 0) + 1

    # --- refusals -----------------------------------------------------------------------------------------------------

    def _refuse(self, source: str, value: Any, issues: Iterable[Issue]) -> None:
        self._refuse_outcome(source, value, outcome_resource(issues))

    def _refuse_outcome(self, source: str, value: Any, outcome: Any) -> None:
        self.report.refused += 1
        if self.report.refused_file is None:
            return
        self.report.refused_file.parent.mkdir(parents=True, exist_ok=True)
        with self.report.refused_file.open("ab") as handle:
            handle.write(jsonformat.encode({"source": source, "outcome": outcome, "resource": value}) + b"\n")


def _is_there(stored: Any) -> bool:
    return stored is not None and not stored.deleted


def _open(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The loadable files below `paths`, in order of their names; a file named directly is taken whatever its ending."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(
                sorted(one for one in path.rglob("*") if one.is_file() and one.name.removesuffix(".gz").endswith(ENDINGS))
            )
        else:
            found.append(path)
    return found


def default_refused_file(data: Path) -> Path:
    """Where a load of now puts what it refuses."""
    return data / "refused" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.ndjson"

