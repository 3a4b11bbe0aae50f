"""The pages of people: logging in, one's account and apps, administration. Rendered on the server, no JavaScript.

`register(app, auth)` puts them, their style, their languages and the headers of every response on the Flask application
of `smart_auth.app`.
"""

from __future__ import annotations

import hashlib

from flask import Flask
from flask_wtf import CSRFProtect

from smart_auth.context import Auth
from smart_auth.web import (
    account,
    admin,
    admin_clients,
    admin_policies,
    develop,
    headers,
    language,
    login,
    shell,
    signup,
)

MAX_BODY: int = 1_000_000
_FORM_LIFETIME_S: int = 4 * 3600


def register(app: Flask, auth: Auth) -> None:
    """Adds everything that `smart_auth.web` serves. The form cookie is signed with a key made of the vault's."""
    if not app.secret_key:
        app.secret_key = hashlib.sha256(auth.vault.digest("form cookie", "flask").encode()).digest()
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY,
        MAX_FORM_MEMORY_SIZE=MAX_BODY,
        SESSION_COOKIE_NAME="__Host-hestia-form" if auth.settings.secure else "hestia-form",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=auth.settings.secure,
        # Checked in `shell` for these pages only: what apps call carries its own proof.
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_TIME_LIMIT=_FORM_LIFETIME_S,
        # The pages ask browsers for no referrer, so there is none to compare.
        WTF_CSRF_SSL_STRICT=False,
    )
    csrf = CSRFProtect(app)
    language.speak(app, auth)
    headers.protect(app, auth)
    shell.dress(app, auth, csrf)
    app.register_blueprint(shell.blueprint(auth))
    app.register_blueprint(login.blueprint(auth))
    app.register_blueprint(account.blueprint(auth))
    pages = admin.blueprint(auth)
    admin_clients.add(pages, auth)
    admin_policies.add(pages, auth)
    app.register_blueprint(pages)
    app.register_blueprint(signup.blueprint(auth))
    if not auth.settings.production:
        app.register_blueprint(develop.blueprint(auth))
