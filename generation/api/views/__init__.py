"""The API: load what is yours, check, call one verb, answer."""
