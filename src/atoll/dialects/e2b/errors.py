"""Errors in E2B's words, and whether a client should send the same again.

Its clients repeat what says `Should-Retry: true`, and whatever says nothing with 429, 502, 503 or 504, creates
included. So every error says it, and only those say yes before which nothing was done, or all was undone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from atoll.core.errors import AtollError, ErrorKind
from atoll.dialects.errors import Cell, Dialect, cell

Json = dict[str, Any]  # Any: JSON values

CAUSES: dict[str, Cell] = {
    "host_full": Cell(503, "sandbox_capacity_unavailable"),
    "size": Cell(400, ""),
    "volume_exists": Cell(400, ""),
    "idempotency_request_mismatch": Cell(422, "idempotency_request_mismatch"),
    "idempotency_in_progress": Cell(409, "idempotency_in_progress"),
    "idempotency_outcome_unknown": Cell(409, "idempotency_outcome_unknown"),
}
"""By `details["cause"]`."""
SECRETS_FULL = Cell(403, "secret_limit_reached")

RETRY_AFTER_S = 1
REPEATABLE = frozenset({ErrorKind.RATE_LIMITED, ErrorKind.UNAVAILABLE})
REPEATABLE_CAUSES = frozenset({"host_full", "idempotency_in_progress"})

DONE = {
    "pause": "paused",
    "stop": "paused",
    "resume": "resumed",
    "start": "resumed",
    "set_network": "updated",
    "expire": "updated",
}
"""What a sandbox in the wrong state cannot be."""
SHOWN_STATE = {"stopped": "paused", "error": "paused"}


@dataclass(frozen=True)
class Refusal:
    status: int
    content: Json
    headers: dict[str, str]


def refusal(error: AtollError, sandbox_id: str | None = None, status: int | None = None) -> Refusal:
    """`sandbox_id`: the one in the request's path. `status`: instead of the table's."""
    found = _cell(error)
    shown = status or found.status
    content: Json = {"code": shown, "message": message(error, sandbox_id)}
    if found.code:
        content["error_code"] = found.code
    return Refusal(shown, content, retry_headers(error))


def _cell(error: AtollError) -> Cell:
    if error.details.get("resource") == "secrets":
        return SECRETS_FULL
    return CAUSES.get(str(error.details.get("cause")), cell(error.kind, Dialect.E2B))


def retry_headers(error: AtollError) -> dict[str, str]:
    if error.kind not in REPEATABLE and error.details.get("cause") not in REPEATABLE_CAUSES:
        return {"Should-Retry": "false"}
    return {"Should-Retry": "true", "Retry-After": str(error.details.get("retry_after_s", RETRY_AFTER_S))}


# ---- texts


def message(error: AtollError, sandbox_id: str | None) -> str:
    """Clients, and the programs that use them, look for some of these."""
    write = WORDS.get(error.kind)
    return (write(error, sandbox_id) if write else None) or error.message


def _not_found(error: AtollError, sandbox_id: str | None) -> str | None:
    details = error.details
    if "sandbox_id" in details:
        return f"Sandbox \"{details['sandbox_id']}\" doesn't exist or you don't have access to it"
    more = details.keys() & {"tag", "built"}  # of the message, which says what to do
    return None if more or "template" not in details else f"template '{details['template']}' not found"


def _conflict(error: AtollError, sandbox_id: str | None) -> str | None:
    done, state = DONE.get(str(error.details.get("event"))), str(error.details.get("state"))
    if done is None or sandbox_id is None:
        return None
    return f"Sandbox '{sandbox_id}' cannot be {done} while in '{SHOWN_STATE.get(state, state)}' state"


def _invalid(error: AtollError, sandbox_id: str | None) -> str | None:
    field, most = error.details.get("field"), error.details.get("maximum")
    if field == "timeout_seconds":
        return f"Timeout cannot be greater than {most / 3600:g} hours" if most else "Timeout is too large"
    return "Invalid next token" if field == "cursor" else None


def _capacity(error: AtollError, sandbox_id: str | None) -> str | None:
    if error.details.get("cause") != "quota" or error.details.get("resource") != "sandboxes":
        return None
    return (
        f"you have reached the maximum number of concurrent E2B sandboxes ({error.details['limit']}). Kill one, or "
        "have the limit of the API key raised (`atoll keys limit`)."
    )


Words = Callable[[AtollError, str | None], str | None]
WORDS: dict[ErrorKind, Words] = {
    ErrorKind.NOT_FOUND: _not_found,
    ErrorKind.CONFLICT: _conflict,
    ErrorKind.INVALID_INPUT: _invalid,
    ErrorKind.CAPACITY_EXCEEDED: _capacity,
}
