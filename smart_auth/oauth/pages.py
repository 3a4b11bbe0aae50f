"""The authorization endpoint as a browser sees it: GET and POST, the pages of a pending request, and its end."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from authlib.oauth2.rfc6749 import AccessDeniedError, OAuth2Error
from authlib.oauth2.rfc9207 import IssuerParameter
from flask import Blueprint, make_response, redirect, render_template, request
from flask_babel import gettext as _
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from smart_auth import limits, scopes
from smart_auth.context import Auth, Treated
from smart_auth.discovery import AUTHORIZE
from smart_auth.oauth import pending as waiting
from smart_auth.oauth import visits
from smart_auth.oauth.authorize import (
    Conversation,
    NotNow,
    Proposal,
    Unredirectable,
    asks_for_login,
    check,
    error_address,
    take_launch,
)
from smart_auth.oauth.pending import Pending
from smart_auth.oauth.server import Server
from smart_auth.problems import Throttled
from smart_auth.tokens import holds
from smart_auth.web import language
from smart_auth.web.forms import ConsentForm, PickForm
from smart_auth.web.sentences import consent_view
from smart_auth.web.shell import current_account, current_session
from smart_auth.web.views import PickView, allow_redirect, login_path

MAX_BODY: Final = 256 * 1024
PER_ADDRESS: Final = limits.Limit("authorize-address", 600, 60)
"""Everybody in a hospital may come from one address, and an authorization takes a handful of requests."""
_SHOWN: Final = 200


class Issuer(IssuerParameter):
    """RFC 9207 section 2: every authorization response says whose it is."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer

    def get_issuer(self) -> str:
        return self._issuer


