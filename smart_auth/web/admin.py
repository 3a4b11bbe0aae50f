"""Administration of accounts: search, accounts of staff, roles, locks, lost second factors; signing keys.

Everything needs the role administrator, and what changes something a login a short while ago. Kernel K1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flask import Blueprint, abort, flash, redirect, request, url_for
from flask_babel import gettext as _

from smart_auth.context import ROLES, Auth
from smart_auth.problems import Problem, UnusableValue
from smart_auth.records import Account, Client, Key
from smart_auth.web import words
from smart_auth.web.forms import ActionForm, GrantRoleForm, SearchForm, StaffForm, choices
from smart_auth.web.shell import Answer, address, administrator, current_account, current_role, page, recent, tell

STAFF_ROLES: Final = tuple(role for role in ROLES if role != "patient")
FOUND: Final = 50


def find_accounts(auth: Auth, text: str, limit: int = FOUND) -> list[Account]:
    """Accounts whose name or user name contains `text`, or whose phone number or e-mail address it is, by name."""
    wanted = text.strip().casefold()
    exact = auth.accounts.by_login(text) if wanted else None
    found = {} if exact is None else {exact.id: exact}
    after = ""
    while chunk := auth.store.page(Account, after=after, limit=500):
        for one in chunk:
            if wanted in one.name.casefold() or wanted in (one.username or ""):
                found[one.id] = one
        after = chunk[-1].id
    return sorted(found.values(), key=lambda one: (one.name, one.id))[:limit]


def blueprint(auth: Auth) -> Blueprint:
    """The pages below /admin; `admin_clients` and `admin_policies` add theirs."""
    pages = Blueprint("admin", __name__, url_prefix="/admin")

    @pages.get("", strict_slashes=False)
    @administrator
    def home() -> Answer:
        pending = auth.store.count(Client, status="pending")
        return page("admin.html", page="admin", tab="home", pending=pending, policies=auth.policies is not None)

    @pages.route("/accounts", methods=["GET", "POST"])
    @administrator
    def accounts() -> Answer:
        """The search is sent with POST, so that no phone number is in a URL."""
        form = SearchForm()
        searched = form.validate_on_submit()
        rows = find_accounts(auth, form.text.data or "") if searched or request.method == "GET" else []
        return page("admin_accounts.html", None, form, page="admin", tab="accounts", rows=rows, limit=FOUND)

    @pages.route("/accounts/new", methods=["GET", "POST"])
    @administrator
    @recent(auth)
    def new_account() -> Answer:
        form = StaffForm()
        form.role.choices = choices({role: words.role_name(role) for role in STAFF_ROLES})
        if not form.validate_on_submit():
            return page("admin_account_new.html", None, form, page="admin", tab="accounts")
        me, reference = current_account(), form.fhir_user.data.strip()
        try:
            if not auth.directory.exists(reference):
                raise UnusableValue("fhir_user", "There is no such person in the records.")
            account = auth.accounts.create(form.name.data, username=form.username.data)
            auth.accounts.grant_role(account.id, form.role.data, reference, by=me.id, address=address())
            password = auth.accounts.give_password(account.id, by=me.id, address=address())
        except Problem as problem:
            return page("admin_account_new.html", problem, form, page="admin", tab="accounts")
        tell(auth, "account-create", me, current_role(), subject=account.id)
        return page("admin_password.html", page="admin", tab="accounts", found=account, password=password)

    def _one(id: str) -> Account:
        found = auth.accounts.get(id)
        if found is None:
            abort(404)
        return found

    @pages.get("/accounts/<id>")
    @administrator
    def account(id: str) -> Answer:
        found = _one(id)
        form = GrantRoleForm(formdata=None)
        form.role.choices = choices({role: words.role_name(role) for role in ROLES})
        phone, email = auth.accounts.phone(found), auth.accounts.email(found)
        return page(
            "admin_account.html",
            None,
            form,
            page="admin",
            tab="accounts",
            found=found,
            phone=_masked(phone),
            email=_masked(email),
            names={link.fhir_user: auth.directory.display(link.fhir_user) for link in found.roles},
            locked_out=found.locked_until > auth.clock(),
            sessions=len(auth.accounts.sessions.list(found.id)),
        )

    @pages.post("/accounts/<id>/role")
    @administrator
    @recent(auth)
    def grant_role(id: str) -> Answer:
        form = GrantRoleForm()
        form.role.choices = choices({role: words.role_name(role) for role in ROLES})
        if not form.validate_on_submit():
            flash(_("Choose a role, and say whose record it is."), "error")
            return redirect(url_for("admin.account", id=id), 303)
        role, reference = form.role.data, form.fhir_user.data.strip()
        return _act(id, lambda by: auth.accounts.grant_role(id, role, reference, by=by, address=address()))

    @pages.post("/accounts/<id>/role/remove")
    @administrator
    @recent(auth)
    def revoke_role(id: str) -> Answer:
        role = request.form.get("role", "")
        return _act(id, lambda by: auth.accounts.revoke_role(id, role, by=by, address=address()))

    @pages.post("/accounts/<id>/<any(lock, unlock, close):act>")
    @administrator
    @recent(auth)
    def set_status(id: str, act: str) -> Answer:
        change = {"lock": auth.accounts.lock, "unlock": auth.accounts.unlock, "close": auth.accounts.close}[act]
        return _act(id, lambda by: change(id, by=by, address=address()))

    @pages.post("/accounts/<id>/second-factor")
    @administrator
    @recent(auth)
    def reset_second_factor(id: str) -> Answer:
        return _act(id, lambda by: auth.accounts.second_factor.disable(id, address(), by=by))

    @pages.post("/accounts/<id>/password")
    @administrator
    @recent(auth)
    def give_password(id: str) -> Answer:
        found = _one(id)
        try:
            password = auth.accounts.give_password(id, by=current_account().id, address=address())
        except Problem as problem:
            flash(words.say(problem), "error")
            return redirect(url_for("admin.account", id=id), 303)
        return page("admin_password.html", page="admin", tab="accounts", found=found, password=password)

    def _act(id: str, change: Callable[[str], object]) -> Answer:
        _one(id)
        try:
            change(current_account().id)
        except Problem as problem:
            flash(words.say(problem), "error")
        else:
            flash(_("Done."), "info")
        return redirect(url_for("admin.account", id=id), 303)

    @pages.get("/keys")
    @administrator
    def keys() -> Answer:
        form = ActionForm(formdata=None)
        return page("admin_keys.html", None, form, page="admin", tab="keys", rows=_keys(auth))

    @pages.post("/keys/rotate")
    @administrator
    @recent(auth)
    def rotate() -> Answer:
        auth.keys.rotate()
        tell(auth, "key-rotate", current_account(), current_role())
        flash(_("The next key signs from now on. Tokens that the old one signed stay valid."), "info")
        return redirect(url_for("admin.keys"), 303)

    return pages


def _keys(auth: Auth) -> list[Key]:
    order = ("active", "next", "retired")
    return sorted(
        (one for status in order for one in auth.store.find(Key, status=status)),
        key=lambda one: (one.alg, order.index(one.status)),
    )


def _masked(text: str | None) -> str | None:
    """A phone number or address of which an administrator sees what is needed to talk about it."""
    if text is None:
        return None
    if "@" in text:
        name, _at, host = text.partition("@")
        return f"{name[:1]}***@{host}"
    return f"{text[:3]}****{text[-4:]}"
