"""`hestia export`: current resources as NDJSON, one file per type."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from fhir_server.storage.protocol import Store
from hestia.progress import Progress


def export(store: Store, directory: Path, types: Sequence[str], compress: bool) -> int:
    """Writes ``Type.ndjson`` (or ``.ndjson.gz``) files and returns the number of resources. Bytes go out as they are stored."""
    directory.mkdir(parents=True, exist_ok=True)
    counts = store.counts()
    total = sum(number for name, number in counts.items() if not types or name in types)
    written, after = 0, ""
    handles: dict[str, IO[bytes]] = {}
    with ExitStack() as stack, Progress("Exporting", total) as progress:
        while page := store.scan(after=after, types=types or None):
            for stored in page:
                handle = handles.get(stored.type)
                if handle is None:
                    path = directory / f"{stored.type}.ndjson{'.gz' if compress else ''}"
                    opened: IO[bytes] = gzip.open(path, "wb", 6) if compress else path.open("wb")  # type: ignore[assignment]
                    handle = handles[stored.type] = stack.enter_context(opened)
                assert stored.body is not None
                handle.write(zlib.decompress(stored.body, 31) + b"\n")
            written += len(page)
            progress.add(len(page))
            after = page[-1].address
    return written
