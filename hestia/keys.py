"""`hestia key`: which master keys a store still needs, and sealing anew what can be while servers run."""

from __future__ import annotations

from collections import Counter

from fhir_server.sealing import Sealer, keys_of
from hestia.composition import open_records, opened
from hestia.demo_access import SEALED_RECORDS
from hestia.maintain import reseal_records
from hestia.masterkey import master_keys
from hestia.progress import Progress
from hestia.settings import Settings
from smart_auth import resealing
from smart_auth.vault import key_id


def status(settings: Settings) -> list[str]:
    """For every key: how many records and versions of resources it sealed; and what is to be done next."""
    masters = master_keys(settings, create=False)
    with opened(settings, must_exist=True) as server:
        versions: Counter[str] = Counter()
        total = int(server.store.statistics()["versions"])
        with Progress("Looking at", total, unit="versions") as progress:
            after: tuple[str, int] = ("", 0)
            while page := server.store.scan_versions(after=after):
                for stored in page:
                    versions.update(keys_of(stored.body) if stored.body is not None else ())
                progress.add(len(page))
                after = (page[-1].address, page[-1].version)
    store = open_records(settings.store)
    try:
        records = resealing.counts(store, SEALED_RECORDS)
    finally:
        store.close()
    lines, old = [], [0, 0]
    for number, master in enumerate(dict.fromkeys(masters)):
        in_records = records.pop(key_id(master), 0)
        in_versions = versions.pop(next(iter(Sealer([master]).checks)), 0)
        role = "seals" if number == 0 else "opens"
        lines.append(f"key {number + 1} ({role}): {in_records:,} records, {in_versions:,} versions of resources")
        if number:
            old[0] += in_records
            old[1] += in_versions
    missing = (sum(records.values()), sum(versions.values()))
    if any(missing):
        lines.append(f"keys that are not configured: {missing[0]:,} records, {missing[1]:,} versions of resources")
    if old[0]:
        lines.append("`hestia key reseal` seals the records anew.")
    if old[1]:
        lines.append("`hestia copy` into a new store seals the resources anew, their history included.")
    if len(lines) == len(dict.fromkeys(masters)) > 1:
        lines.append("Nothing needs the earlier keys but `hestia audit verify`: keep them for that, not on the server.")
    return lines


def reseal(settings: Settings) -> list[str]:
    """Seals records anew under the first key; what to print."""
    with opened(settings, must_exist=True):  # the keys are those of the store, and the first one is recorded
        found = reseal_records(settings, settings.store)
    lines = [f"{found.done:,} records sealed anew."]
    if found.left:
        lines.append(f"{found.left:,} records could not be: their key is not configured, or another record was faster.")
    return [*lines, "Resident numbers in resources: see `hestia key status`."]
