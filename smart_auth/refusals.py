"""Every refusal is told to the audit: answers 401, 403 and 429 that nothing else has told of already."""

from __future__ import annotations

from typing import Final

from flask import Flask, Response, g, request

from smart_auth.context import Auth, AuthEvent
from smart_auth.records import Account, Session

STATUSES: Final = frozenset((401, 403, 429))


def told() -> None:
    """Notes that the audit knows why the request at hand is refused."""
    g.refusal_told = True


def watch(app: Flask, auth: Auth) -> None:
    """Tells the audit of whatever `app` refuses: who, from where, and which page, never with what."""

    @app.after_request
    def look(response: Response) -> Response:
        status = response.status_code
        if status in STATUSES and not (g.get("refusal_told") and status != 429):
            account: Account | None = g.get("account")
            session: Session | None = g.get("session")
            auth.audit(
                AuthEvent(
                    "refused",
                    4 if status == 429 else 8,
                    account=account.id if account is not None else None,
                    name=account.name if account is not None else None,
                    role=session.role if session is not None else None,
                    address=request.remote_addr,
                    # The rule, not the path: that may hold a secret.
                    detail={"status": str(status), "page": f"{request.method} {request.url_rule or ''}".strip()},
                )
            )
        return response
