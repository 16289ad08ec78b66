"""One thing that was tried on a host, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str
    fix: str = ""
    """What to do when it is not ok."""
    required: bool = True
    """Without it Atoll does not start."""
