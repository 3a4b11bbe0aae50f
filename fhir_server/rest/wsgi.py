"""The WSGI adapter: FHIR requests go straight to the core, everything else to the application behind it (Flask).

R4 http.html. Two ways lead through: a short one for ``GET /fhir/Type/id`` without conditions, which hands the stored
bytes on, and the general one. Both answer alike; tests/spec/ asks both.
"""

from __future__ import annotations

import logging
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from secrets import token_hex
from typing import Any, Final, TextIO
from urllib.parse import unquote_plus

from isal import isal_zlib

from fhir_server.access.caller import Caller
from fhir_server.audit import requests as audit
from fhir_server.authorize import EVERYTHING, Policy
from fhir_server.conditions import entity_tags, http_date
from fhir_server.context import MOUNT, FhirRequest, FhirResponse, RequestContext, Server
from fhir_server.errors import (
    BadRequest,
    FhirError,
    Forbidden,
    NotFound,
    TooLarge,
    UnsupportedMediaType,
    outcome,
)
from fhir_server.gzipped import inflate
from fhir_server.interactions import dispatch
from fhir_server.repository import Repository, find
from fhir_server.resources import jsonformat
from fhir_server.resources.types import TYPE_SET, is_id
from fhir_server.rest import bearer, negotiate, render
from fhir_server.rest.protection import PROTECTING, hsts
from fhir_server.sealing import shown
from fhir_server.wire import http_date as format_http_date

StartResponse = Callable[..., Any]
Wsgi = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

logger = logging.getLogger(__name__)

_PREFIX: Final = MOUNT + "/"
_METADATA: Final = _PREFIX + "metadata"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9\-._]{1,64}\Z")
_PARAMETER_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_:.\-]{0,99}\Z")
_JSON_ACCEPTS: Final = {
    "",
    "*/*",
    "application/fhir+json",
    "application/json",
    "application/fhir+json, application/json",
}
_CHUNK: Final = 1 << 16
_FLUSH_NS: Final = 100_000_000
_TARGET: Final = "hestia.target"
_CALLER: Final = "hestia.caller"
_ASKED: Final = "hestia.asked"
_INFLATE_ERRORS: Final[Any] = (isal_zlib.error, zlib.error)
_FORM_TYPE: Final = "application/x-www-form-urlencoded"

