"""The token API, version 1."""
