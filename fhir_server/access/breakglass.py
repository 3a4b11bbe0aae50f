"""Records that were opened at need ("break the glass"): who may see which patient until when. Kernel K23.

One record of the store per practitioner, ``btg/Practitioner/x``: what was opened in the last 24 hours. The reason is
not kept here; the audit has it.
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.errors import Throttled
from fhir_server.storage.protocol import Store, Transaction

_SECOND: Final = 1_000_000
_DAY_US: Final = 86_400 * _SECOND


def opened(store: Store, fhir_user: str, now_us: int) -> frozenset[str]:
    """Ids of the patients whose records this practitioner has opened and may still see."""
    record = store.get_meta(f"btg/{fhir_user}")
    return frozenset(one["patient"] for one in (record or {}).get("opened", ()) if one["until"] > now_us)


def check(reader: Store | Transaction, fhir_user: str, now_us: int, per_day: int) -> list[dict[str, Any]]:
    """What this practitioner has opened in the last 24 hours. Raises Throttled (429) when it is `per_day` already."""
    record = reader.get_meta(f"btg/{fhir_user}")
    kept = [one for one in (record or {}).get("opened", ()) if one["at"] > now_us - _DAY_US]
    if len(kept) >= per_day:
        wait = (min(one["at"] for one in kept) + _DAY_US - now_us) // _SECOND
        raise Throttled(f"At most {per_day} records can be opened in 24 hours.", retry_after_s=wait)
    return kept


def open_record(
    transaction: Transaction,
    fhir_user: str,
    patient: str,
    now_us: int,
    *,
    period_s: int,
    per_day: int,
) -> int:
    """Opens a patient's record; returns until when (microseconds).

    Raises Throttled (429) above `per_day` in 24 hours.
    """
    kept = check(transaction, fhir_user, now_us, per_day)
    until = now_us + period_s * _SECOND
    transaction.put_meta(f"btg/{fhir_user}", {"opened": [*kept, {"patient": patient, "at": now_us, "until": until}]})
    return until
