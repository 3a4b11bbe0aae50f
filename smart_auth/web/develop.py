"""Pages for trying things out, which do not exist in production: messages that were sent, and the demo's people."""

from __future__ import annotations

from typing import Final

import pyotp
from flask import Blueprint, abort, redirect, request, url_for
from flask_babel import gettext as _

from smart_auth.context import Auth, DemoLogin
from smart_auth.launches import Launches
from smart_auth.notify import read_outbox
from smart_auth.records import Client
from smart_auth.secondfactor import STEP_S
from smart_auth.web.forms import ActionForm, LaunchForm
from smart_auth.web.login import enter
from smart_auth.web.shell import Answer, current_account, current_role, current_session, logged_in, page

SAMPLE_APP: Final = "sample-app"
SHOWN: Final = 50


def blueprint(auth: Auth) -> Blueprint:
    """The pages /outbox and /start."""
    pages = Blueprint("develop", __name__)

    @pages.get("/outbox")
    def outbox() -> Answer:
        return page("outbox.html", rows=read_outbox(auth.store, auth.vault, SHOWN))

    def _people() -> list[DemoLogin]:
        return [] if auth.demo is None else auth.demo()

    @pages.get("/start")
    def start() -> Answer:
        people = _people()
        codes = {
            one.username: pyotp.TOTP(one.totp_secret, interval=STEP_S).at(auth.clock())
            for one in people
            if one.totp_secret is not None
        }
        app = auth.store.get(Client, SAMPLE_APP)
        return page(
            "start.html",
            None,
            ActionForm(formdata=None),
            people=people,
            codes=codes,
            app=app if app is not None and app.status == "active" else None,
            base_url=auth.settings.base_url,
        )

    @pages.post("/start/login")
    def log_in() -> Answer:
        username, role = request.form.get("username", ""), request.form.get("role", "")
        person = next((one for one in _people() if one.username == username and role in one.roles), None)
        account = auth.accounts.by_login(username) if person is not None else None
        if account is None or not account.demo or account.status != "active":
            abort(404)
        return enter(auth, account, ("pwd",), url_for("develop.start"), role)

    @pages.route("/start/launch", methods=["GET", "POST"])
    @logged_in
    def launch() -> Answer:
        """The sample app launched for a patient, as a hospital's own desktop would."""
        app = auth.store.get(Client, SAMPLE_APP)
        if app is None or app.launch_uri is None:
            abort(404)
        account, role, found = current_account(), current_role(), current_session()
        assert found is not None
        form = LaunchForm()
        user = next((link.fhir_user for link in account.roles if link.role == role), None)
        if role == "patient":
            people = auth.directory.treated(account.person, user)
        else:
            people = auth.directory.patients(role, user, form.text.data or "")
        chosen = request.form.get("patient", "")
        if request.method == "POST" and "go" in request.form and form.validate():
            if chosen in {one.patient for one in people}:
                launches = Launches(auth)
                target = launches.address(app, launches.create(account, role, client=app.id, patient=chosen))
                return redirect(target or app.launch_uri, 303)
            form.text.errors = [_("Please choose one.")]
        return page("start_launch.html", None, form, people=people, search=role != "patient")

    return pages
