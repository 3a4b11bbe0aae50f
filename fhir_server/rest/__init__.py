"""The only part that knows WSGI and Flask."""
