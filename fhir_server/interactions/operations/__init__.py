"""One module per operation; dispatch.py lists them."""
