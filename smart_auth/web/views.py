"""What the pages of an authorization show: `consent.html`, `pick_patient.html`, `pick_visit.html`
and `authorize_error.html`.

`smart_auth.oauth` makes these views and renders the templates; it reads the answers with `ConsentView.granted` and the
forms of `smart_auth.web.forms`. Each template is rendered with ``view=`` and ``form=``::

    allow_redirect(view.redirect_uri)      # Chromium applies form-action to the redirect that answers the form, too
    render_template("consent.html", view=view, form=ConsentForm(request=pending_id))
    render_template("pick_patient.html", view=PickView(...), form=PickForm(request=pending_id))
    render_template("pick_visit.html", view=PickVisitView(...), form=VisitForm(request=pending_id))
    render_template("authorize_error.html", title=..., text=...), 400
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from flask import g

from smart_auth.context import Auth, Treated, Visit
from smart_auth.oauth.pending import redirect_uri_of
from smart_auth.records import Client


@dataclass(frozen=True, slots=True)
class ConsentItem:
    """One right that an app asks for, in words. `narrower` are parts of it that may be allowed instead of it."""

    scope: str
    """The scopes that make it up, space separated: the value of its check box."""
    sentence: str
    optional: bool = True
    danger: bool = False
    """Writes, or reaches everything: shown with a warning."""
    group: str = "read"
    """read, change or account: under which heading."""
    narrower: tuple[ConsentItem, ...] = ()


@dataclass(frozen=True, slots=True)
class ConsentView:
    """What a person decides about. `patient` is the name of the person whose record it is, None for staff."""

    client: Client
    person: str
    role: str
    patient: str | None
    items: tuple[ConsentItem, ...]
    redirect_uri: str
    visit: Visit | None = None
    """Which visit the app is told of."""
    without_visit: bool = False
    """Whether the app asked for one, and there is none."""
    choices: tuple[str, ...] = ()
    """What was chosen, and may be chosen anew: patient, visit."""

    @property
    def host(self) -> str:
        """Where the app lives, as far as the hospital knows: the host that gets the code, or the app's own scheme."""
        return redirect_source(self.redirect_uri)

    def granted(self, ticked: Iterable[str]) -> list[str]:
        """The scopes to grant: what cannot be unticked, and what was ticked of the offered; in the order offered."""
        chosen = set(ticked)
        scopes: list[str] = []
        for item in self.items:
            if not item.optional or item.scope in chosen:
                scopes += item.scope.split()
            else:
                scopes += [part.scope for part in item.narrower if part.scope in chosen]
        return scopes


@dataclass(frozen=True, slots=True)
class PickView:
    """Whose record an app shall see. Staff search (`search`), others choose among the people they act for."""

    client: Client
    people: tuple[Treated, ...]
    redirect_uri: str
    search: bool = False
    text: str = ""
    """What was searched for."""


@dataclass(frozen=True, slots=True)
class PickVisitView:
    """Which visit of a patient an app is opened for."""

    client: Client
    patient: str
    """A name."""
    visits: tuple[Visit, ...]
    redirect_uri: str
    until: str | None = None
    """The day up to which was searched, yyyy-mm-dd."""
    older: bool = False
    """Whether there are more than are shown."""
    more: int | None = None
    """How many to show then; None when the page is full."""
    seen: int | None = None
    """How many were shown before."""


def redirect_source(redirect_uri: str) -> str:
    """The CSP source expression of a redirect URI: its origin, or its scheme for an app on a phone."""
    parts = urlsplit(redirect_uri)
    if parts.scheme in ("http", "https") and parts.netloc:
        return f"{parts.scheme}://{parts.netloc}"
    return f"{parts.scheme}:" if parts.scheme else "'none'"


def allow_redirect(redirect_uri: str) -> None:
    """Lets the form of the page that is being made be answered with a redirect to the app."""
    source = redirect_source(redirect_uri)
    if not set(source) & set("; ,'\""):
        g.form_action = source


def own_path(path: str | None) -> str | None:
    """`path` when it is a path of this server that a browser cannot take for another host's; else None."""
    if not path or len(path) > 2048 or path[0] != "/" or path[1:2] in ("/", "\\"):
        return None
    if any(ord(char) < 0x21 or char == "\\" or ord(char) == 0x7F for char in path):
        return None
    return path


def login_path(then: str) -> str:
    """The address of the login page that leads on to `then`, an own path with opaque ids only."""
    return f"/login?next={quote(then, safe='')}"


def pending_redirect(auth: Auth, then: str | None) -> str | None:
    """The redirect address of the authorization that goes on at `then` after a login; None when there is none."""
    return redirect_uri_of(auth, then)
