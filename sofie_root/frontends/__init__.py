"""Model files to the IR: a folder per format, and the table that says which file is read by which."""

from .frontend import FRONTENDS, Frontend, frontend_of, readable

__all__ = ["FRONTENDS", "Frontend", "frontend_of", "readable"]
