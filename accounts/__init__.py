"""People: users, tokens, the first administrator."""
