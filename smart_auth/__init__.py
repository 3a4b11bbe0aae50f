"""Accounts, OAuth 2.0 / OpenID Connect and SMART App Launch 2.2 for a FHIR server that it does not import.

`hestia` composes the two: what this package needs to know of FHIR data it asks through `context.Directory`, and what it
has to tell the audit it tells through `context.Auth.audit`.
"""
