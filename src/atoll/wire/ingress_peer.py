"""Whose a connection to the edge's Unix socket is: the name that its other end is bound to says it.

Names that begin with a zero byte are in no file system; the kernel shows them to who accepts. Only root gets to the
socket, so what it says is believed.
"""

from __future__ import annotations

import re

_NAME = re.compile(rb"\x00atoll sandbox ([a-z0-9]{1,64}) [0-9a-f]{1,32}")


def peer_name(sandbox_id: str, unique: str) -> bytes:
    """`unique`: hexadecimal digits; no two connections of one time have one name."""
    return f"\0atoll sandbox {sandbox_id} {unique}".encode("ascii")


def sandbox_of(name: object) -> str | None:
    """None: it is no sandbox's. `name`: as getpeername(2) has it."""
    match = _NAME.fullmatch(name) if isinstance(name, bytes) else None
    return match[1].decode() if match is not None else None
