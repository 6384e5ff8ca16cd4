"""Both places that files may be."""

from tests.store import server, shared

__all__ = ["server", "shared"]
