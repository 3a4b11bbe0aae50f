"""The mongo store."""
