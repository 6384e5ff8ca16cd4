"""Jobs and pictures."""
