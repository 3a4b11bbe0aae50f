"""The authorization server's endpoints, on Authlib, whose defaults are narrowed where they are wider than SMART's.

A module per document: authorize.py (RFC 6749 sections 3.1 and 4.1), token.py (RFC 6749), pkce.py (RFC 7636),
client_auth.py (RFC 7523), backend.py (SMART backend services), openid.py (OpenID Connect), introspect.py (RFC 7662),
revoke.py (RFC 7009), register.py (RFC 7591); routes.py puts them behind paths.
"""
