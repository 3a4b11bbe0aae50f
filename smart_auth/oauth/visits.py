"""Which visit: the step of an authorization that chooses an encounter for `launch/encounter`.

SMART App Launch 2.2, scopes-and-launch-context.html, "Requesting context with scopes". Nobody is asked where there is
nothing to choose; whatever a form says is looked up again with the rights of the person.
"""

from __future__ import annotations

from typing import Final

from authlib.oauth2.rfc6749 import AccessDeniedError
from flask import make_response, redirect, render_template, request
from werkzeug.wrappers import Response

from smart_auth.context import Treated, Visit
from smart_auth.oauth.authorize import Conversation
from smart_auth.web.forms import VisitForm
from smart_auth.web.views import PickVisitView

SHOWN: Final = 10
MORE: Final = 20
MOST: Final = 90
"""Visits on one page; older ones are found by their day."""


def choose(talk: Conversation, patient: Treated) -> Visit | Response | None:
    """The visit that was chosen, or the only one; None where there is none; or the page to choose it, and where its
    form leads. Raises: AccessDeniedError when the person cancels.
    """
    kept = _kept(talk, patient)
    if kept is not None:
        return kept
    visits = talk.visits(patient, None, SHOWN + 1)
    if len(visits) <= 1:
        return visits[0] if visits else None
    sent = not {"decision", "encounter", "find", "more"}.isdisjoint(request.form)
    form = VisitForm() if sent else VisitForm(formdata=None)
    until, shown = None, SHOWN
    if form.is_submitted() and form.validate():
        if request.form.get("decision") == "deny":
            raise AccessDeniedError()
        wanted = request.form.get("encounter", "")
        if wanted and {"find", "more"}.isdisjoint(request.form):
            visit = talk.visit(patient, wanted)
            if visit is not None and visit.choosable:
                talk.keep(**{**talk.progress, "visit": visit.encounter, "of": patient.patient})
                return redirect(talk.pending.path, 303)
        until = form.until.data.isoformat() if form.until.data is not None else None
        shown = _number(request.form.get("more", ""))
    if until is not None or shown > SHOWN:
        visits = talk.visits(patient, until, shown + 1)
    view = PickVisitView(
        client=talk.client,
        patient=patient.name,
        visits=tuple(visits[:shown]),
        redirect_uri=talk.pending.params["redirect_uri"],
        until=until,
        older=len(visits) > shown,
        more=min(shown + MORE, MOST) if shown < MOST else None,
        seen=max(shown - MORE, SHOWN) if shown > SHOWN else None,
    )
    form.request.data = talk.pending.secret
    return make_response(render_template("pick_visit.html", view=view, form=form))


def _kept(talk: Conversation, patient: Treated) -> Visit | None:
    """What was chosen before, if it can be chosen still."""
    progress = talk.progress
    if progress.get("of") != patient.patient:
        return None
    visit = talk.visit(patient, progress["visit"])
    return visit if visit is not None and visit.choosable else None


def _number(text: str) -> int:
    """How many to show: never fewer than a page, never more than there is room for."""
    wanted = int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else SHOWN
    return min(max(wanted, SHOWN), MOST)
