"""Logging in and out: password or code, a first own password, second factor, role. Kernel K1.

Whatever is wrong with who logs in is said in the same words, and the session gets a new id at each step that gives
rights (`smart_auth.sessions`).
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_babel import get_locale
from flask_babel import gettext as _

from smart_auth.accounts import MustChange
from smart_auth.context import Auth
from smart_auth.problems import Problem
from smart_auth.records import Account
from smart_auth.web import steps, words
from smart_auth.web.forms import (
    ActionForm,
    ConfirmForm,
    LoginForm,
    NewPasswordForm,
    PhoneCodeForm,
    PhoneForm,
    RoleForm,
    SecondFactorForm,
    TotpForm,
    choices,
)
from smart_auth.web.pictures import enrolment
from smart_auth.web.shell import (
    Answer,
    address,
    current_account,
    current_session,
    drop_cookie,
    logged_in,
    onward,
    page,
    put_cookie,
    tell,
)
from smart_auth.web.views import allow_redirect, own_path, pending_redirect

HOME: Final = "/account"


def locale() -> str:
    """The language of the page, for messages that are sent."""
    return str(get_locale() or "zh")


def admit(auth: Auth, account: Account, amr: tuple[str, ...], then: str) -> Answer:
    """Goes on with a person whose first factor was right: to whatever is still missing, then in.

    The second factor comes before anything can be changed, so that a password alone changes nothing.
    """
    if account.totp_secret is not None and "mfa" not in amr:
        steps.begin(auth, steps.SECOND, account, amr, then)
        return redirect(url_for("login.second"), 303)
    if account.must_change_password:
        steps.begin(auth, steps.RENEW, account, amr, then)
        return redirect(url_for("login.new_password"), 303)
    if auth.accounts.second_factor.missing(account):
        steps.begin(auth, steps.ENROL, account, amr, then)
        return redirect(url_for("login.enrol"), 303)
    return enter(auth, account, amr, then)


def enter(auth: Auth, account: Account, amr: tuple[str, ...], then: str, role: str | None = None) -> Answer:
    """Starts the session of a person who has shown all that is asked for, in a role if there is only one."""
    roles = [link.role for link in account.roles if role in (None, link.role)]
    if not roles:
        text = _("This account has no role any more. Please ask the hospital.")
        return render_template("message.html", title=_("No role"), text=text, bad=True, onward="/login"), 403
    role = roles[0] if len(roles) == 1 else None
    cookie, _session = auth.accounts.sessions.start(
        account.id,
        amr,
        role=role,
        address=address(),
        user_agent=request.user_agent.string,
        replaces=current_session(),
    )
    tell(auth, "login", account, role, amr=" ".join(amr))
    target = then if role is not None else url_for("login.role", next=then)
    return put_cookie(auth, redirect(target, 303), cookie)


def blueprint(auth: Auth) -> Blueprint:
    """The pages below /login, and /logout."""
    pages = Blueprint("login", __name__)

    @pages.before_request
    def let_forms_lead_to_the_app() -> None:
        """An authorization that waits for this login may answer the last form with a redirect to the app."""
        then = own_path(request.values.get("next"))
        for what in (steps.SECOND, steps.ENROL, steps.RENEW):
            if then is None and (step := steps.current(auth, what)) is not None:
                then = step.then
        target = pending_redirect(auth, then)
        if target is not None:
            allow_redirect(target)

    @pages.route("/login", methods=["GET", "POST"])
    def form() -> Answer:
        then = onward(HOME)
        if request.method == "GET" and current_session() is not None and "again" not in request.args:
            return redirect(then, 303)
        form = LoginForm(next=then)
        if not form.validate_on_submit():
            return page("login.html", None, form, then=then)
        try:
            account = auth.accounts.authenticate(form.name.data, form.password.data, address())
        except MustChange as change:
            account = change.account
        except Problem as problem:
            return page("login.html", problem, form, then=then)
        return admit(auth, account, ("pwd",), then)

    @pages.route("/login/code", methods=["GET", "POST"])
    def code() -> Answer:
        then = onward(HOME)
        form = PhoneForm(next=then)
        if not form.validate_on_submit():
            return page("login_code.html", None, form, then=then, sent=False)
        try:
            auth.accounts.request_login_code(form.phone.data, address(), locale())
        except Problem as problem:
            return page("login_code.html", problem, form, then=then, sent=False)
        entry = PhoneCodeForm(formdata=None, phone=form.phone.data, next=then)
        return page("login_code.html", None, entry, then=then, sent=True)

    @pages.post("/login/code/check")
    def check_code() -> Answer:
        then = onward(HOME)
        form = PhoneCodeForm(next=then)
        if not form.validate_on_submit():
            return page("login_code.html", None, form, then=then, sent=True)
        try:
            account = auth.accounts.authenticate_by_code(form.phone.data, _digits(form.code.data), address())
        except Problem as problem:
            return page("login_code.html", problem, form, then=then, sent=True)
        return admit(auth, account, ("sms",), then)

    @pages.route("/login/second", methods=["GET", "POST"])
    def second() -> Answer:
        step = steps.current(auth, steps.SECOND)
        if step is None:
            return redirect(url_for("login.form"), 303)
        form = SecondFactorForm()
        if not form.validate_on_submit():
            return page("login_second.html", None, form)
        try:
            method = auth.accounts.second_factor.verify(step.account.id, form.code.data, address())
        except Problem as problem:
            return page("login_second.html", problem, form)
        if not steps.finish(auth, step):
            return redirect(url_for("login.form"), 303)
        return admit(auth, step.account, (*step.amr, method, "mfa"), step.then)

    @pages.route("/login/enrol", methods=["GET", "POST"])
    def enrol() -> Answer:
        """The first second factor of somebody whose role requires one."""
        step = steps.current(auth, steps.ENROL)
        if step is None:
            return redirect(url_for("login.form"), 303)
        form = TotpForm()
        problem = None
        if form.validate_on_submit():
            try:
                codes = auth.accounts.second_factor.confirm(step.account.id, _digits(form.code.data), address())
            except Problem as refused:
                problem = refused
            else:
                return _enrolled(step, codes)
        secret, picture = enrolment(auth, step.account, fresh=request.method == "GET")
        act = url_for("login.enrol")
        return page("totp.html", problem, form, secret=secret, picture=picture, act=act, required=True)

    def _enrolled(step: steps.Step, codes: list[str]) -> Answer:
        steps.finish(auth, step)
        account = auth.accounts.get(step.account.id) or step.account
        response = enter(auth, account, (*step.amr, "otp", "mfa"), step.then)
        if isinstance(response, (str, tuple)):
            return response
        response.set_data(render_template("recovery_codes.html", codes=codes, onward=step.then))
        response.status_code = 200
        del response.headers["Location"]
        return response

    @pages.route("/login/password", methods=["GET", "POST"])
    def new_password() -> Answer:
        step = steps.current(auth, steps.RENEW)
        if step is None:
            return redirect(url_for("login.form"), 303)
        form = NewPasswordForm()
        if not form.validate_on_submit():
            return page("login_password.html", None, form)
        try:
            auth.accounts.set_password(step.account.id, form.password.data, address())
        except Problem as problem:
            return page("login_password.html", problem, form)
        steps.finish(auth, step)
        account = auth.accounts.get(step.account.id)
        return redirect(url_for("login.form"), 303) if account is None else admit(auth, account, step.amr, step.then)

    @pages.route("/login/role", methods=["GET", "POST"])
    def role() -> Answer:
        found = current_session()
        then = onward(HOME)
        if found is None:
            return redirect(url_for("login.form", next=then), 303)
        account = current_account()
        form = RoleForm(next=then)
        form.role.choices = choices({link.role: words.role_name(link.role) for link in account.roles})
        if not form.validate_on_submit():
            names = {link.role: auth.directory.display(link.fhir_user) or "" for link in account.roles}
            return page("login_role.html", None, form, names=names, now=found.role)
        rotated = auth.accounts.sessions.rotate(found, role=form.role.data)
        if rotated is None:
            return redirect(url_for("login.form", next=then), 303)
        tell(auth, "role-switch", account, form.role.data)
        return put_cookie(auth, redirect(then, 303), rotated[0])

    @pages.route("/login/again", methods=["GET", "POST"])
    @logged_in
    def again() -> Answer:
        """The password, and the second factor, once more."""
        found, account, then = current_session(), current_account(), onward(HOME)
        assert found is not None
        form = ConfirmForm(next=then)
        second = account.totp_secret is not None
        if not form.validate_on_submit():
            return page("login_again.html", None, form, second=second)
        try:
            auth.accounts.check_password(account.id, form.password.data, address())
            amr: tuple[str, ...] = ("pwd",)
            if second:
                method = auth.accounts.second_factor.verify(account.id, request.form.get("code", ""), address())
                amr = ("pwd", method, "mfa")
        except Problem as problem:
            return page("login_again.html", problem, form, second=second)
        rotated = auth.accounts.sessions.rotate(found, auth_time=auth.clock(), amr=amr)
        if rotated is None:
            return redirect(url_for("login.form", next=then), 303)
        return put_cookie(auth, redirect(then, 303), rotated[0])

    @pages.route("/logout", methods=["GET", "POST"])
    def logout() -> Answer:
        found = current_session()
        form = ActionForm()
        if found is None:
            return redirect(url_for("login.form"), 303)
        if not form.validate_on_submit():
            return page("logout.html", None, form)
        auth.accounts.sessions.end(found.id)
        tell(auth, "logout", current_account(), found.role)
        response = drop_cookie(auth, redirect(url_for("login.form"), 303))
        flash(_("You are logged out."), "info")
        return response

    return pages


def _digits(code: str) -> str:
    return "".join(code.split())
