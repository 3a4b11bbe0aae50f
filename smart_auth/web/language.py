"""Which language a page speaks: the one chosen in the header, the account's, then what the browser prefers.

Texts in the code and the templates are English; `translations/zh` has the Chinese ones. Chinese is the default.
"""

from __future__ import annotations

from typing import Final

from flask import Flask, g, request
from flask_babel import Babel
from werkzeug.wrappers import Response

from smart_auth.context import Auth

LANGUAGES: Final = (("zh", "中文"), ("en", "English"))
COOKIE: Final = "hestia-language"
TIME_ZONE: Final = "Asia/Shanghai"
CODES: Final = tuple(code for code, _ in LANGUAGES)
_KEPT_S: Final = 365 * 86_400


def speak(app: Flask, auth: Auth) -> None:
    """Sets up translations of `app`."""

    def choose() -> str:
        asked = request.cookies.get(COOKIE) or _wanted(request.args.get("ui_locales", ""))
        if asked in CODES:
            return str(asked)
        account = g.get("account")
        if account is not None and account.locale in CODES:
            return str(account.locale)
        return request.accept_languages.best_match(CODES, default=auth.settings.default_locale) or "zh"

    Babel(
        app,
        default_locale=auth.settings.default_locale,
        default_timezone=TIME_ZONE,
        default_translation_directories=str(_directory()),
        locale_selector=choose,
    )


def remember(response: Response, code: str, *, secure: bool) -> None:
    """Puts a chosen language into a cookie; nothing for a language that there is not."""
    if code in CODES:
        response.set_cookie(COOKIE, code, max_age=_KEPT_S, secure=secure, httponly=True, samesite="Lax")


def suggest(response: Response, ui_locales: str, *, secure: bool) -> None:
    """Puts the language that an app asks for into a cookie of this browser session, unless the person has chosen one.

    OpenID Connect Core section 3.1.2.1: the pages that follow have addresses without the parameters of the request.
    """
    code = _wanted(ui_locales)
    if code is not None and COOKIE not in request.cookies:
        response.set_cookie(COOKIE, code, secure=secure, httponly=True, samesite="Lax")


def _directory() -> str:
    return __file__.rsplit("/", 1)[0] + "/translations"


def _wanted(ui_locales: str) -> str | None:
    """OpenID Connect Core section 3.1.2.1: languages by preference, separated by spaces."""
    for tag in ui_locales.split()[:8]:
        if (code := tag.split("-")[0].lower()) in CODES:
            return code
    return None