def blueprint(auth: Auth, server: Server) -> Blueprint:
    """The authorization endpoint and the pages of pending requests."""
    pages = Blueprint("authorize", __name__)

    @pages.before_request
    def bound() -> Response | None:
        request.max_content_length = MAX_BODY
        try:
            auth.accounts.limits.hit_address(PER_ADDRESS, request.remote_addr or "")
        except Throttled as throttled:
            response = _told(_("Too many requests. Please wait a moment and begin again from the app."), 429)
            response.headers["Retry-After"] = str(throttled.retry_after_s)
            return response
        return None

    @pages.route(AUTHORIZE, methods=["GET", "POST"])
    def authorize() -> Response:
        """RFC 6749 section 3.1: GET has to be supported, POST may be; SMART's `authorize-post`."""
        values = request.form if request.method == "POST" else request.args
        try:
            asked, _grant = check(server, values, request.headers)
            params = asked.payload.data
            launch = take_launch(server, params, params["redirect_uri"])
        except Unredirectable as error:
            server.tell("authorize-refused", None, request.remote_addr or "", outcome=8, why=error.what)
            if error.what == "client":
                return _told(_("The hospital does not know the app that sent you here."))
            return _told(_("The app wants to send you on to an address that is not registered for it."))
        except OAuth2Error as error:
            return _refuse(error, values.get("client_id"))
        found = current_session()
        stale = found.id if found is not None and asks_for_login(params) else None
        # A browser that comes by POST from another site brings no cookie (SameSite), but does with this next request.
        response = redirect(waiting.begin(auth, params, launch, stale).path, 303)
        language.suggest(response, params.get("ui_locales", ""), secure=auth.settings.secure)
        return response

    @pages.route(waiting.PATH + "<secret>", methods=["GET", "POST"])
    def go_on(secret: str) -> Response:
        """Whatever is to be asked next, or the end."""
        pending = waiting.load(auth, secret)
        if pending is None:
            return _told(_("This request was answered already, or is too old."))
        allow_redirect(pending.params["redirect_uri"])
        try:
            check(server, _multi(pending.params), request.headers)
            return _advance(pending)
        except Unredirectable:
            return _told(_("The hospital does not know the app that sent you here."))
        except OAuth2Error as error:
            if not waiting.finish(auth, pending):
                return _told(_("This request was answered already, or is too old."))
            error.redirect_uri, error.state = pending.params["redirect_uri"], pending.params["state"]
            return _refuse(error, pending.params["client_id"])

    def _advance(pending: Pending) -> Response:
        silent = "none" in pending.params.get("prompt", "").split()
        login = _login(pending)
        if login is not None:
            if silent:
                raise NotNow("login_required")
            return redirect(login, 303)
        session, client = current_session(), server.clients.active(pending.params["client_id"])
        assert session is not None
        assert client is not None
        talk = Conversation(server, pending, client, session, current_account())
        talk.check_launch()
        if "again" in request.form:
            return _go_back(talk)
        chosen = _chosen(talk)
        if isinstance(chosen, Response):
            if silent:
                raise NotNow("interaction_required")
            return chosen
        visit = visits.choose(talk, chosen) if chosen is not None and talk.needs_visit() else None
        if isinstance(visit, Response):
            if silent:
                raise NotNow("interaction_required")
            return visit
        proposal = talk.propose(chosen, visit)
        if not proposal.scope:
            raise AccessDeniedError()
        if talk.is_approved(proposal):
            return _finish(talk, proposal, list(proposal.scope))
        if silent:
            raise NotNow("consent_required")
        return _ask(talk, proposal)

    def _login(pending: Pending) -> str | None:
        """The page to log in or to choose a role at; None for somebody who has done both, as lately as was asked."""
        session, then = current_session(), quote(pending.path, safe="")
        if session is None:
            return login_path(pending.path)
        params = pending.params
        oldest = 0
        if "max_age" in params:
            oldest = pending.created_at - int(params["max_age"][:9])
        if pending.stale == session.id or session.auth_time < oldest:
            return f"{login_path(pending.path)}&again=1"
        if asks_for_login(params) and session.auth_time < pending.created_at:
            return f"{login_path(pending.path)}&again=1"
        chosen = session.role is not None and holds(current_account(), session.role)
        return None if chosen else f"/login/role?next={then}"

    def _chosen(talk: Conversation) -> Treated | Response | None:
        """The patient that was chosen, None when there is none to choose, or the page to do it."""
        if not talk.needs_patient():
            return None
        progress = talk.progress
        sent = not {"decision", "search", "patient"}.isdisjoint(request.form)
        form = PickForm() if sent else PickForm(formdata=None)
        text = (form.text.data or "")[:100] if "search" in request.form and form.validate_on_submit() else ""
        people = talk.people(text)
        if not talk.searches() and len(people) <= 1:
            return people[0] if people else None
        known = {one["patient"]: Treated(**one) for one in progress.get("offered", ())}
        if progress.get("patient") in known:
            picked = known[progress["patient"]]
            return picked if talk.searches() or picked.patient in {one.patient for one in people} else None
        if form.is_submitted() and form.validate() and "search" not in request.form:
            if request.form.get("decision") == "deny":
                raise AccessDeniedError()
            wanted = request.form.get("patient", "")
            if wanted in known:
                talk.keep(offered=progress["offered"], patient=wanted)
                return redirect(talk.pending.path, 303)
        talk.keep(offered=[_plain(one) for one in people])
        view = PickView(talk.client, people, talk.pending.params["redirect_uri"], talk.searches(), text)
        form = PickForm(formdata=None, request=talk.pending.secret, text=text)
        return make_response(render_template("pick_patient.html", view=view, form=form))

    def _go_back(talk: Conversation) -> Response:
        """From the consent page to the choice of another visit, or of another patient."""
        form = ConsentForm()
        if form.validate_on_submit():
            kept = ("offered", "patient") if request.form["again"] == "visit" else ()
            talk.keep(**{name: value for name, value in talk.progress.items() if name in kept})
        return redirect(talk.pending.path, 303)

    def _ask(talk: Conversation, proposal: Proposal) -> Response:
        """The consent page, or what was answered there."""
        view = consent_view(
            talk.client,
            talk.account.name,
            talk.role,
            proposal.patient.name if proposal.patient is not None else None,
            scopes.render(proposal.scope),
            talk.pending.params["redirect_uri"],
            visit=proposal.visit,
            chooses_visit=talk.needs_visit(),
            choices=_choices(talk, proposal),
        )
        form = ConsentForm()
        if form.is_submitted() and request.form.get("decision") in ("allow", "deny") and form.validate():
            if request.form["decision"] == "deny":
                raise AccessDeniedError()
            if form.about.data == _about(proposal):
                granted = scopes.parse(" ".join(view.granted(request.form.getlist("scope")[:_SHOWN])))
                return _finish(talk, proposal, granted, remember=bool(form.remember.data))
        form = ConsentForm(formdata=None, request=talk.pending.secret, about=_about(proposal))
        return make_response(render_template("consent.html", view=view, form=form))

    def _finish(
        talk: Conversation, proposal: Proposal, granted: list[scopes.Scope], *, remember: bool = False
    ) -> Response:
        decision = talk.decide(proposal, granted)
        if not waiting.finish(auth, talk.pending):
            return _told(_("This request was answered already, or is too old."))
        if remember:
            talk.remember(proposal, scopes.parse(decision.grant.scope))
        asked, grant = check(server, _multi(talk.pending.params), request.headers)
        response: Response = server.create_authorization_response(asked, grant_user=decision, grant=grant)
        response.status_code = 303 if request.method == "POST" else 302
        made = decision.grant
        server.tell(
            "authorize", talk.client, request.remote_addr or "", account=made.account, name=made.name, role=made.role,
            fhir_user=made.fhir_user, patient=made.patient, scope=made.scope,
        )  # fmt: skip
        return response

    def _refuse(error: OAuth2Error, client_id: str | None) -> Response:
        client = server.clients.get(client_id or "")
        person = current_account() if current_session() is not None else None
        server.tell(
            "authorize-refused", client, request.remote_addr or "", outcome=4, why=error.error or "",
            account=person.id if person else None, name=person.name if person else None,
        )  # fmt: skip
        return redirect(error_address(server, error), 303 if request.method == "POST" else 302)

    return pages


def _told(text: str, status: int = 400) -> Response:
    return make_response(render_template("authorize_error.html", title=None, text=text), status)


def _multi(params: dict[str, str]) -> Any:
    return MultiDict(params)


def _plain(one: Treated) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Treated.__slots__}


def _choices(talk: Conversation, proposal: Proposal) -> tuple[str, ...]:
    """What was chosen of several, and may be chosen anew."""
    visit = proposal.visit.encounter if proposal.visit is not None else None
    chosen = ("patient" in talk.progress, visit is not None and talk.progress.get("visit") == visit)
    return tuple(name for name, kept in zip(("patient", "visit"), chosen, strict=True) if kept)


def _about(proposal: Proposal) -> str:
    """Whom and which visit a consent page shows. Another page of the same request may have chosen others since, and a
    visit may have begun: what is granted is what was shown.
    """
    patient = proposal.patient.patient if proposal.patient is not None else ""
    return f"{patient}/{proposal.visit.encounter if proposal.visit is not None else ''}"