EXPOSED_HEADERS: Final = (
    "ETag, Location, Content-Location, Last-Modified, Retry-After, WWW-Authenticate, X-Hestia-Auth, X-Request-Id"
)
_REQUEST_HEADERS: Final = (
    "Accept, Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Exist, If-None-Match, Prefer, "
    "X-Request-Id, X-Security-Context"
)
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _not_found(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    start_response("404 Not Found", [("Content-Type", "text/plain; charset=UTF-8"), ("Content-Length", "0")])
    return [b""]


class FhirApplication:
    """A WSGI callable over one `Server`.

    `server` may be a callable that returns the Server of the calling thread. `gate` makes a Caller of each request's
    access token, and its policy says what the caller may do; without a gate `policy` does. `auth_off` says in every
    answer that access control is off.
    """

    def __init__(
        self,
        server: Server | Callable[[], Server],
        fallback: Wsgi = _not_found,
        *,
        gate: bearer.Gate | None = None,
        policy: Policy = EVERYTHING,
        auth_off: bool = False,
        log: TextIO | None = None,
    ) -> None:
        self._server = server if callable(server) else (lambda: server)
        self._single = None if callable(server) else server
        self._fallback = fallback
        self.policy = policy
        self._gate = gate
        settings = self._server().settings
        self._always = [*PROTECTING, *hsts(settings.base_url)]
        if auth_off:
            self._always.append(("X-Hestia-Auth", "off"))
        self._max_body = settings.max_body
        self._origins = frozenset(settings.cors_origins)
        self._log = (log or sys.stdout) if settings.access_log else None
        self._id_prefix = token_hex(6)
        self._ids = count(1)
        self._flushed = 0

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if not path.startswith(_PREFIX) and path != MOUNT:
            return self._fallback(environ, start_response)
        started = time.perf_counter_ns() if self._log is not None else 0
        request_id = environ.get("HTTP_X_REQUEST_ID")
        if request_id is None or not _REQUEST_ID.match(request_id):
            request_id = f"{self._id_prefix}{next(self._ids):08x}"
        if environ["REQUEST_METHOD"] == "GET" and not environ.get("QUERY_STRING"):
            try:
                answer = self._short_read(path, environ, request_id)
            except Exception:
                answer = None  # the general way meets the same failure, and answers it
            if answer is not None:
                answer[0].extend(self._common(environ, request_id))
                start_response("200 OK", answer[0])
                if self._log is not None:
                    self._write_log("GET", answer[2], "", "200 OK", started, request_id)
                return (answer[1],)
        server = self._server()
        failure: Exception | None = None
        try:
            status, headers, body = self._general(server, path, environ, request_id)
        except Exception as error:  # everything becomes an OperationOutcome; see errors.outcome
            failure = error
            status, headers, body = self._failure(error, environ, request_id)
        if server.recorder is not None:
            try:
                self._record(server, environ, request_id, failure)
            except Exception as error:  # what cannot be recorded is not answered
                status, headers, body = self._failure(error, environ, request_id)
        headers.extend(self._common(environ, request_id))
        start_response(status, headers)
        if self._log is not None:
            target = environ.get(_TARGET)
            template = _template(target) if target is not None else "*"
            names = _parameter_names(environ.get("QUERY_STRING", ""))
            self._write_log(environ["REQUEST_METHOD"], template, names, status, started, request_id)
        return (b"",) if environ["REQUEST_METHOD"] == "HEAD" else (body,)

    def _enter(self, server: Server, environ: dict[str, Any]) -> Caller:
        """Who calls: the gate is asked once per request. Raises Unauthorized (401), Throttled (429)."""
        if self._gate is None:
            return Caller(self.policy)
        known = environ.get(_CALLER)
        if known is None:
            try:
                known = bearer.enter(self._gate, server, environ)
            except FhirError as error:
                known = error
            environ[_CALLER] = known
        if isinstance(known, FhirError):
            raise known
        assert isinstance(known, Caller)
        return known

    # --- the short way ------------------------------------------------------------------------------------------------

    def _short_read(
        self, path: str, environ: dict[str, Any], request_id: str
    ) -> tuple[list[tuple[str, str]], bytes, str] | None:
        """Headers, body and path template of a plain read; None when it is not plain, or not a 200."""
        parts = path.split("/")
        if len(parts) != 4 or parts[2] not in TYPE_SET or parts[2] == "Binary":
            return None
        if (
            environ.get("HTTP_ACCEPT", "") not in _JSON_ACCEPTS
            or "HTTP_IF_NONE_MATCH" in environ
            or "HTTP_IF_MODIFIED_SINCE" in environ
        ):
            return None
        server = self._single or self._server()
        caller = self._enter(server, environ)
        policy = caller.policy
        if policy.unrestricted(parts[2], "r"):
            stored = server.store.read(parts[2], parts[3])
        elif policy.grants(parts[2], "r") and is_id(parts[3]):
            stored = find(server.store, policy, parts[2], parts[3])
        else:
            return None
        if stored is None:
            return None
        body = shown(server.sealer, stored, caller).body
        if body is None:
            return None
        headers = [
            ("ETag", f'W/"{stored.version}"'),
            ("Last-Modified", format_http_date(stored.updated)),
            ("Content-Type", negotiate.JSON_TYPE),
            ("Vary", "Accept, Accept-Encoding, Prefer"),
        ]
        encoding = environ.get("HTTP_ACCEPT_ENCODING")
        if encoding is not None and negotiate.accepts_gzip(encoding):
            headers.append(("Content-Encoding", "gzip"))
        else:
            body = inflate(body)
        headers.append(("Content-Length", str(len(body))))
        if server.recorder is not None:
            seen = (stored.type, stored.id, stored.version)
            server.recorder.record((audit.read(server, caller, environ, request_id, seen),))
        return headers, body, parts[2] + "/{id}"

    # --- the general way ----------------------------------------------------------------------------------------------

    def _general(self, server: Server, path: str, environ: dict[str, Any], request_id: str) -> render.Rendered:
        server.refresh()
        if not path.isascii():
            # WSGI hands the bytes of the path on as latin-1; nothing in a FHIR path is beyond ASCII.
            try:
                path.encode("latin-1").decode("utf-8")
            except UnicodeError:
                raise BadRequest("The path is not valid UTF-8.", code="value") from None
        method: str = environ["REQUEST_METHOD"]
        segments = path[len(_PREFIX) :].split("/") if len(path) > len(_PREFIX) else []
        caller = Caller(self.policy)
        if self._gate is not None and method != "OPTIONS" and segments != ["metadata"]:
            # Before anything is said about the path: what exists is nobody's who does not say who asks.
            caller = self._enter(server, environ)
        target = environ[_TARGET] = dispatch.locate(segments)
        if method == "OPTIONS":
            allowed = ", ".join((*dispatch.methods(target), "OPTIONS"))
            return "204 No Content", [("Allow", allowed)], b""
        query: str = environ.get("QUERY_STRING", "")
        form, pretty = self._form(environ, query)
        interaction = dispatch.choose("GET" if method == "HEAD" else method, target)
        request = FhirRequest(
            method,
            type=target.type,
            id=target.id,
            version_id=target.version_id,
            operation=target.operation,
            compartment=target.compartment,
            query=query,
        )
        request.route = interaction
        request.headers = _Headers(environ)
        request.accept = environ.get("HTTP_ACCEPT", "")
        preference = environ.get("HTTP_PREFER")
        if preference is not None:
            request.prefer, request.handling = negotiate.prefer(preference)
        self._conditions(request, environ)
        if method in ("POST", "PUT", "PATCH"):
            self._body(request, environ, interaction)
        context = RequestContext(caller.policy, request.handling, request_id, caller)
        if server.recorder is not None:
            context.address = str(environ.get("REMOTE_ADDR", ""))
            context.seen = []
            environ[_ASKED] = (interaction, request, context)
        response = self._run(interaction, Repository(server, context), request)
        encoding = environ.get("HTTP_ACCEPT_ENCODING")
        return render.render(
            response, form=form, pretty=pretty, gzip=encoding is not None and negotiate.accepts_gzip(encoding)
        )

    def _run(self, interaction: dispatch.Interaction, repository: Repository, request: FhirRequest) -> FhirResponse:
        """The interaction; a read of an instance or a write that is refused, once more with the policy of this very
        moment.
        """
        try:
            return interaction.run(repository, request)
        except (Forbidden, NotFound):
            concerned = request.id is not None or interaction.plan is not None or interaction is dispatch.BUNDLE
            if not concerned or not repository.context.refresh():
                raise
        if request.resource is not None:
            self._parse(request)  # the links of a transaction are rewritten in place
        repository.context.events.clear()
        if repository.context.seen:
            repository.context.seen.clear()
        return interaction.run(repository, request)

    def _record(self, server: Server, environ: Mapping[str, Any], request_id: str, failure: Exception | None) -> None:
        """Hands what happened to the audit, before it is answered. Raises Busy (503) when that cannot be kept."""
        assert server.recorder is not None
        asked = environ.get(_ASKED)
        if asked is None:
            if failure is not None:
                known = environ.get(_CALLER)
                grant = known.grant if isinstance(known, Caller) else None
                event = audit.refused(server, environ, request_id, failure, grant)
                if grant is None:  # whoever that is can go on for ever
                    server.recorder.tally(event)
                else:
                    server.recorder.record((event,))
            return
        interaction, request, context = asked
        events = context.events
        written = interaction.plan is not None or interaction is dispatch.BUNDLE
        if interaction.code not in audit.OPEN and (failure is not None or not written):
            events.append(audit.answered(server, context, request, interaction.code, context.seen, failure))
        if events:
            server.recorder.record(events)

    def _form(self, environ: dict[str, Any], query: str) -> tuple[str, bool]:
        """The format of the answer and whether it is indented: `_format` overrides Accept."""
        form: str | None = None
        pretty = False
        if "_format" in query or "_pretty" in query:
            for pair in query.split("&"):
                name, _, value = pair.partition("=")
                if name == "_format" and value:
                    form = negotiate.named(unquote_plus(value))
                elif name == "_pretty" and value:
                    pretty = negotiate.pretty(value)
        if form is None:
            path: str = environ["PATH_INFO"]
            accept = environ.get("HTTP_ACCEPT", "")
            if path.startswith("/fhir/Binary/") and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
                # A Binary answers in its own media type; interactions/binary.py looks at Accept itself.
                try:
                    form = negotiate.accepted(accept)
                except FhirError:
                    form = "json"
            else:
                form = negotiate.accepted(accept)
        return form, pretty

    @staticmethod
    def _conditions(request: FhirRequest, environ: Mapping[str, Any]) -> None:
        value = environ.get("HTTP_IF_MATCH")
        if value is not None:
            request.if_match = entity_tags(value, "If-Match")
        value = environ.get("HTTP_IF_NONE_MATCH")
        if value is not None:
            request.if_none_match = entity_tags(value, "If-None-Match")
        value = environ.get("HTTP_IF_MODIFIED_SINCE")
        if value is not None:
            request.if_modified_since = http_date(value, "If-Modified-Since")
        value = environ.get("HTTP_IF_NONE_EXIST")
        if value is not None:
            request.if_none_exist = value

    def _body(self, request: FhirRequest, environ: dict[str, Any], interaction: dispatch.Interaction) -> None:
        """Reads the body, and parses it where the interaction takes a resource."""
        body = self._read(environ)
        content_type = environ.get("CONTENT_TYPE") or ""
        request.content_type = content_type
        request.body = body
        if interaction.body == "form":
            if body:
                if negotiate.media_type(content_type)[0] != _FORM_TYPE:
                    raise UnsupportedMediaType(f"A search is posted as {_FORM_TYPE}.")
                try:
                    request.form = body.decode("utf-8")
                except UnicodeDecodeError:
                    raise BadRequest("The form is not valid UTF-8.", code="value") from None
            else:
                request.form = ""
            return
        if interaction.body not in ("resource", "optional"):
            return
        if not body and interaction.body == "optional":
            return
        form = negotiate.body_format(content_type)
        if (
            request.type == "Binary"
            and interaction.code in ("create", "update")
            and not _is_resource(content_type, form, body)
        ):
            if not content_type:
                raise UnsupportedMediaType("A Content-Type is needed.")
            return
        if not form:
            raise UnsupportedMediaType("Resources are read as application/fhir+json or application/fhir+xml.")
        if not body:
            raise BadRequest("The body is empty; a resource was expected.", code="structure")
        self._parse(request)

    @staticmethod
    def _parse(request: FhirRequest) -> None:
        """The resource in the body."""
        if negotiate.body_format(request.content_type) == "xml":
            from fhir_server.resources import xmlformat

            request.resource = xmlformat.parse(request.body)
        else:
            request.resource = jsonformat.parse(request.body)

    def _read(self, environ: dict[str, Any]) -> bytes:
        """The whole body, inflated, never more than the limit. Raises TooLarge (413)."""
        limit = self._max_body
        length_text = environ.get("CONTENT_LENGTH") or ""
        stream = environ["wsgi.input"]
        if length_text:
            try:
                length = int(length_text)
            except ValueError:
                raise BadRequest("Content-Length must be a number.", code="value") from None
            if length > limit:
                raise TooLarge(f"A body may have at most {limit:,} bytes.")
            body = stream.read(length) if length else b""
        else:
            parts: list[bytes] = []
            size = 0
            while size <= limit:
                part = stream.read(_CHUNK)
                if not part:
                    break
                parts.append(part)
                size += len(part)
            if size > limit:
                raise TooLarge(f"A body may have at most {limit:,} bytes.")
            body = b"".join(parts)
        encoding = (environ.get("HTTP_CONTENT_ENCODING") or "identity").strip().lower()
        if encoding in ("gzip", "x-gzip"):
            return _inflate(body, limit)
        if encoding != "identity":
            raise UnsupportedMediaType("Bodies may be encoded with gzip only.")
        return body

    # --- what every answer has ----------------------------------------------------------------------------------------

    def _failure(self, error: Exception, environ: dict[str, Any], request_id: str) -> render.Rendered:
        """The OperationOutcome of an error, in the format asked for where one can be made out."""
        found = outcome(error)
        if self._gate is not None and isinstance(error, Forbidden):
            bearer.explained(error)
        if not isinstance(error, FhirError):
            logger.error("Request %s failed.", request_id, exc_info=error)
        try:
            form, pretty = self._form(environ, environ.get("QUERY_STRING", ""))
        except FhirError:
            form, pretty = "json", False
        response = FhirResponse(found.status, resource=found.resource())
        if isinstance(error, FhirError) and error.headers:
            response.headers = list(error.headers.items())
        return render.render(response, form=form, pretty=pretty)

    def _common(self, environ: Mapping[str, Any], request_id: str) -> list[tuple[str, str]]:
        """The headers of every answer."""
        headers = [("X-Request-Id", request_id), *self._always]
        if environ["PATH_INFO"] != _METADATA and environ["REQUEST_METHOD"] != "OPTIONS":
            # Whatever names, shows or denies a resource: neither a shared cache nor the browser's own keeps it.
            headers.append(("Cache-Control", "no-store"))
        if "HTTP_ORIGIN" in environ:
            headers.extend(self._cors(environ))
        return headers

    def _cors(self, environ: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What a browser needs to hand the answer to a page of another origin. Fetch standard, 3.2."""
        origin = environ["HTTP_ORIGIN"]
        if "*" in self._origins:
            headers = [("Access-Control-Allow-Origin", "*")]
        elif origin in self._origins:
            headers = [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
        else:
            return [("Vary", "Origin")]
        headers.append(("Access-Control-Expose-Headers", EXPOSED_HEADERS))
        if environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ:
            headers.append(("Access-Control-Allow-Methods", ", ".join(_METHODS)))
            headers.append(("Access-Control-Allow-Headers", _REQUEST_HEADERS))
            headers.append(("Access-Control-Max-Age", "3600"))
        return headers

    def _write_log(self, method: str, template: str, names: str, status: str, started: int, request_id: str) -> None:
        """One line: method, path template, parameter names (never values), status, microseconds."""
        assert self._log is not None
        taken = (time.perf_counter_ns() - started) // 1000
        path = template if template.startswith("/") else _PREFIX + template
        if names:
            path = f"{path}?{names}"
        self._log.write(f"{method if method in _METHODS else '-'} {path} {status[:3]} {taken}us {request_id}\n")
        if started - self._flushed > _FLUSH_NS:
            # One line after a quiet moment is shown at once; in a burst they go out together.
            self._flushed = started
            self._log.flush()


class _Headers(Mapping[str, str]):
    """Request headers by their usual names, over a WSGI environ."""

    __slots__ = ("_environ",)

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        return self._environ["HTTP_" + name.upper().replace("-", "_")]

    def __iter__(self) -> Any:
        return (key[5:].replace("_", "-").title() for key in self._environ if key.startswith("HTTP_"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_resource(content_type: str, form: str, body: bytes) -> bool:
    """Whether a body sent to Binary is a Binary resource rather than content. Plain JSON may be either
    (binary.html#rest).
    """
    if form != "json" or negotiate.media_type(content_type)[0] == "application/fhir+json":
        return bool(form)
    try:
        value = jsonformat.parse(body)
    except FhirError:
        return False
    return isinstance(value, dict) and value.get("resourceType") == "Binary"


def _inflate(body: bytes, limit: int) -> bytes:
    """A gzip body, never more than `limit` bytes of it."""
    inflater = isal_zlib.decompressobj(31)
    try:
        plain = inflater.decompress(body, limit + 1)
    except _INFLATE_ERRORS:
        raise BadRequest("The body is not valid gzip.", code="structure") from None
    if len(plain) > limit:
        raise TooLarge(f"A body may have at most {limit:,} bytes.")
    if not inflater.eof or inflater.unused_data:
        raise BadRequest("The body is not one whole gzip member.", code="structure")
    return plain


def _template(target: dispatch.Target) -> str:
    """The path with ids taken out, for the log."""
    parts = [target.type or ""]
    if target.compartment is not None:
        parts = [target.compartment[0], "{id}", target.type or "*"]
    elif target.id is not None:
        parts.append("{id}")
    if target.shape.startswith("history"):
        parts.append("_history")
    elif target.shape == "version":
        parts += ["_history", "{vid}"]
    elif target.shape in ("search-type", "search-system", "compartment-search"):
        parts.append("_search")
    elif target.shape == "metadata":
        parts.append("metadata")
    if target.operation:
        parts.append("$" + target.operation)
    return "/".join(part for part in parts if part)


def _parameter_names(query: str) -> str:
    """Names of the parameters of a query string; one that cannot be a name is shown as "?"."""
    if not query:
        return ""
    names = (unquote_plus(pair.partition("=")[0]) for pair in query.split("&") if pair)
    return "&".join(name if _PARAMETER_NAME.match(name) else "?" for name in names)
