"""What access control costs: the same searches by nobody in particular (access control off), by a back-end service that
may do everything, and by a doctor who sees the patients that he or she treats (all of the corpus, so that the answers
are the same). Two servers on one store, measured in turn.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

from bench.driver import Request, Target, run
from bench.steps import STEPS, Loaded, measure
from hestia.composition import make_auth, opened
from hestia.settings import load
from smart_auth.records import Account, Client, RoleLink

GOAL: Final = 1.3
"""A narrowed search may take this many times as long as the plain one."""
LEFT_OUT: Final = ("vread", "create", "update", "mixed")
TURNS: Final = 8
"""Each step is measured this often at each target, in turn; the medians are compared, so that what else the machine
does for a moment does not count.
"""


def compare(
    plain: Target, guarded: str, store: str, directory: Path, loaded: Loaded, seconds: float, audit: str
) -> None:
    """Prints one row per step: rates, and how many times as long a request takes as without access control."""
    if audit == "off":
        _treat(plain, loaded)
    everything, doctor = _tokens(guarded, store, directory, loaded.practitioners[0])
    print(f"\nwith access control, audit {audit}; the doctor treats {len(loaded.patients):,} patients")
    print(f"{'step':<28}{'off/s':>9}{'all/s':>9}{'doctor/s':>9}{'all x':>9}{'doctor x':>9}{'wrong':>7}{'goal':>7}")
    targets = (plain, Target(guarded, everything), Target(guarded, doctor))
    for step in STEPS:
        if step.name.startswith(LEFT_OUT):
            continue
        found: list[list[float]] = [[] for _ in targets]
        wrong = 0
        for turn in range(TURNS + 1):
            for number, target in enumerate(targets):
                result = measure(step, target, loaded, seconds / TURNS)
                if turn:  # the first one fills caches
                    found[number].append(result.rate)
                wrong += result.wrong
                if result.wrong:
                    print("   ", result.faults[:2])
        rates = list(map(median, found))
        ratios = [rates[0] / rate for rate in rates[1:]]
        print(
            f"{step.name:<28}{rates[0]:>9,.0f}{rates[1]:>9,.0f}{rates[2]:>9,.0f}"
            f"{ratios[0]:>9.2f}{ratios[1]:>9.2f}{wrong:>7}{GOAL:>7}",
            flush=True,
        )


def _treat(target: Target, loaded: Loaded) -> None:
    """Puts the first practitioner into a care team of every patient."""
    doctor = loaded.practitioners[0]
    entries = [
        {
            "request": {"method": "POST", "url": "CareTeam"},
            "resource": {
                "resourceType": "CareTeam",
                "status": "active",
                "subject": {"reference": patient},
                "participant": [{"member": {"reference": doctor}}],
            },
        }
        for patient in loaded.patients
    ]
    body = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()

    def requests() -> Iterator[Request]:
        yield target.send("POST", "", body, (200,))

    result = run(target, requests(), 1)
    if result.wrong:
        raise SystemExit(f"The care teams could not be stored: {result.faults}")


def _tokens(base: str, store: str, directory: Path, practitioner: str) -> tuple[str, str]:
    """Access tokens of a service with system/*.cruds, and of a doctor with user/*.rs."""
    settings = load({"store": store, "data": str(directory), "base_url": base, "fulltext": "off"}, {})
    with opened(settings, must_exist=True, decide=True) as server:
        auth = make_auth(settings, server)
        client = Client(id=f"bench-{secrets.token_hex(4)}", name="Benchmark", type="backend", scope="system/*.cruds")
        account = Account(
            id=secrets.token_hex(8),
            name="Benchmark",
            username=f"bench-{secrets.token_hex(4)}",
            roles=(RoleLink(role="doctor", fhir_user=practitioner),),
        )
        auth.store.insert(client)
        auth.store.insert(account)
        made = (
            auth.tokens.issue_for(None, "system", client, "system/*.cruds", None),
            auth.tokens.issue_for(account, "doctor", client, "user/*.rs", None),
        )
        auth.store.close()
    return made
