"""Cursors: opaque to clients, and checked like everything that comes from them."""

from __future__ import annotations

import base64
import json
import math

from atoll.core.errors import InvalidInput
from atoll.core.ids import is_sandbox_id
from atoll.core.sandbox import Sandbox

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
Position = tuple[float, str]


def cursor_after(sandbox: Sandbox) -> str:
    text = json.dumps([sandbox.created_at, sandbox.id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position(cursor: str) -> Position:
    try:
        raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        created_at, sandbox_id = json.loads(raw)
        if not (isinstance(created_at, float) and math.isfinite(created_at) and is_sandbox_id(str(sandbox_id))):
            raise ValueError("not a position")
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput("the cursor is not one that was given out", field="cursor") from error
    return created_at, sandbox_id
