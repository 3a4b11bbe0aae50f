"""Storage: one protocol, two real stores. A store knows no FHIR; see protocol.py."""
