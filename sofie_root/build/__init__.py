"""Making graphs."""

from .dims import fix_dims

__all__ = ["fix_dims"]
