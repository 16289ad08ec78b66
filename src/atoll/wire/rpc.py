"""Requests between Atoll's own processes: one JSON object a line, on a Unix stream socket.

    → {"id": 7, "method": "create", "params": {…}}
    ← {"id": 7, "result": {…}}     or     {"id": 7, "error": {"kind", "message", "details"}}
    ← {"event": "exited", "data": {…}}            (no answer expected)

Requests may be answered in any order. A line above `MAX_LINE` closes the connection.
"""

from __future__ import annotations

import json
from typing import Any

MAX_LINE = 16 * 1024 * 1024

Message = dict[str, Any]


class RpcFormatError(ValueError):
    pass


def encode(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise RpcFormatError("not JSON") from error
    if not isinstance(message, dict) or not ({"id", "event"} & message.keys()):
        raise RpcFormatError("neither a request, an answer nor an event")
    return message
