"""What fails on the code interpreter's surface: a plain text, and the status of the agent surface's plain routes.

502 is never among them: clients take it for a sandbox that has ended.
"""

from __future__ import annotations

from aiohttp import web

from atoll.edge.agent_link import AgentError, AgentGone, AgentMisbehaved, AgentRefused, AgentSilent, TooManyCalls
from atoll.edge.e2b.errors import FROM_AGENT

STATUS_OF = {kind: cell.status for kind, cell in FROM_AGENT.items()} | {
    "unsupported": 500,  # there is no kernel for the language
    "no_user": 500,  # nor anybody to run it as
}


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def no_such_context(context_id: str) -> Refused:
    return Refused(404, f"Context {context_id[:100]} not found")


def from_agent(error: AgentError) -> Refused:
    """Raises an AgentGone again: that is the ingress's to explain."""
    match error:
        case AgentGone():
            raise error
        case AgentRefused(kind=kind, message=message):
            return Refused(STATUS_OF.get(kind, 500), message)
        case TooManyCalls():
            return Refused(429, "Too many calls to this sandbox at once")
        case AgentSilent():
            return Refused(504, "The sandbox did not answer in time")
        case AgentMisbehaved():
            return Refused(500, "The sandbox's agent sent an answer that is not the agent protocol")
        case _:
            return Refused(500, "The sandbox's agent failed")


def rendered(refused: Refused) -> web.Response:
    text = refused.message.encode("utf-8", "replace").decode()
    return web.Response(text=text, status=refused.status, headers={"X-Content-Type-Options": "nosniff"})
