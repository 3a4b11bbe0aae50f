"""The audit: what happened becomes AuditEvents in the same store, chained, that nobody can change. docs/audit.md."""
