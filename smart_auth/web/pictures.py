"""What an authenticator app has to know, as text and as a QR code drawn here: nothing of it leaves this server."""

from __future__ import annotations

import pyotp
import segno

from smart_auth.context import Auth
from smart_auth.records import Account
from smart_auth.secondfactor import STEP_S, TOTP_PURPOSE


def enrolment(auth: Auth, account: Account, *, fresh: bool) -> tuple[str, str]:
    """A secret to be confirmed: (base32, QR code). `fresh` makes a new one; otherwise it is the one shown before."""
    known = auth.accounts.get(account.id)
    if fresh or known is None or known.totp_pending is None:
        secret, uri = auth.accounts.second_factor.enrol(account.id)
        return secret, qr_code(uri)
    secret = auth.vault.unseal(known.totp_pending, TOTP_PURPOSE)
    totp = pyotp.TOTP(secret, interval=STEP_S)
    return secret, qr_code(totp.provisioning_uri(name=known.username or known.name, issuer_name="Hestia"))


def qr_code(text: str) -> str:
    """A data URI of an SVG picture."""
    uri: str = segno.make(text, error="m").svg_data_uri(scale=4, border=4, dark="#000", light="#fff")
    return uri
