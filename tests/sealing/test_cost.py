"""What sealing costs a read and a write, in process (``pytest -s`` prints it); the bounds only catch a mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from fhir_server.app import create_app, create_server
from fhir_server.context import Settings
from fhir_server.sealing import Sealer
from fhir_server.storage.sqlite import open_store
from tests.sealing.conftest import KEY, NUMBER, patient
from tests.support.http import BASE, Client

ROUNDS = 300


def quickest(work: Callable[[], object]) -> float:
    """Microseconds of a call, the best of some rounds."""
    best = float("inf")
    for _ in range(5):
        started = perf_counter()
        for _ in range(ROUNDS // 5):
            work()
        best = min(best, (perf_counter() - started) / (ROUNDS // 5))
    return best * 1e6


def test_cost_of_sealing_is_bounded(tmp_path: Path) -> None:
    resource = patient(
        "a", name=[{"text": "李雷", "family": "李", "given": ["雷"]}], birthDate="1949-12-31", gender="male"
    )
    other = {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}}
    found: dict[str, list[float]] = {}
    for name, sealer in (("plain", None), ("sealed", Sealer([KEY]))):
        store = open_store(tmp_path / f"{name}.db")
        server = create_server(Settings(base_url=BASE), store, sealer=sealer)
        client = Client(create_app(server), server)
        client.store(resource, other, *(patient(f"p{at}", f"{NUMBER[:14]}{at:04d}") for at in range(50)))
        found[name] = [
            quickest(lambda client=client: client.get("/Patient/a", accept_encoding="gzip")),  # type: ignore[misc]
            quickest(lambda client=client: client.get("/Observation/o", accept_encoding="gzip")),  # type: ignore[misc]
            quickest(lambda client=client: client.get(f"/Patient?identifier={NUMBER}")),  # type: ignore[misc]
            quickest(lambda client=client: client.get("/Patient?_count=50")),  # type: ignore[misc]
            quickest(lambda client=client: client.put("/Patient/a", resource)),  # type: ignore[misc]
        ]
        store.close()
    for what, plain, sealed in zip(
        ("read Patient", "read Observation", "search identifier", "page of 50", "update Patient"),
        *found.values(),
        strict=True,
    ):
        print(f"{what}: {plain:.0f} us, sealed {sealed:.0f} us, x{sealed / plain:.2f}")
        assert sealed < 5 * plain + 1000
