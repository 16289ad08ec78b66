"""Exit codes, and errors as one line for people.

0 well · 1 failed · 2 wrong usage · 124 out of time · 130 Ctrl-C · else the code of the program that ran
"""

from __future__ import annotations

from typing import NamedTuple

from atoll.core.errors import AtollError, InvalidInput

FAILED, USAGE, TIMED_OUT, INTERRUPTED = 1, 2, 124, 130


class Told(NamedTuple):
    message: str
    status: int


def explained(error: Exception) -> Told | None:
    """What to say and to exit with; None for what nobody foresaw."""
    from .render import plain

    if isinstance(error, AtollError):
        return Told(plain(error.message), USAGE if isinstance(error, InvalidInput) else FAILED)
    from atoll import sdk  # its import takes long

    if isinstance(error, sdk.TimeoutError):
        return Told(plain(str(error)), TIMED_OUT)
    if isinstance(error, sdk.ValidationError):
        return Told(plain(str(error)), USAGE)
    if isinstance(error, sdk.AtollError):
        return Told(plain(str(error)), FAILED)
    if isinstance(error, OSError):
        return Told(plain(f"{error.filename}: {error.strerror}" if error.filename else str(error)), FAILED)
    return None
