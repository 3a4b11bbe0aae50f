"""Where accounts, clients, grants and short-lived things are kept: one protocol, two stores."""
