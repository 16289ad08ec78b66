"""What fails on E2B's agent surface: one table from the agent's kinds to Connect's codes and to plain HTTP statuses.

A sandbox that is not there is no error of this surface: the front says so in the ingress's words (`pages.e2b`), which
clients look for, whatever was asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from atoll.edge.agent_link import AgentError, AgentGone, AgentMisbehaved, AgentRefused, AgentSilent, TooManyCalls
from atoll.wire.connect import HTTP_STATUS, Code, ConnectError

UNAUTHORIZED = "unauthorized access, please provide a valid access token or method signing if supported"


@dataclass(frozen=True, slots=True)
class Cell:
    code: Code
    status: int
    """On the routes of plain HTTP."""


FROM_AGENT: dict[str, Cell] = {
    "invalid": Cell(Code.INVALID_ARGUMENT, 400),
    "permission": Cell(Code.PERMISSION_DENIED, 403),
    "not_found": Cell(Code.NOT_FOUND, 404),
    "no_user": Cell(Code.UNAUTHENTICATED, 401),
    "exists": Cell(Code.ALREADY_EXISTS, 409),
    "not_a_directory": Cell(Code.INVALID_ARGUMENT, 400),
    "is_a_directory": Cell(Code.INVALID_ARGUMENT, 400),
    "not_regular": Cell(Code.INVALID_ARGUMENT, 400),
    "busy": Cell(Code.FAILED_PRECONDITION, 409),
    "too_large": Cell(Code.RESOURCE_EXHAUSTED, 413),
    "no_space": Cell(Code.RESOURCE_EXHAUSTED, 507),
    "too_many": Cell(Code.RESOURCE_EXHAUSTED, 429),
    "unsupported": Cell(Code.UNIMPLEMENTED, 501),
    "internal": Cell(Code.INTERNAL, 500),
}


class EnvdError(ConnectError):
    """As `ConnectError`, with the status that it has on the routes of plain HTTP."""

    def __init__(self, code: Code, message: str, http_status: int | None = None) -> None:
        super().__init__(code, message)
        self.http_status = HTTP_STATUS[code] if http_status is None else http_status


def from_agent(error: AgentError, user: str = "") -> EnvdError:
    """`user`: whose name the agent was given. Raises an AgentGone again: that is the ingress's to explain."""
    match error:
        case AgentGone():
            raise error
        case AgentRefused(kind="no_user"):
            return EnvdError(Code.UNAUTHENTICATED, f"invalid username: '{user}'")
        case AgentRefused(kind=kind, message=message):
            cell = FROM_AGENT.get(kind, FROM_AGENT["internal"])
            return EnvdError(cell.code, message, cell.status)
        case TooManyCalls():
            return EnvdError(Code.RESOURCE_EXHAUSTED, "too many calls to this sandbox at once")
        case AgentSilent():
            return EnvdError(Code.UNAVAILABLE, "the sandbox did not answer in time")
        case AgentMisbehaved():
            return EnvdError(Code.INTERNAL, "the sandbox's agent sent an answer that is not the agent protocol")
        case _:
            return EnvdError(Code.INTERNAL, "the sandbox's agent failed")


def http_status(error: ConnectError) -> int:
    return error.http_status if isinstance(error, EnvdError) else error.status
