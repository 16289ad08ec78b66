"""Ids: lower-case `[a-z0-9]`, no hyphen, unguessable, safe as a DNS label."""

from __future__ import annotations

import re
import secrets

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
SANDBOX_ID_LENGTH = 20  # 20 × log2(36) = 103 bits
_SANDBOX_ID = re.compile(r"[a-z0-9]{20}")


def new_sandbox_id() -> str:
    """One question to the kernel: one for each letter would be most of what a row costs."""
    number, letters = secrets.randbelow(len(_ALPHABET) ** SANDBOX_ID_LENGTH), []
    for _ in range(SANDBOX_ID_LENGTH):
        number, letter = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return "".join(letters)


def is_sandbox_id(text: str) -> bool:
    return _SANDBOX_ID.fullmatch(text) is not None
