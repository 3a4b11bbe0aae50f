"""The authorization endpoint. RFC 6749 section 3.1 and 4.1, RFC 9207, OpenID Connect Core section 3.1.2, and
SMART App Launch 2.2, app-launch.html, "Obtain authorization code".

`check` decides whether a request is one; `Conversation` leads a person through it: login, role, patient, visit,
consent.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc6749 import (
    AccessDeniedError,
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Error,
    UnauthorizedClientError,
)
from werkzeug.datastructures import MultiDict

from smart_auth import scopes
from smart_auth.clients import BACKEND
from smart_auth.context import Auth, Treated, Visit
from smart_auth.oauth import pending as waiting
from smart_auth.oauth.pending import Pending
from smart_auth.oauth.server import OAuthRequest, Server, is_text
from smart_auth.oauth.token import Decision
from smart_auth.records import Account, Approval, Client, Grant, Launch, Session
from smart_auth.tokens import new_id

MAX_STATE: Final = 4096
VISIT: Final = "launch/encounter"
_UNSUPPORTED: Final = {
    "request": "request_not_supported",
    "request_uri": "request_uri_not_supported",
    "registration": "registration_not_supported",
}
"""OpenID Connect Core section 3.1.2.6."""


class Unredirectable(Exception):
    """The client or its redirect address is not known: the person is told, and the browser is sent nowhere.

    RFC 6749 section 4.1.2.1. `what` is "client" or "redirect_uri".
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class NotNow(OAuth2Error):
    """`prompt=none`, and somebody would have to be asked. OpenID Connect Core section 3.1.2.6."""

    def __init__(self, error: str) -> None:
        super().__init__(error=error, description="The request needs the person, who must not be asked.")


def check(server: Server, values: MultiDict[str, str], headers: Any) -> tuple[OAuthRequest, Any]:
    """The request and Authlib's grant for it.

    Raises: Unredirectable; OAuth2Error with `redirect_uri` and, where it was good, `state`.
    """
    client, redirect_uri = _addressee(server, values)
    given = values.getlist("state")
    state = given[0] if len(given) == 1 and _is_state(given[0]) else None
    try:
        return _check(server, values, headers, client)
    except OAuth2Error as error:
        error.redirect_uri, error.state = redirect_uri, state
        raise


def _addressee(server: Server, values: MultiDict[str, str]) -> tuple[Client, str]:
    clients, redirects = values.getlist("client_id"), values.getlist("redirect_uri")
    client = server.clients.active(clients[0]) if len(clients) == 1 and is_text(clients[0]) else None
    if client is None:
        raise Unredirectable("client")
    if len(redirects) != 1 or not server.query_client(client.id).check_redirect_uri(redirects[0]):
        raise Unredirectable("redirect_uri")
    return client, redirects[0]


def _is_state(state: str) -> bool:
    """RFC 6749 appendix A.5: printable ASCII."""
    return 0 < len(state) <= MAX_STATE and state.isascii() and state.isprintable()


def _check(server: Server, values: MultiDict[str, str], headers: Any, client: Client) -> tuple[OAuthRequest, Any]:
    params = {}
    for name, all_of_it in values.lists():
        if len(all_of_it) > 1:
            raise InvalidRequestError("A parameter is repeated.")  # RFC 6749 section 3.1
        if not is_text(all_of_it[0]):
            raise InvalidRequestError("A parameter is too long or no text.")
        if all_of_it[0]:
            params[name] = all_of_it[0]
    for name, error in _UNSUPPORTED.items():
        if name in params:
            raise OAuth2Error(error=error, description=f"{name} is not supported.")
    if "response_type" not in params:
        raise InvalidRequestError("response_type is required.")
    if params["response_type"] != "code":
        raise OAuth2Error(error="unsupported_response_type", description="response_type has to be code.")
    if client.type == BACKEND:
        raise UnauthorizedClientError("A back-end service has no authorization endpoint.")
    if params.get("response_mode", "query") != "query":
        raise InvalidRequestError("response_mode has to be query.")
    # app-launch.html: response_type, client_id, redirect_uri, scope, state, aud and PKCE are required.
    if "state" not in params or not _is_state(params["state"]):
        raise InvalidRequestError("state is required, in printable ASCII.")
    if "aud" not in params:
        raise InvalidRequestError("aud is required.")
    if params["aud"].rstrip("/") != server.auth.settings.base_url.rstrip("/"):
        raise InvalidRequestError("aud is not the FHIR base of this server.")
    _check_prompt(params)
    words = params.get("scope", "").split()
    if not scopes.intersect(scopes.parse(params.get("scope", "")), scopes.parse(client.scope)):
        raise InvalidScopeError("None of the requested scopes can be granted to this client.")
    if "launch" in params and "launch" not in words:
        raise InvalidRequestError("The launch parameter needs the scope launch.")
    request = OAuthRequest("GET", params, headers, "")
    grant = server.get_authorization_grant(request)
    grant.validate_authorization_request()
    return request, grant


