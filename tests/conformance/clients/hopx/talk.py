"""Small words that many tests use."""

from __future__ import annotations

import inspect
from typing import Any

import hopx_ai
import hopx_ai._ws_client
import hopx_ai.files
import pytest

# What an old version does not do, seen in the installed one.
DECODES_BASE64 = "base64" in inspect.unwrap(hopx_ai.files.Files.read_bytes).__code__.co_names
WITH_CREDENTIAL = pytest.mark.skipif(
    not hasattr(hopx_ai._ws_client.WebSocketClient, "update_jwt_token"),
    reason="this version sends no credential with WebSockets, so it is refused",
)

IMPOSSIBLE_ID = "zzzzzzzzzzzzzzzzzzzz"


def shell(sandbox: Any, command: str) -> str:
    """Standard output of a command that must succeed."""
    result = sandbox.run_code(command, language="bash")
    assert result.exit_code == 0, result
    return str(result.stdout).strip()


def gone(sandbox: Any) -> bool:
    try:
        sandbox.get_info()
    except hopx_ai.NotFoundError:
        return True
    return False
