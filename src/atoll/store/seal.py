"""Columns that hold secrets: JSON, sealed with the server's key. Whoever copies the database alone reads nothing.

The row's id is authenticated with it, so what was sealed for one row does not open in another.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from atoll.core.errors import InternalError

_NONCE_BYTES = 12
_FORM = "v1."


class Seal:
    def __init__(self, key: bytes) -> None:
        """32 bytes."""
        self._cipher = AESGCM(key)

    def close(self, values: Mapping[str, Any], row: str) -> str:  # Any: JSON values
        """Nothing needs no sealing."""
        if not values:
            return ""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, json.dumps(values).encode(), row.encode())
        return _FORM + base64.b64encode(nonce + sealed).decode()

    def open(self, text: str, row: str) -> dict[str, Any]:  # Any: JSON values
        if not text:
            return {}
        try:
            if not text.startswith(_FORM):
                raise ValueError("unknown form")
            sealed = base64.b64decode(text.removeprefix(_FORM), validate=True)
            return dict(json.loads(self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], row.encode())))
        except (ValueError, InvalidTag) as error:
            raise InternalError(
                f"what was sealed for {row} does not open: seal.key in the server's directory is another one than it "
                "was sealed with, or the row is damaged. Restore it from a backup"
            ) from error