def _check_prompt(params: dict[str, str]) -> None:
    """OpenID Connect Core section 3.1.2.1."""
    prompts = params.get("prompt", "").split()
    if "none" in prompts and len(prompts) > 1:
        raise InvalidRequestError("prompt none stands alone.")
    if "max_age" in params and not (params["max_age"].isascii() and params["max_age"].isdigit()):
        raise InvalidRequestError("max_age is a number of seconds.")


def asks_for_login(params: dict[str, str]) -> bool:
    """Whether the person has to log in however lately that was. Section 3.1.2.1: max_age=0 means prompt=login."""
    prompts = params.get("prompt", "").split()
    return "login" in prompts or "select_account" in prompts or params.get("max_age", "1").strip("0") == ""


def take_launch(server: Server, params: dict[str, str], redirect_uri: str) -> Launch | None:
    """The EHR launch that a request names. Raises: InvalidRequestError for one that is unknown, used or too old."""
    if "launch" not in params:
        return None
    found = server.launches.take(params["launch"])
    if found is None or found.client not in (None, params["client_id"]):
        raise InvalidRequestError(
            "The launch is not known, or was used.", redirect_uri=redirect_uri, state=params["state"]
        )
    return found


def error_address(server: Server, error: OAuth2Error) -> str:
    """Where an error goes. RFC 6749 section 4.1.2.1, with `iss` of RFC 9207 section 2."""
    pairs = [*error.get_body(), ("iss", server.auth.settings.issuer)]
    address: str = add_params_to_uri(error.redirect_uri, pairs)
    return address


# --- a person and a request -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proposal:
    """What would be granted: to whom, about whom and which visit, and which scopes in the order asked."""

    scope: tuple[scopes.Scope, ...]
    patient: Treated | None
    visit: Visit | None
    context: dict[str, Any]
    fhir_user: str


