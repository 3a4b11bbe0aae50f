"""What apps read before anything else: SMART's configuration, OAuth's and OpenID Connect's metadata, SMART's style.

SMART App Launch 2.2, conformance.html; RFC 8414; RFC 9207 section 3; OpenID Connect Discovery 1.0. Only what is true.
"""

from __future__ import annotations

from typing import Any, Final

from smart_auth import scopes
from smart_auth.clients import ASSERTION_ALGS
from smart_auth.context import AuthSettings
from smart_auth.keys import ID_ALG

CAPABILITIES: Final = (
    "launch-ehr",
    "launch-standalone",
    "authorize-post",
    "client-public",
    "client-confidential-symmetric",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-banner",
    "context-style",
    "context-ehr-patient",
    "context-ehr-encounter",
    "context-standalone-patient",
    "context-standalone-encounter",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
    "permission-v1",
    "permission-v2",
)
"""conformance.html, "Capabilities"."""

SCOPES: Final = (
    *scopes.IDENTITY,
    *scopes.LAUNCH,
    *scopes.REFRESH,
    *(f"{context}/*.{letters}" for context in ("patient", "user", "system") for letters in ("cruds", "rs")),
    *(f"{context}/*.{word}" for context in ("patient", "user", "system") for word in ("read", "write", "*")),
)
"""Every type by name and every restriction is supported too: they are not listed."""

AUTH_METHODS: Final = ("client_secret_basic", "private_key_jwt")
GRANT_TYPES: Final = ("authorization_code", "refresh_token", "client_credentials")
CLAIMS: Final = (
    "iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "at_hash", "fhirUser", "profile", "name",
)  # fmt: skip

AUTHORIZE: Final = "/oauth/authorize"
TOKEN: Final = "/oauth/token"  # noqa: S105
REGISTER: Final = "/oauth/register"
INTROSPECT: Final = "/oauth/introspect"
REVOKE: Final = "/oauth/revoke"
JWKS: Final = "/oauth/jwks"
USERINFO: Final = "/oauth/userinfo"
STYLE: Final = "/oauth/style.json"
MANAGE: Final = "/account/apps"

STYLE_VALUES: Final = {
    "color_background": "#ffffff",
    "color_error": "#b3261e",
    "color_highlight": "#0b6e6e",
    "color_modal_backdrop": "#00000080",
    "color_success": "#1b7a3d",
    "color_text": "#1c2326",
    "dim_border_radius": "6px",
    "dim_font_size": "16px",
    "dim_spacing_size": "16px",
    "font_family_body": "system-ui, 'Noto Sans SC', sans-serif",
    "font_family_heading": "system-ui, 'Noto Sans SC', sans-serif",
}
"""scopes-and-launch-context.html, "Styling"."""


def smart_configuration(settings: AuthSettings) -> dict[str, Any]:
    """``[base]/.well-known/smart-configuration``. conformance.html, "Using .well-known"."""
    return {**_common(settings), "capabilities": list(CAPABILITIES)}


def oauth_metadata(settings: AuthSettings) -> dict[str, Any]:
    """``/.well-known/oauth-authorization-server``. RFC 8414 section 2."""
    return {
        **_common(settings),
        "response_modes_supported": ["query"],
        "introspection_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "introspection_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGS),
        "revocation_endpoint_auth_methods_supported": ["none", *AUTH_METHODS],
        "revocation_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGS),
        "ui_locales_supported": ["zh-CN", "en"],
    }


def openid_configuration(settings: AuthSettings) -> dict[str, Any]:
    """``/.well-known/openid-configuration``. OpenID Connect Discovery 1.0 section 3."""
    return {
        **oauth_metadata(settings),
        "userinfo_endpoint": settings.issuer + USERINFO,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ID_ALG],
        "claim_types_supported": ["normal"],
        "claims_supported": list(CLAIMS),
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "prompt_values_supported": ["none", "login", "consent"],
    }


def _common(settings: AuthSettings) -> dict[str, Any]:
    origin = settings.issuer
    found: dict[str, Any] = {
        "issuer": origin,
        "jwks_uri": origin + JWKS,
        "authorization_endpoint": origin + AUTHORIZE,
        "token_endpoint": origin + TOKEN,
        "token_endpoint_auth_methods_supported": ["none", *AUTH_METHODS],
        "token_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGS),
        "introspection_endpoint": origin + INTROSPECT,
        "revocation_endpoint": origin + REVOKE,
        "management_endpoint": origin + MANAGE,
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "grant_types_supported": list(GRANT_TYPES),
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
    }
    if settings.registration != "off":
        found["registration_endpoint"] = origin + REGISTER
    return found
