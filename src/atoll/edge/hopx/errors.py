"""The agent surface's errors: one table from kind to status and code.

Clients repeat a call on 429 and 5xx, so those are for what may pass, never for a user's program, a
permanent condition or a sandbox's own fault: the call may have had effects. `error` is a string here (on the
control plane: an object).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from atoll.core.errors import ErrorKind
from atoll.edge.agent_link import AgentError, AgentGone, AgentMisbehaved, AgentRefused, AgentSilent, TooManyCalls


class Kind(StrEnum):
    INVALID_REQUEST = "invalid_request"
    INVALID_JSON = "invalid_json"
    MISSING_PARAMETER = "missing_parameter"
    FORBIDDEN = "forbidden"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 – a name
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    NO_SUCH_ROUTE = "no_such_route"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UPGRADE_REQUIRED = "upgrade_required"
    BODY_TOO_LARGE = "body_too_large"
    SANDBOX_NOT_FOUND = "sandbox_not_found"
    SANDBOX_PAUSED = "sandbox_paused"
    SANDBOX_STOPPED = "sandbox_stopped"
    FILE_NOT_FOUND = "file_not_found"
    FILE_EXISTS = "file_exists"
    FILE_TOO_LARGE = "file_too_large"
    INVALID_PATH = "invalid_path"
    PATH_NOT_ALLOWED = "path_not_allowed"
    DISK_FULL = "disk_full"
    PROCESS_NOT_FOUND = "process_not_found"
    BUSY = "busy"
    TOO_MANY = "too_many"
    DESKTOP_NOT_AVAILABLE = "desktop_not_available"
    UNSUPPORTED = "unsupported"
    AGENT_SILENT = "agent_silent"
    AGENT_FAILED = "agent_failed"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Cell:
    status: int
    code: str


TABLE: dict[Kind, Cell] = {
    Kind.INVALID_REQUEST: Cell(400, "INVALID_REQUEST"),
    Kind.INVALID_JSON: Cell(400, "INVALID_JSON"),
    Kind.MISSING_PARAMETER: Cell(400, "MISSING_PARAMETER"),
    Kind.FORBIDDEN: Cell(403, "FORBIDDEN"),
    Kind.INVALID_TOKEN: Cell(401, "INVALID_TOKEN"),
    Kind.TOKEN_EXPIRED: Cell(401, "TOKEN_EXPIRED"),
    Kind.NO_SUCH_ROUTE: Cell(404, "ROUTE_NOT_FOUND"),
    Kind.METHOD_NOT_ALLOWED: Cell(405, "METHOD_NOT_ALLOWED"),
    Kind.UPGRADE_REQUIRED: Cell(426, "UPGRADE_REQUIRED"),
    Kind.BODY_TOO_LARGE: Cell(413, "REQUEST_TOO_LARGE"),
    Kind.SANDBOX_NOT_FOUND: Cell(404, "SANDBOX_NOT_FOUND"),
    Kind.SANDBOX_PAUSED: Cell(409, "SANDBOX_PAUSED"),
    Kind.SANDBOX_STOPPED: Cell(409, "SANDBOX_STOPPED"),
    Kind.FILE_NOT_FOUND: Cell(404, "FILE_NOT_FOUND"),
    Kind.FILE_EXISTS: Cell(409, "FILE_ALREADY_EXISTS"),
    Kind.FILE_TOO_LARGE: Cell(413, "FILE_TOO_LARGE"),
    Kind.INVALID_PATH: Cell(400, "INVALID_PATH"),
    Kind.PATH_NOT_ALLOWED: Cell(403, "PATH_NOT_ALLOWED"),
    Kind.DISK_FULL: Cell(413, "FILE_OPERATION_FAILED"),  # the JS client would repeat a 507, and knows this code
    Kind.PROCESS_NOT_FOUND: Cell(404, "PROCESS_NOT_FOUND"),
    Kind.BUSY: Cell(409, "BUSY"),
    Kind.TOO_MANY: Cell(429, "TOO_MANY_REQUESTS"),
    Kind.DESKTOP_NOT_AVAILABLE: Cell(400, "DESKTOP_NOT_AVAILABLE"),  # the JS client repeats a 501
    Kind.UNSUPPORTED: Cell(400, "NOT_SUPPORTED"),  # and takes any other for a missing desktop
    Kind.AGENT_SILENT: Cell(408, "AGENT_TIMEOUT"),
    Kind.AGENT_FAILED: Cell(424, "AGENT_FAILED"),
    Kind.UNAVAILABLE: Cell(503, "SERVICE_UNAVAILABLE"),
    Kind.INTERNAL: Cell(500, "INTERNAL_ERROR"),
}

FROM_AGENT: dict[str, Kind] = {
    "invalid": Kind.INVALID_REQUEST,
    "permission": Kind.PATH_NOT_ALLOWED,
    "not_found": Kind.FILE_NOT_FOUND,
    "no_user": Kind.INVALID_REQUEST,
    "exists": Kind.FILE_EXISTS,
    "not_a_directory": Kind.INVALID_PATH,
    "is_a_directory": Kind.INVALID_PATH,
    "not_regular": Kind.INVALID_PATH,
    "busy": Kind.BUSY,
    "too_large": Kind.FILE_TOO_LARGE,
    "no_space": Kind.DISK_FULL,
    "too_many": Kind.TOO_MANY,
    "unsupported": Kind.UNSUPPORTED,
    "internal": Kind.AGENT_FAILED,
}

FROM_CORE: dict[ErrorKind, Kind] = {
    ErrorKind.INVALID_INPUT: Kind.INVALID_REQUEST,
    ErrorKind.AUTHENTICATION_FAILED: Kind.INVALID_TOKEN,
    ErrorKind.PERMISSION_DENIED: Kind.PATH_NOT_ALLOWED,
    ErrorKind.NOT_FOUND: Kind.SANDBOX_NOT_FOUND,
    ErrorKind.CONFLICT: Kind.BUSY,
    ErrorKind.CAPACITY_EXCEEDED: Kind.DISK_FULL,
    ErrorKind.RATE_LIMITED: Kind.TOO_MANY,
    ErrorKind.UNAVAILABLE: Kind.UNAVAILABLE,
    ErrorKind.UNSUPPORTED: Kind.UNSUPPORTED,
    ErrorKind.INTERNAL: Kind.INTERNAL,
}


class SurfaceError(Exception):
    def __init__(self, kind: Kind, message: str, **details: Any) -> None:  # Any: JSON values
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.details = details

    @property
    def cell(self) -> Cell:
        return TABLE[self.kind]


def sandbox_not_found(sandbox_id: str) -> SurfaceError:
    return SurfaceError(Kind.SANDBOX_NOT_FOUND, f"Sandbox {sandbox_id} not found", sandbox_id=sandbox_id)


def from_agent(error: AgentError, sandbox_id: str, **details: Any) -> SurfaceError:
    match error:
        case AgentRefused(kind=kind, message=message):
            return SurfaceError(FROM_AGENT.get(kind, Kind.AGENT_FAILED), message, **details)
        case AgentGone():
            return sandbox_not_found(sandbox_id)
        case TooManyCalls():
            return SurfaceError(Kind.TOO_MANY, "Too many calls to this sandbox at once", retry_after_seconds=1)
        case AgentSilent():
            return SurfaceError(Kind.AGENT_SILENT, "The sandbox did not answer in time")
        case AgentMisbehaved():
            return SurfaceError(Kind.AGENT_FAILED, "The sandbox's agent sent an answer that is not the agent protocol")
        case _:
            return SurfaceError(Kind.AGENT_FAILED, "The sandbox's agent failed")


def body(error: SurfaceError, request_id: str, timestamp: str) -> dict[str, Any]:
    """The form that satisfies every client: sync Python reads `error`, async Python and JS read `message`."""
    details = error.details
    rendered = {
        "error": error.message,
        "message": error.message,
        "code": error.cell.code,
        "details": details,
        "request_id": request_id,
        "timestamp": timestamp,
    }
    for name in ("path", "missing_dependencies"):
        if name in details:
            rendered[name] = details[name]
    return rendered
