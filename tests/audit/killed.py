"""A process that works until it is killed; it prints the request id of everything that was answered.

``python -m tests.audit.killed <SQLite file or MongoDB URI#database> <directory of the audit>``
"""

from __future__ import annotations

import sys
from pathlib import Path

from fhir_server.app import create_app
from fhir_server.audit.running import start
from fhir_server.storage.protocol import Store
from tests.audit.conftest import MASTER, make_server
from tests.support.http import Client


def open_store(where: str) -> Store:
    """The store of the test."""
    if where.startswith("mongodb"):
        from fhir_server.storage.mongo import open_store as open_mongo

        uri, _, database = where.partition("#")
        return open_mongo(uri, database=database)
    from fhir_server.storage.sqlite import open_store as open_sqlite

    return open_sqlite(where)


def main(where: str, directory: str) -> None:
    """Works for ever."""
    audit = start(lambda: make_server(open_store(where)), [MASTER], Path(directory))
    server = make_server(open_store(where))
    server.recorder = audit.recorder
    client = Client(create_app(server), server)
    number = 0
    while True:
        number += 1
        written = client.post("/Patient", {"resourceType": "Patient"}, x_request_id=f"w{number}")
        print(f"w{number}", flush=True)
        client.get(f"/Patient/{written.id}", x_request_id=f"r{number}")
        print(f"r{number}", flush=True)
        client.get(f"/Patient?_id={written.id}", x_request_id=f"s{number}")
        print(f"s{number}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
