"""The Flask application of everything that is not FHIR: the authorization server and the pages of people."""

from __future__ import annotations

from flask import Flask

from smart_auth import refusals, web
from smart_auth.accounts import Accounts
from smart_auth.context import Auth
from smart_auth.keys import Keys
from smart_auth.oauth import pages, routes
from smart_auth.tokens import Tokens


def create_auth(auth: Auth) -> Flask:
    """The application of one worker. Sets `auth.accounts`, `auth.keys` and `auth.tokens` where they are not set yet."""
    auth.accounts = auth.accounts or Accounts(auth)
    auth.keys = auth.keys or Keys(auth)
    auth.tokens = auth.tokens or Tokens(auth)
    app = Flask("smart_auth", static_folder=None)
    refusals.watch(app, auth)
    web.register(app, auth)
    server = routes.make_server(auth)
    app.register_blueprint(routes.blueprint(auth, server))
    app.register_blueprint(pages.blueprint(auth, server))
    return app