@dataclass(frozen=True)
class Conversation:
    """One pending request, its client, and the person whose browser it is."""

    server: Server
    pending: Pending
    client: Client
    session: Session
    account: Account

    @property
    def auth(self) -> Auth:
        return self.server.auth

    @property
    def role(self) -> str:
        assert self.session.role is not None
        return self.session.role

    @property
    def own(self) -> str:
        """Who the person is in the active role: a relative reference."""
        return next((link.fhir_user for link in self.account.roles if link.role == self.role), "")

    @property
    def possible(self) -> list[scopes.Scope]:
        """What was asked and may be asked by this client; nothing of the system here."""
        asked = scopes.parse(self.pending.params["scope"])
        found = scopes.intersect(asked, scopes.parse(self.client.scope))
        return [one for one in found if not (isinstance(one, scopes.ResourceScope) and one.context == "system")]

    def check_launch(self) -> None:
        """An EHR launch is of one person in one role. Raises: InvalidRequestError."""
        launch = self.pending.launch
        if launch is not None and (launch.account, launch.role) != (self.account.id, self.role):
            raise InvalidRequestError("The launch is of another person or role.")

    # --- what the person did so far -----------------------------------------------------------------------------------

    @property
    def progress(self) -> dict[str, Any]:
        """What this person in this role chose: `patient` of the `offered`, `visit` of the patient `of`. What another
        chose at the same browser counts for nothing.
        """
        found = self.pending.progress
        ours = (found.get("account"), found.get("role")) == (self.account.id, self.role)
        return {name: value for name, value in found.items() if name not in ("account", "role")} if ours else {}

    def keep(self, **progress: Any) -> None:
        """Keeps what the person did, in place of what was kept."""
        waiting.keep(self.auth, self.pending, account=self.account.id, role=self.role, **progress)

    # --- whose record -------------------------------------------------------------------------------------------------

    def needs_patient(self) -> bool:
        """Whether somebody has to be chosen: asked for outright, or by scopes that mean nothing without."""
        return self.pending.launch is None and any(_of_a_patient(one) for one in self.possible)

    def people(self, text: str) -> tuple[Treated, ...]:
        """Whom this person may choose from: those he or she acts for; for staff the patients that a search finds."""
        if self.role == "patient":
            return tuple(self.auth.directory.treated(self.account.person, self.own))
        return tuple(self.auth.directory.patients(self.role, self.own, text))

    def searches(self) -> bool:
        """Whether patients are searched for rather than listed."""
        return self.role != "patient"

    def needs_visit(self) -> bool:
        """Whether an encounter has to be chosen. An EHR launch has brought what it has."""
        return self.pending.launch is None and any(one.text == VISIT for one in self.possible)

    def visits(self, patient: Treated, until: str | None, limit: int) -> list[Visit]:
        """Those of the patient that this person may see, the newest first."""
        return self.auth.directory.visits(self.role, self.account.person, self.own, patient.patient, until, limit)

    def visit(self, patient: Treated, encounter: str) -> Visit | None:
        """One of them, by the id of the encounter."""
        return self.auth.directory.visit(self.role, self.account.person, self.own, patient.patient, encounter)

    # --- what would be granted ----------------------------------------------------------------------------------------

    def propose(self, patient: Treated | None, visit: Visit | None = None) -> Proposal:
        """What makes sense of what was asked, with the patient and the visit chosen, or those of the launch."""
        launch = self.pending.launch
        context: dict[str, Any] = {}
        if launch is not None:
            patient = self._launched(launch)
            visit = self.visit(patient, launch.encounter) if patient and launch.encounter else None
            context = dict(launch.context)
        if patient is not None:
            context.setdefault("need_patient_banner", True)
        if patient is not None or launch is not None:
            context.setdefault("smart_style_url", self.auth.settings.issuer + "/oauth/style.json")
            if self.auth.settings.tenant:
                context.setdefault("tenant", self.auth.settings.tenant)
        kept = tuple(one for one in self.possible if self._makes_sense(one, patient, visit))
        acting = patient.related_person if patient is not None and self.role == "patient" else None
        return Proposal(kept, patient, visit, context, acting or self.own)

    def _launched(self, launch: Launch) -> Treated | None:
        if launch.patient is None:
            return None
        own = self.people("") if self.role == "patient" else ()
        known = next((one for one in own if one.patient == launch.patient), None)
        if self.role == "patient" and known is None:
            raise AccessDeniedError()
        name = self.auth.directory.display(f"Patient/{launch.patient}") or launch.patient
        return known or Treated(patient=launch.patient, name=name, relation="")

    def _makes_sense(self, scope: scopes.Scope, patient: Treated | None, visit: Visit | None) -> bool:
        if isinstance(scope, scopes.ResourceScope):
            return scope.context != "patient" or patient is not None
        if scope.text == "launch":
            return self.pending.launch is not None
        if scope.text in scopes.REFRESH:
            words = {one.text for one in self.possible}
            return "refresh_token" in self.client.grant_types and (
                scope.text == "offline_access" or "offline_access" not in words
            )
        return not ((scope.text == "launch/patient" and patient is None) or (scope.text == VISIT and visit is None))

    # --- consent ------------------------------------------------------------------------------------------------------

    def approval_id(self) -> str:
        """An approval is of one role: `user/` scopes reach other records in another."""
        return f"{self.account.id}|{self.client.id}|{self.role}"

    def is_approved(self, proposal: Proposal) -> bool:
        """Whether the person need not be asked: the hospital's own app, or remembered for no less and this patient."""
        if "consent" in self.pending.params.get("prompt", "").split():
            return False
        if self.client.trusted:
            return True
        found = self.auth.store.get(Approval, self.approval_id())
        if found is None or found.patient != (proposal.patient.patient if proposal.patient else None):
            return False
        allowed = scopes.parse(found.scope)
        return all(scopes.covers(allowed, one) for one in proposal.scope)

    def remember(self, proposal: Proposal, granted: list[scopes.Scope]) -> None:
        """Keeps the person's answer for the next time."""
        self.auth.store.put(
            Approval(
                id=self.approval_id(),
                account=self.account.id,
                client=self.client.id,
                scope=scopes.render(granted),
                patient=proposal.patient.patient if proposal.patient else None,
                created_at=self.auth.clock(),
            )
        )

    def decide(self, proposal: Proposal, granted: list[scopes.Scope]) -> Decision:
        """The grant of what was allowed. Raises: AccessDeniedError when nothing was.

        Every scope lies within the proposal: what is granted is what was shown.
        """
        asked = [one.text for one in proposal.scope]
        kept = [one for one in granted if scopes.covers(proposal.scope, one)]
        kept.sort(key=lambda one: asked.index(one.text) if one.text in asked else len(asked))
        if not kept:
            raise AccessDeniedError()
        words = {one.text for one in kept}
        if not any(one.text == "launch" or _of_a_patient(one) for one in kept):
            proposal = dataclasses.replace(proposal, patient=None, visit=None, context={}, fhir_user=self.own)
        elif self.pending.launch is None and VISIT not in words:
            proposal = dataclasses.replace(proposal, visit=None)
        now = self.auth.clock()
        grant = Grant(
            id=new_id(),
            client=self.client.id,
            client_name=self.client.name,
            account=self.account.id,
            name=self.account.name,
            role=self.role,
            fhir_user=proposal.fhir_user or None,
            person=self.account.person,
            scope=scopes.render(kept),
            patient=proposal.patient.patient if proposal.patient else None,
            encounter=proposal.visit.encounter if proposal.visit else None,
            context=proposal.context,
            session=self.session.id if "online_access" in words else None,
            auth_time=self.session.auth_time,
            created_at=now,
            expires_at=now + self.auth.settings.code_lifetime_s + 60,
        )
        return Decision(grant, self.session.amr)


def _of_a_patient(scope: scopes.Scope) -> bool:
    """Whether a scope means nothing without a patient; an encounter is somebody's."""
    if isinstance(scope, scopes.ResourceScope):
        return scope.context == "patient"
    return scope.text in ("launch/patient", VISIT)
