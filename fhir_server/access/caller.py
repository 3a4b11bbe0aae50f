"""Who calls: the policy that a request is narrowed by, and the grant that it was made of. Pure data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fhir_server.access.grant import Grant
from fhir_server.authorize import Policy


@dataclass(frozen=True, slots=True)
class Caller:
    """What `rest.bearer.Gate` makes of an access token.

    `grant` None: nobody in particular (tests, tools). `refresh` computes the policy anew, past whatever the gate
    remembers; asked once before a read or write is refused, since a treatment relation may be a second old.
    """

    policy: Policy
    grant: Grant | None = None
    refresh: Callable[[], Policy] | None = None
