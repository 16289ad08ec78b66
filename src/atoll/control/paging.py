"""Cursors: opaque to clients, and checked like everything that comes from them."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable

from atoll.core.errors import InvalidInput
from atoll.core.ids import is_sandbox_id
from atoll.core.sandbox import Sandbox
from atoll.core.secrets import Secret

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
Position = tuple[float, str]


def cursor_after(last: Sandbox | Secret) -> str:
    text = json.dumps([last.created_at, last.id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position(cursor: str, is_id: Callable[[str], bool] = is_sandbox_id) -> Position:
    try:
        raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        created_at, last_id = json.loads(raw)
        if not (isinstance(created_at, float) and math.isfinite(created_at) and is_id(str(last_id))):
            raise ValueError("not a position")
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput("the cursor is not one that was given out", field="cursor") from error
    return created_at, last_id
