"""Benchmarks: `make bench`, or `python -m bench --base URL` against any FHIR R4 server. See docs/benchmarks.md."""
