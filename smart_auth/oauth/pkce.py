"""Proof Key for Code Exchange, RFC 7636, as SMART App Launch 2.2 requires it: always, and with S256."""

from __future__ import annotations

import re
from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidRequestError
from authlib.oauth2.rfc7636 import CodeChallenge

METHOD: Final = "S256"
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9\-_]{43}")
"""Section 4.2: BASE64URL of 32 octets."""


class S256Challenge(CodeChallenge):
    """Authlib's extension, which by default takes `plain` for a missing method and lets a missing challenge pass."""

    DEFAULT_CODE_CHALLENGE_METHOD = METHOD
    SUPPORTED_CODE_CHALLENGE_METHOD = (METHOD,)
    CODE_CHALLENGE_METHODS: Final = {METHOD: CodeChallenge.CODE_CHALLENGE_METHODS[METHOD]}

    def __init__(self) -> None:
        super().__init__(required=True)

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Section 4.4.1. app-launch.html, "Considerations for PKCE Support": servers SHALL NOT support `plain`."""
        data = grant.request.payload.data
        if "code_challenge" not in data:
            raise InvalidRequestError("code challenge required")
        # Section 4.3: a missing method means plain.
        if data.get("code_challenge_method") != METHOD:
            raise InvalidRequestError("transform algorithm not supported: code_challenge_method has to be S256")
        if not _CHALLENGE.fullmatch(data["code_challenge"]):
            raise InvalidRequestError("code_challenge is not a SHA-256 in base64url")

    def get_authorization_code_challenge_method(self, authorization_code: Any) -> str:
        """No other one is ever stored."""
        return METHOD
