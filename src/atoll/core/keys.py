"""API keys: 160 random bits, shown once, stored hashed.

`e2b_` + 40 hex digits is the form we print, since the strictest SDK accepts it; the same digits after `hopx_live_` or
`hopx_test_` are the same key, since a HopX command line insists on such a prefix. SHA-256 without salt or stretching is
enough for a random secret of this length, and lets a look-up by hash find it in one step.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

from .quota import UNLIMITED, Quota
from .rates import GENEROUS, Rates

PRINTED_PREFIX = "e2b_"
DISPLAY_DIGITS = 6
_KEY = re.compile(r"(?:e2b_|hopx_live_|hopx_test_)([0-9a-f]{40})")


@dataclass(frozen=True)
class ApiKey:
    id: str
    name: str
    organization_id: int
    digest: str
    display: str
    """The first digits, enough to recognise a key in a list."""
    created_at: float
    last_used_at: float | None = None
    revoked_at: float | None = None
    quota: Quota = UNLIMITED
    rates: Rates = GENEROUS


@dataclass(frozen=True)
class Principal:
    """Who is asking, and how much of it."""

    key_id: str
    organization_id: int
    quota: Quota = UNLIMITED
    rates: Rates = GENEROUS


SYSTEM = Principal(key_id="system", organization_id=0)
"""Atoll itself: clocks, reconciliation."""


def new_digits() -> str:
    return secrets.token_hex(20)


def printed(digits: str) -> str:
    return PRINTED_PREFIX + digits


def displayed(digits: str) -> str:
    return f"{PRINTED_PREFIX}{digits[:DISPLAY_DIGITS]}…"


def digits_of(text: str) -> str | None:
    """None when it cannot be a key of ours."""
    match = _KEY.fullmatch(text)
    return match[1] if match else None


def digest(digits: str) -> str:
    return hashlib.sha256(digits.encode()).hexdigest()
