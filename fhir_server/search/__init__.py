"""Search (R4 search.html): parsed, resolved to one tree, compiled for two stores and for memory."""
