"""What every layer above the store passes around: settings, the server's parts, one request, one response.

Clock and id source are values of `Server`, so tests see fixed ones. Nothing here imports a store, a web framework or a
concrete terminology.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fhir_server import registries, reindexing
from fhir_server.errors import Issue

if TYPE_CHECKING:
    from fhir_server.access.caller import Caller
    from fhir_server.authorize import Policy
    from fhir_server.interceptors import Interceptors, Recorder
    from fhir_server.sealing import Sealer
    from fhir_server.search.extract import Extractor
    from fhir_server.search.registry import Registry
    from fhir_server.storage.protocol import Store

MOUNT: Final = "/fhir"
"""Path under which the FHIR service is served; the base URL that clients see is a setting."""


@dataclass(frozen=True, slots=True)
class OAuth:
    """Where the authorization server's endpoints are, for the CapabilityStatement. Absolute URLs; "" for none."""

    authorize: str
    token: str
    register: str = ""
    introspect: str = ""
    revoke: str = ""
    manage: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that the FHIR core knows. Sizes in bytes; `base_url` without a trailing slash, never from a Host
    header.

    `unique_identifiers` declares identifier systems per type whose values at most one current resource may carry (409).
    `treatment_days`: how long a treatment relation outlasts a visit. `break_glass_s`, `break_glass_per_day`: how long a
    record stays open that was opened at need, and how many a person may open in 24 hours. docs/access-control.md.
    `cors_origins` are origins, or ("*",) for all, or () for none.
    """

    base_url: str = "http://127.0.0.1:8080/fhir"
    base_aliases: tuple[str, ...] = ()
    timezone: str = "UTC"
    validation: str = "default"
    integrity: bool = False
    max_body: int = 64_000_000
    chain_limit: int = 100_000
    fulltext: bool = True
    default_count: int = 50
    max_count: int = 1000
    conditional_delete_limit: int = 100
    cors_origins: tuple[str, ...] = ("*",)
    access_log: bool = False
    update_create: bool = True
    reindex_budget_s: float = 5.0
    registry_check_s: float = 1.0
    unique_identifiers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    software_version: str = "0.1.0"
    oauth: OAuth | None = None
    treatment_days: int = 180
    break_glass_s: int = 3600
    break_glass_per_day: int = 20


_RECHECK_S: Final = 0.5


def clock() -> int:
    """Now, in microseconds since 1970."""
    return time.time_ns() // 1000


def new_id() -> str:
    """A logical id for a new resource: a random UUID (RFC 4122, version 4)."""
    text = os.urandom(16).hex()
    variant = _VARIANTS[text[16]]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


_VARIANTS: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


@dataclass(slots=True)
class Server:
    """The parts of one running server, made by `app.create_server`. One per worker and thread, as its store is."""

    settings: Settings
    store: Store
    registry: Registry
    extractor: Extractor
    interceptors: Interceptors
    cursor_key: bytes
    sealer: Sealer | None = None
    recorder: Recorder | None = None
    """Keeps the audit; None: nobody does."""
    clock: Callable[[], int] = clock
    new_id: Callable[[], str] = new_id
    registry_checked: float = 0.0
    registry_seen: tuple[int, int] = (0, 0)
    terminology_generation: int = 0
    rechecks: list[float] = field(default_factory=list)
    """When (time.monotonic) to look for late writes of an older registry; see reindexing.announce."""
    started: int = field(default_factory=clock)
    cache: dict[Any, Any] = field(default_factory=dict)
    """Things derived from the registry (CapabilityStatement); emptied when it changes."""

    def refresh(self) -> None:
        """Notices a registry that another worker changed; looks at most every `registry_check_s` seconds."""
        now = time.monotonic()
        if now - self.registry_checked >= self.settings.registry_check_s:
            self.registry_checked = now
            registries.load(self)
            if self.rechecks and now >= self.rechecks[0]:
                self.rechecks.pop(0)
                reindexing.reindex_stale(self, now + _RECHECK_S)


class RequestContext:
    """Who asks, and how the answer is wanted. Made once per request; a Bundle's entries share their Bundle's.

    `purpose` and `reason` are set by what is done for another purpose than the grant's (break the glass): a
    v3-PurposeOfUse code and the words of the person, both for the audit alone. So are `address` (where the request
    came from), `seen` ((type, id, version) of what was shown; None where nobody keeps the audit) and `events`.
    """

    __slots__ = (
        "address",
        "caller",
        "events",
        "handling",
        "policy",
        "purpose",
        "reason",
        "refreshed",
        "request_id",
        "seen",
    )

    def __init__(
        self, policy: Policy, handling: str = "lenient", request_id: str = "", caller: Caller | None = None
    ) -> None:
        self.policy = policy
        self.handling = handling
        self.request_id = request_id
        self.caller = caller
        self.refreshed = False
        self.purpose: str | None = None
        self.reason: str | None = None
        self.address = ""
        self.seen: list[tuple[str, str, int]] | None = None
        self.events: list[Any] = []

    @property
    def counted_for(self) -> str | None:
        """Whom a total in a page token was counted for; None when nobody is to be taken at it."""
        if self.policy.everything:
            return "*"
        grant = self.caller.grant if self.caller is not None else None
        # One grant may have tokens of narrower scopes, which count less.
        return hashlib.sha256(repr((grant.id, grant.scopes)).encode()).hexdigest() if grant is not None else None

    def refresh(self) -> bool:
        """Computes the caller's policy anew, once per request; whether there is a new one to try again with."""
        caller = self.caller
        if self.refreshed or caller is None or caller.refresh is None:
            return False
        self.refreshed = True
        self.policy = caller.refresh()
        return True


