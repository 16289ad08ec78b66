"""A sandbox's token: good for calls to its agent, for a day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .read import moment, text

MARGIN = timedelta(minutes=5)
"""Before its end a token is refreshed, so that it does not end on its way."""


@dataclass(frozen=True)
class Token:
    text: str = field(repr=False)
    expires_at: datetime | None = None

    def is_fresh(self, now: datetime) -> bool:
        return self.expires_at is None or self.expires_at - now > MARGIN


def token_of(data: Mapping[str, Any]) -> Token | None:  # Any: JSON values
    """None when there is none in it."""
    found = text(data.get("auth_token"))
    return Token(found, moment(data.get("token_expires_at"))) if found else None
