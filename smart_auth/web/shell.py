"""What all pages share: who is logged in, forms that nobody else can send, the frame around a page, pages of errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, ParamSpec
from urllib.parse import urlsplit

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    flash,
    g,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask_babel import get_locale
from flask_babel import gettext as _
from flask_wtf import CSRFProtect, FlaskForm
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from smart_auth.context import Auth, AuthEvent
from smart_auth.problems import Problem, Throttled, UnusableValue, WeakPassword
from smart_auth.records import Account, Session
from smart_auth.sessions import cookie_attributes, cookie_name
from smart_auth.store.protocol import StoreBusy
from smart_auth.web import language, words
from smart_auth.web.sentences import topic_name
from smart_auth.web.views import login_path, own_path

P = ParamSpec("P")
Answer = AnyResponse | str | tuple[str, int]

RECENT_S: Final = 900
"""How long ago a person may have logged in who administrates or changes what protects the account."""
STEP_S: Final = 600

PAGES: Final = frozenset({"web", "login", "signup", "account", "admin", "develop"})
"""Blueprints whose POST requests are forms of ours."""


def address() -> str:
    """The network address of the one who asks."""
    return request.remote_addr or ""


# --- who is logged in -------------------------------------------------------------------------------------------------


def current_session() -> Session | None:
    """The session of this browser, if it is logged in."""
    found: Session | None = g.get("session")
    return found


def current_account() -> Account:
    """Who is logged in. For pages behind `logged_in`."""
    account: Account = g.account
    return account


def current_role() -> str:
    """The role that was chosen. For pages behind `logged_in`."""
    found = current_session()
    assert found is not None
    assert found.role is not None
    return found.role


def logged_in(page: Callable[P, Answer]) -> Callable[P, Answer]:
    """Only for people who have logged in and chosen a role; others do that first."""

    @wraps(page)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> Answer:
        found = current_session()
        then = request.full_path.rstrip("?") if request.method == "GET" else request.path
        if found is None:
            return redirect(login_path(then), 303)
        if found.role is None:
            return redirect(url_for("login.role", next=then), 303)
        return page(*args, **kwargs)

    return guarded


def administrator(page: Callable[P, Answer]) -> Callable[P, Answer]:
    """Only for administrators; everybody else is told that there is no such page."""

    @wraps(page)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> Answer:
        if current_role() != "administrator":
            abort(403)
        return page(*args, **kwargs)

    return logged_in(guarded)


def recent(auth: Auth) -> Callable[[Callable[P, Answer]], Callable[P, Answer]]:
    """Only shortly after a login; otherwise the password is asked for again. Below `logged_in` or `administrator`."""

    def decorate(page: Callable[P, Answer]) -> Callable[P, Answer]:
        @wraps(page)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> Answer:
            found = current_session()
            assert found is not None
            if auth.clock() - found.auth_time > RECENT_S:
                then = request.full_path.rstrip("?") if request.method == "GET" else _page_of(request.path)
                flash(_("Please confirm that it is you, then do it once more."), "info")
                return redirect(url_for("login.again", next=then), 303)
            return page(*args, **kwargs)

        return guarded

    return decorate


def _page_of(path: str) -> str:
    """The page whose form was sent to `path`: what stands before the name of the act."""
    return "/" + "/".join(path.strip("/").split("/")[:2])


def put_cookie(auth: Auth, response: AnyResponse, cookie: str) -> AnyResponse:
    """Gives the browser its session, and its forms a new secret."""
    session.pop("csrf_token", None)
    response.set_cookie(cookie_name(auth.settings), cookie, **cookie_attributes(auth.settings))
    return response


def drop_cookie(auth: Auth, response: AnyResponse) -> AnyResponse:
    """Takes the session from the browser."""
    session.clear()
    attributes = cookie_attributes(auth.settings)
    response.delete_cookie(
        cookie_name(auth.settings), path="/", secure=attributes["secure"], httponly=True, samesite="Lax"
    )
    return response


def tell(
    auth: Auth, action: str, account: Account, role: str | None = None, *, client: str | None = None, **detail: str
) -> None:
    """Tells the audit what somebody did."""
    user = next((link.fhir_user for link in account.roles if link.role == role), None)
    auth.audit(
        AuthEvent(
            action,
            account=account.id,
            name=account.name,
            fhir_user=user,
            role=role,
            client=client,
            address=address() or None,
            detail=detail,
        )
    )


# --- forms ------------------------------------------------------------------------------------------------------------


def refuse(form: FlaskForm | None, problem: Problem) -> str:
    """What a problem says, put to the field that it is about; what is about none is returned."""
    text = words.say(problem)
    field = None
    if isinstance(problem, WeakPassword):
        field = "password"
    elif isinstance(problem, UnusableValue):
        field = problem.field if form is not None and problem.field in form else "contact"
    if form is not None and field is not None and field in form and form[field].type != "HiddenField":
        form[field].errors = [*form[field].errors, text]
        return ""
    return text


def page(template: str, problem: Problem | None = None, form: FlaskForm | None = None, **values: Any) -> Answer:
    """A rendered page; with a problem its text and its status."""
    if problem is None:
        wrong = form is not None and bool(form.errors)
        return render_template(template, form=form, problem="", **values), 400 if wrong else 200
    text = refuse(form, problem)
    response = make_response(render_template(template, form=form, problem=text, **values), words.status_code(problem))
    if isinstance(problem, Throttled):
        response.headers["Retry-After"] = str(problem.retry_after_s)
    return response


def onward(default: str) -> str:
    """Where to go after a form: its `next` when that is a path of ours."""
    return own_path(request.values.get("next")) or default


# --- the frame --------------------------------------------------------------------------------------------------------


def blueprint(auth: Auth) -> Blueprint:
    """Style, languages, the privacy notice."""
    pages = Blueprint(
        "web", __name__, template_folder="templates", static_folder="static", static_url_path="/account/static"
    )

    @pages.post("/language", endpoint="language")
    def choose_language() -> Answer:
        response = redirect(onward("/login"), 303)
        code = request.form.get("language", "")
        language.remember(response, code, secure=auth.settings.secure)
        account: Account | None = g.get("account")
        if account is not None and code in language.CODES:
            auth.accounts.set_locale(account.id, code)
        return response

    @pages.get("/language")
    def language_page() -> Answer:
        return redirect("/login", 303)

    @pages.get("/privacy")
    def privacy() -> Answer:
        return page("privacy.html")

    return pages


def dress(app: Flask, auth: Auth, csrf: CSRFProtect) -> None:
    """Finds who is logged in, guards forms, and gives templates what the frame shows."""

    @app.before_request
    def find_person() -> None:
        cookie = request.cookies.get(cookie_name(auth.settings))
        if not cookie or request.endpoint == "web.static":
            return
        found = auth.accounts.sessions.load(cookie)
        account = auth.accounts.get(found.account) if found is not None else None
        if account is not None and account.status == "active":
            g.session, g.account = found, account

    @app.before_request
    def guard_forms() -> None:
        if request.blueprint in PAGES:
            csrf.protect()

    app.jinja_env.globals.update(
        {
            "role_name": words.role_name,
            "relation_name": words.relation_name,
            "gender_name": words.gender_name,
            "status_name": words.status_name,
            "action_name": words.action_name,
            "visit_name": words.visit_name,
            "visit_time": words.visit_time,
            "visit_place": words.visit_place,
            "device_name": words.device_name,
            "topic_name": topic_name,
            "moment": words.moment,
            "outward": outward,
        }
    )

    @app.context_processor
    def frame() -> dict[str, Any]:
        found = current_session()
        return {
            "account": g.get("account"),
            "role": found.role if found is not None else None,
            "here": request.full_path.rstrip("?") if request.method == "GET" else request.path,
            "language": str(get_locale() or "zh"),
            "languages": language.LANGUAGES,
            "show_development": not auth.settings.production,
            "demo_hospital": auth.demo is not None and not auth.settings.production,
        }

    def show(error: HTTPException, text: str) -> Response | HTTPException:
        if not _is_page(request.path):
            return error
        title = _("This did not work")
        response = make_response(render_template("message.html", title=title, text=text, bad=True), error.code or 500)
        for name, value in error.get_headers():
            if name in ("Allow", "Retry-After"):
                response.headers[name] = value
        return response

    texts: dict[int, Callable[[], str]] = {
        403: lambda: _("This page is not for your role."),
        404: lambda: _("There is no such page."),
        405: lambda: _("There is no such page."),
        413: lambda: _("This was too much to send at once."),
        500: lambda: _("Something went wrong here. Please try again later."),
    }
    for code, text in texts.items():
        app.register_error_handler(code, lambda error, text=text: show(error, text()))

    @app.errorhandler(CSRFError)
    def refuse_form(error: CSRFError) -> Response | HTTPException:
        return show(error, _("This form was open for too long, or does not come from this page. Please try again."))

    @app.errorhandler(StoreBusy)
    def busy(error: StoreBusy) -> Answer:
        text = _("Too many people are doing this now. Please try again in a moment.")
        return render_template("message.html", title=_("This did not work"), text=text, bad=True), 503


def _is_page(path: str) -> bool:
    return not path.startswith(("/oauth/", "/.well-known/")) and "/.well-known/" not in path


def outward(address: str | None) -> str:
    """A link to somebody else's page, if it is one of the web: never javascript: or data:."""
    parts = urlsplit(address or "")
    return address or "" if parts.scheme in ("https", "http") and parts.netloc else "about:blank"
