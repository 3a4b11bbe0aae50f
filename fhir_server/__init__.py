"""The FHIR R4 (4.0.1) server: REST, search, storage. Imports point one way; see docs/architecture.md."""
