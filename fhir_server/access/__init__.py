"""Who may do what: a grant (what a token says) lowered to a Policy (predicates of the search tree)."""
