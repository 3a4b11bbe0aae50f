"""$reindex: extracts the index entries of stored resources again, online. An operation of this server's own.

Without a type: everything that was extracted with an older registry, in rounds of a few seconds; `complete` says
whether there is more to do, and the call is repeated until there is not. Then the custom search parameters that were
waiting become ready. For a type or an instance: those resources, whatever they were extracted with.
"""

from __future__ import annotations

import time

from fhir_server import registries
from fhir_server.context import FhirRequest, FhirResponse
from fhir_server.reindexing import reindex_resources, reindex_stale
from fhir_server.repository import Repository


def reindex(repository: Repository, request: FhirRequest) -> FhirResponse:
    """Parameters: `reindexed` (resources done by this call) and `complete`."""
    server = repository.server
    repository.require_unrestricted(request.type, "u")
    registries.load(server)
    deadline = time.monotonic() + server.settings.reindex_budget_s
    if request.id is not None:
        assert request.type is not None
        repository.read(request.type, request.id)
        stored = server.store.read(request.type, request.id)  # as it is stored, and not as the caller may see it
        done, complete = reindex_resources(server, [stored] if stored is not None else []), True
    elif request.type is not None:
        done, complete = 0, False
        after = f"{request.type}/"
        while True:
            page = server.store.scan(after=after, types=(request.type,), limit=200)
            if not page:
                complete = True
                break
            done += reindex_resources(server, page)
            after = page[-1].address
    else:
        done, complete = reindex_stale(server, deadline)
    return FhirResponse(
        200,
        resource={
            "resourceType": "Parameters",
            "parameter": [
                {"name": "reindexed", "valueInteger": done},
                {"name": "complete", "valueBoolean": complete},
            ],
        },
    )
