"""One's own account: name and contact, password and second factor, sessions, apps, who looked at the record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flask import Blueprint, flash, redirect, request, url_for
from flask_babel import gettext as _

from smart_auth.context import Auth
from smart_auth.problems import Problem, UnusableValue
from smart_auth.records import Account, Approval, Client, Grant
from smart_auth.sessions import revoke
from smart_auth.web import words
from smart_auth.web.forms import ActionForm, ChangePasswordForm, ContactCodeForm, NewContactForm, ProfileForm, TotpForm
from smart_auth.web.pictures import enrolment
from smart_auth.web.sentences import sentences
from smart_auth.web.shell import (
    Answer,
    address,
    current_account,
    current_role,
    current_session,
    logged_in,
    page,
    put_cookie,
    recent,
    tell,
)

SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class App:
    """An app that may act for somebody, all its grants together."""

    client: str
    name: str
    can: list[str]
    """Sentences."""
    since: int
    last_used_at: int
    remembered: bool
    patients: list[str]
    """Names of the people whose records it may use."""


def apps_of(auth: Auth, account: Account) -> list[App]:
    """The apps that have a grant of an account, or that it is not asked about again; those used last first."""
    now = auth.clock()
    grants: dict[str, list[Grant]] = {}
    for grant in auth.store.find(Grant, account=account.id):
        if grant.revoked_at is None and (grant.expires_at is None or grant.expires_at > now):
            grants.setdefault(grant.client, []).append(grant)
    approvals: dict[str, list[Approval]] = {}
    for approval in auth.store.find(Approval, account=account.id):
        approvals.setdefault(approval.client, []).append(approval)
    apps = []
    for id_ in dict.fromkeys([*grants, *approvals]):
        client = auth.store.get(Client, id_)
        own = grants.get(id_, [])
        kept = [*own, *approvals.get(id_, ())]
        apps.append(
            App(
                client=id_,
                name=client.name if client is not None else (own[0].client_name if own else "") or id_,
                can=sentences(" ".join(one.scope for one in kept)),
                since=min(one.created_at for one in kept),
                last_used_at=max((one.last_used_at for one in own), default=0),
                remembered=id_ in approvals,
                patients=list(dict.fromkeys(filter(None, (_patient(auth, one.patient) for one in kept)))),
            )
        )
    return sorted(apps, key=lambda one: -max(one.last_used_at, one.since))


def _patient(auth: Auth, id: str | None) -> str | None:
    return None if id is None else auth.directory.display(f"Patient/{id}")


def remove_app(auth: Auth, account: Account, client: str) -> bool:
    """Ends what an app may do for an account; whether there was anything."""
    ended = [revoke(auth, one) for one in auth.store.find(Grant, account=account.id) if one.client == client]
    approvals = [one for one in auth.store.find(Approval, account=account.id) if one.client == client]
    for one in approvals:
        auth.store.delete(Approval, one.id)
    return any(ended) or bool(approvals)


def blueprint(auth: Auth) -> Blueprint:
    """The pages below /account."""
    pages = Blueprint("account", __name__, url_prefix="/account")

    @pages.route("", methods=["GET", "POST"], strict_slashes=False)
    @logged_in
    def profile() -> Answer:
        account = current_account()
        form = ProfileForm(name=account.name, username=account.username or "")
        if not form.validate_on_submit():
            return _profile(form)
        try:
            if form.name.data.strip() != account.name:
                auth.accounts.rename(account.id, form.name.data, address())
            if (form.username.data or "").strip() not in ("", account.username):
                auth.accounts.set_username(account.id, form.username.data, address())
        except Problem as problem:
            return _profile(form, problem)
        flash(_("Saved."), "info")
        return redirect(url_for("account.profile"), 303)

    def _profile(form: ProfileForm, problem: Problem | None = None) -> Answer:
        account = current_account()
        link = next((one for one in account.roles if one.role == current_role()), None)
        people = auth.directory.treated(account.person, link.fhir_user if link else None)
        return page(
            "account.html",
            problem,
            form,
            page="account",
            phone=auth.accounts.phone(account),
            email=auth.accounts.email(account),
            people=people if any(one.role == "patient" for one in account.roles) else [],
        )

    @pages.route("/contact", methods=["GET", "POST"])
    @logged_in
    @recent(auth)
    def contact() -> Answer:
        form = NewContactForm()
        if not form.validate_on_submit():
            return page("contact.html", None, form, page="account", sent=False)
        try:
            auth.accounts.request_contact_code(current_account().id, form.contact.data, address())
        except UnusableValue as problem:
            form.contact.errors = [*form.contact.errors, words.say(problem)]
            return page("contact.html", None, form, page="account", sent=False)
        except Problem as problem:
            return page("contact.html", problem, form, page="account", sent=False)
        entry = ContactCodeForm(formdata=None, contact=form.contact.data)
        return page("contact.html", None, entry, page="account", sent=True)

    @pages.route("/contact/confirm", methods=["GET", "POST"])
    @logged_in
    @recent(auth)
    def confirm_contact() -> Answer:
        form = ContactCodeForm()
        if request.method == "GET":
            return redirect(url_for("account.contact"), 303)
        if not form.validate_on_submit():
            return page("contact.html", None, form, page="account", sent=True)
        code = "".join(form.code.data.split())
        try:
            auth.accounts.confirm_contact(current_account().id, form.contact.data, code, address())
        except Problem as problem:
            return page("contact.html", problem, form, page="account", sent=True)
        flash(_("This now belongs to your account, and you can log in with it."), "info")
        return redirect(url_for("account.profile"), 303)

    @pages.get("/security")
    @logged_in
    def security() -> Answer:
        account = current_account()
        return page(
            "security.html",
            None,
            ActionForm(formdata=None),
            page="security",
            second=account.totp_secret is not None,
            required=auth.accounts.second_factor.required(account),
            codes_left=len(account.recovery_codes),
        )

    @pages.route("/password", methods=["GET", "POST"])
    @logged_in
    def password() -> Answer:
        account, form = current_account(), ChangePasswordForm()
        if not form.validate_on_submit():
            return page("password.html", None, form, page="security")
        found = current_session()
        assert found is not None
        try:
            auth.accounts.check_password(account.id, form.current.data, address())
            auth.accounts.set_password(account.id, form.password.data, address(), keep_session=found.id)
        except Problem as problem:
            return page("password.html", problem, form, page="security")
        rotated = auth.accounts.sessions.rotate(found, auth_time=auth.clock())
        flash(_("Your password is changed. All other devices were logged out."), "info")
        response = redirect(url_for("account.security"), 303)
        return response if rotated is None else put_cookie(auth, response, rotated[0])

    @pages.route("/second-factor", methods=["GET", "POST"])
    @logged_in
    @recent(auth)
    def second_factor() -> Answer:
        account, form, problem = current_account(), TotpForm(), None
        if form.validate_on_submit():
            try:
                codes = auth.accounts.second_factor.confirm(account.id, "".join(form.code.data.split()), address())
            except Problem as refused:
                problem = refused
            else:
                return page("recovery_codes.html", page="security", codes=codes, onward=url_for("account.security"))
        secret, picture = enrolment(auth, account, fresh=request.method == "GET")
        act = url_for("account.second_factor")
        return page("totp.html", problem, form, page="security", secret=secret, picture=picture, act=act)

    @pages.post("/second-factor/off")
    @logged_in
    @recent(auth)
    def second_factor_off() -> Answer:
        try:
            auth.accounts.second_factor.disable(current_account().id, address())
        except Problem as problem:
            flash(words.say(problem), "error")
        else:
            flash(_("The second factor is off."), "info")
        return redirect(url_for("account.security"), 303)

    @pages.post("/second-factor/codes")
    @logged_in
    @recent(auth)
    def recovery_codes() -> Answer:
        try:
            codes = auth.accounts.second_factor.renew_recovery_codes(current_account().id, address())
        except Problem as problem:
            flash(words.say(problem), "error")
            return redirect(url_for("account.security"), 303)
        return page("recovery_codes.html", page="security", codes=codes, onward=url_for("account.security"))

    @pages.get("/sessions")
    @logged_in
    def sessions() -> Answer:
        found = current_session()
        assert found is not None
        own = auth.accounts.sessions.list(current_account().id)
        own.sort(key=lambda one: (one.id != found.id, -one.last_seen_at))
        return page("sessions.html", page="security", sessions=own, here_id=found.id)

    @pages.post("/sessions/end")
    @logged_in
    def end_session() -> Answer:
        account, found = current_account(), current_session()
        assert found is not None
        wanted = request.form.get("session", "")
        if wanted == "others":
            ended = auth.accounts.sessions.end_all(account.id, keep=found.id)
        else:
            own = {one.id for one in auth.accounts.sessions.list(account.id)} - {found.id}
            ended = int(wanted in own and auth.accounts.sessions.end(wanted))
        if ended:
            tell(auth, "session-end", account, found.role, count=str(ended))
            flash(_("Logged out there."), "info")
        return redirect(url_for("account.sessions"), 303)

    @pages.get("/apps")
    @logged_in
    def apps() -> Answer:
        return page("apps.html", page="apps", apps=apps_of(auth, current_account()))

    @pages.post("/apps/remove")
    @logged_in
    def remove() -> Answer:
        account, client = current_account(), request.form.get("client", "")
        if remove_app(auth, account, client):
            tell(auth, "revoke", account, current_role(), client=client)
            flash(_("The app can no longer use your data."), "info")
        return redirect(url_for("account.apps"), 303)

    @pages.get("/access-log")
    @logged_in
    def access_log() -> Answer:
        rows = None if auth.access_log is None else auth.access_log(current_account())[:SHOWN]
        return page("access_log.html", page="access-log", rows=rows)

    return pages
