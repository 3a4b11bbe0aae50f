"""Apps and back-end services: those that registered themselves are approved here, others are registered."""

from __future__ import annotations

import json
from typing import Any, Final

from flask import Blueprint, abort, flash, redirect, url_for
from flask_babel import gettext as _

from smart_auth.clients import Clients, Metadata
from smart_auth.context import Auth
from smart_auth.problems import N_, Problem, UnusableValue
from smart_auth.records import Client
from smart_auth.web import words
from smart_auth.web.forms import CLIENT_KINDS, ClientForm
from smart_auth.web.sentences import sentences
from smart_auth.web.shell import Answer, address, administrator, current_account, page, recent

_KEPT: Final = ("logo_uri", "client_uri", "tos_uri", "policy_uri", "contacts")
_FIELDS: Final = {"client_name": "name", "token_endpoint_auth_method": "type"}
"""Names of RFC 7591 that are other ones in the form."""


def metadata_of(form: ClientForm, before: Client | None) -> Metadata:
    """What the form says; what it has no field for stays. Raises: UnusableValue for keys that are no JSON."""
    jwks: dict[str, Any] | None = None
    if text := (form.jwks.data or "").strip():
        try:
            jwks = json.loads(text)
        except ValueError:
            raise UnusableValue("jwks", N_("These keys are not JSON.")) from None
        if not isinstance(jwks, dict):
            raise UnusableValue("jwks", N_("These keys are not JSON."))
    kept = {} if before is None else {name: getattr(before, name) for name in _KEPT}
    return Metadata(
        name=form.name.data or "",
        type=form.type.data or "",
        redirect_uris=tuple(dict.fromkeys((form.redirect_uris.data or "").split())),
        scope=" ".join((form.scope.data or "").split()),
        jwks=jwks,
        jwks_uri=(form.jwks_uri.data or "").strip() or None,
        launch_uri=(form.launch_uri.data or "").strip() or None,
        trusted=bool(form.trusted.data),
        **kept,
    )


def add(pages: Blueprint, auth: Auth) -> None:
    """Adds the pages below /admin/clients."""
    clients = Clients(auth)

    def _one(id: str) -> Client:
        found = clients.get(id)
        if found is None:
            abort(404)
        return found

    def _show(
        form: ClientForm, client: Client | None, problem: Problem | None = None, secret: str | None = None
    ) -> Answer:
        if isinstance(problem, UnusableValue):
            problem.field = _FIELDS.get(problem.field, problem.field)
        can = sentences(client.scope) if client is not None else []
        values = {
            "page": "admin",
            "tab": "clients",
            "client": client,
            "kinds": CLIENT_KINDS,
            "secret": secret,
            "can": can,
        }
        return page("admin_client.html", problem, form, **values)

    def _filled(client: Client) -> ClientForm:
        return ClientForm(
            formdata=None,
            name=client.name,
            type=client.type,
            redirect_uris="\n".join(client.redirect_uris),
            launch_uri=client.launch_uri or "",
            scope=client.scope,
            jwks="" if client.jwks is None else json.dumps(client.jwks, indent=1),
            jwks_uri=client.jwks_uri or "",
            trusted=client.trusted,
        )

    @pages.get("/clients", endpoint="clients")
    @administrator
    def list_clients() -> Answer:
        return page("admin_clients.html", page="admin", tab="clients", rows=clients.list(), kinds=CLIENT_KINDS)

    @pages.route("/clients/new", methods=["GET", "POST"])
    @administrator
    @recent(auth)
    def new_client() -> Answer:
        form = ClientForm()
        if not form.validate_on_submit():
            return _show(form, None)
        try:
            client, secret = clients.create(metadata_of(form, None), by=current_account().id, address=address())
        except Problem as problem:
            return _show(form, None, problem)
        if secret is not None:
            return _show(_filled(client), client, secret=secret)
        flash(_("The app is registered."), "info")
        return redirect(url_for("admin.client", id=client.id), 303)

    @pages.get("/clients/<id>")
    @administrator
    def client(id: str) -> Answer:
        found = _one(id)
        return _show(_filled(found), found)

    @pages.post("/clients/<id>")
    @administrator
    @recent(auth)
    def change_client(id: str) -> Answer:
        found, form = _one(id), ClientForm()
        if not form.validate_on_submit():
            return _show(form, found)
        try:
            clients.change(id, metadata_of(form, found), by=current_account().id, address=address())
        except Problem as problem:
            return _show(form, found, problem)
        flash(_("Saved."), "info")
        return redirect(url_for("admin.client", id=id), 303)

    @pages.post("/clients/<id>/<any(approve, reject, disable):act>")
    @administrator
    @recent(auth)
    def client_status(id: str, act: str) -> Answer:
        _one(id)
        by = current_account().id
        try:
            if act == "reject":
                clients.delete(id, by=by, address=address())
                flash(_("The registration was rejected and removed."), "info")
                return redirect(url_for("admin.clients"), 303)
            clients.set_status(id, "active" if act == "approve" else "disabled", by=by, address=address())
        except Problem as problem:
            flash(words.say(problem), "error")
        else:
            flash(_("Done."), "info")
        return redirect(url_for("admin.client", id=id), 303)

    @pages.post("/clients/<id>/secret")
    @administrator
    @recent(auth)
    def client_secret(id: str) -> Answer:
        found = _one(id)
        try:
            secret = clients.new_secret(id, by=current_account().id, address=address())
        except Problem as problem:
            flash(words.say(problem), "error")
            return redirect(url_for("admin.client", id=id), 303)
        return _show(_filled(found), found, secret=secret)
