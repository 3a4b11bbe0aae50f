"""`hestia export`: current resources as NDJSON, one file per type."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

from fhir_server.sealing import Sealer, clear_json
from fhir_server.storage.protocol import Store
from hestia.progress import Progress


def export(store: Store, directory: Path, types: Sequence[str], compress: bool, sealer: Sealer | None = None) -> int:
    """Writes ``Type.ndjson`` (or ``.ndjson.gz``) files, bytes as they are; returns the number of resources.

    Sealed numbers are in clear in them, so that another installation can load them. AuditEvents come only when they are
    asked for: they are links of a chain that belongs to this store, and no other can take them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    counts = store.counts()
    types = types or sorted(set(counts) - {"AuditEvent"})
    total = sum(number for name, number in counts.items() if name in types)
    written, after = 0, ""
    files: dict[str, IO[bytes]] = {}
    with ExitStack() as stack, Progress("Exporting", total) as progress:
        while page := store.scan(after=after, types=types):
            for stored in page:
                if stored.type not in files:
                    files[stored.type] = stack.enter_context(_file(directory, stored.type, compress))
                assert stored.body is not None
                files[stored.type].write(clear_json(sealer, stored.body) + b"\n")
            written += len(page)
            progress.add(len(page))
            after = page[-1].address
    return written


def _file(directory: Path, resource_type: str, compress: bool) -> IO[bytes]:
    if compress:
        return cast(IO[bytes], gzip.open(directory / f"{resource_type}.ndjson.gz", "wb", 6))
    return (directory / f"{resource_type}.ndjson").open("wb")
