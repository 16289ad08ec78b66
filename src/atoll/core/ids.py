"""Ids: lower-case `[a-z0-9]`, no hyphen, unguessable, safe as a DNS label."""

from __future__ import annotations

import re
import secrets

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
SANDBOX_ID_LENGTH = 20  # 20 × log2(36) = 103 bits
_SANDBOX_ID = re.compile(r"[a-z0-9]{20}")


def new_sandbox_id() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(SANDBOX_ID_LENGTH))


def is_sandbox_id(text: str) -> bool:
    return _SANDBOX_ID.fullmatch(text) is not None
