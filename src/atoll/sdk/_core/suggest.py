"""Which name was meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def likeliest(name: str, there: Sequence[str]) -> str | None:
    found = difflib.get_close_matches(name, there, n=1, cutoff=0.6)
    return found[0] if found else None