class FhirRequest:
    """One interaction as asked for, over HTTP or as a Bundle entry; rest/wsgi.py and interactions/bundle.py make them.

    `query` is the undecoded query string; `form` that of a POST to _search. `body` is raw and `resource` its parsed
    form where the interaction reads resources. `if_match` and `if_none_match` are version ids, ("*",) for any.
    `if_modified_since` is in seconds since 1970. `label` is ``Bundle.entry[3]`` within a Bundle, else "".
    """

    __slots__ = (
        "accept",
        "body",
        "compartment",
        "content_type",
        "form",
        "handling",
        "headers",
        "id",
        "if_match",
        "if_modified_since",
        "if_none_exist",
        "if_none_match",
        "label",
        "method",
        "operation",
        "prefer",
        "query",
        "resource",
        "route",
        "type",
        "version_id",
    )

    def __init__(
        self,
        method: str,
        *,
        type: str | None = None,
        id: str | None = None,
        version_id: str | None = None,
        operation: str | None = None,
        compartment: tuple[str, str] | None = None,
        query: str = "",
        form: str | None = None,
        body: bytes = b"",
        content_type: str = "",
        resource: Any = None,
        headers: Mapping[str, str] | None = None,
        label: str = "",
    ) -> None:
        self.method = method
        self.type = type
        self.id = id
        self.version_id = version_id
        self.operation = operation
        self.compartment = compartment
        self.query = query
        self.form = form
        self.body = body
        self.content_type = content_type
        self.resource = resource
        self.headers = headers
        self.label = label
        self.route: Any = None
        self.accept = ""
        self.handling = "lenient"
        self.prefer: str | None = None
        self.if_match: tuple[str, ...] | None = None
        self.if_none_match: tuple[str, ...] | None = None
        self.if_modified_since: int | None = None
        self.if_none_exist: str | None = None


class FhirResponse:
    """What an interaction answers, before it has a media type.

    One of: `json` (the resource's JSON), `member` (its stored gzip member), `resource` (still parsed), `raw` with
    `media` (bytes of a Binary), or nothing. `updated` is microseconds, `etag` the version number. `issues` are
    warnings, shown where asked for.
    """

    __slots__ = (
        "etag",
        "headers",
        "issues",
        "json",
        "location",
        "media",
        "member",
        "raw",
        "resource",
        "status",
        "updated",
    )

    def __init__(
        self,
        status: int,
        *,
        json: bytes | None = None,
        member: bytes | None = None,
        resource: Any = None,
        raw: bytes | None = None,
        media: str = "",
        etag: int | None = None,
        updated: int | None = None,
        location: str | None = None,
        headers: list[tuple[str, str]] | None = None,
        issues: list[Issue] | None = None,
    ) -> None:
        self.status = status
        self.json = json
        self.member = member
        self.resource = resource
        self.raw = raw
        self.media = media
        self.etag = etag
        self.updated = updated
        self.location = location
        self.headers = headers
        self.issues = issues
