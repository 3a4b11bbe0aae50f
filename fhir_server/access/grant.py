"""What a token says, as the FHIR side understands it. Made by `hestia/gate.py` of a verified token; pure data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights that came with one request.

    `role` selects the role policy: patient, doctor, pharmacist, nurse, laboratory, administrator or system. References
    are relative. `scopes` are as granted (SMART v1 or v2 texts). `patient` and `encounter` are ids of the launch
    context. `purpose` is a v3-ActReason code (TREAT, PATRQT, HOPERAT, ETREAT ...) for the audit.
    """

    id: str
    client_id: str
    client_name: str
    role: str
    scopes: tuple[str, ...]
    account: str | None = None
    name: str = ""
    fhir_user: str | None = None
    person: str | None = None
    patient: str | None = None
    encounter: str | None = None
    purpose: str | None = None
    expires_at: int = 0
