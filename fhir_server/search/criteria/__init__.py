"""Criteria of searches, by type of parameter: a parameter and a modifier -> a plan. R4 search.html#ptypes."""
