"""What only the edge asks: where sandboxes are, whether a key may use one, that one be resumed for traffic; and what it
tells: how they are used.

Reached by the server's Unix socket alone, which is root's; the edge never forwards these paths.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from atoll.control.routes import route_of
from atoll.control.uses import Report
from atoll.core.errors import AuthenticationFailed, InvalidInput, NotFound

from .http import answer, body, services

router = APIRouter(prefix="/internal", include_in_schema=False)


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class ActivityEntry(_Body):
    id: str
    last_call_at: float
    open: int = 0


class ActivityBody(_Body):
    activity: list[ActivityEntry]


class AuthenticateBody(_Body):
    credential: str
    sandbox: str


def _parse(model: type[Any], raw: bytes) -> Any:  # Any: one of the models above
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidInput("not what was agreed between edge and server") from error


@router.get("/routes")
async def follow_routes(request: Request) -> Response:
    services(request).uses.close_all()  # a new follower is an edge that starts, or that has lost us: it reports anew

    async def lines() -> AsyncIterator[bytes]:
        async for message in services(request).routes.follow():
            yield json.dumps(message, separators=(",", ":")).encode() + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


@router.get("/routes/{sandbox_id}")
async def get_route(request: Request, sandbox_id: str) -> Response:
    route = services(request).routes.get(sandbox_id)
    if route is None:
        raise NotFound("no such sandbox")
    return answer(route)


@router.post("/activity")
async def report_activity(request: Request) -> Response:
    given = _parse(ActivityBody, await body(request))
    reports = [Report(entry.id, entry.last_call_at, entry.open) for entry in given.activity]
    services(request).uses.record(reports, services(request).routes.ids())
    return answer({})


@router.post("/sandboxes/{sandbox_id}/resume")
async def resume_sandbox(request: Request, sandbox_id: str) -> Response:
    """Traffic has come for one that is paused. The answer is its route."""
    return answer(route_of(await services(request).sandboxes.wake(sandbox_id)) or {})


@router.post("/volumes/{volume_id}/open")
async def open_volume(request: Request, volume_id: str) -> Response:
    """The edge has checked the token. The answer is where an agent has the volume's files."""
    return answer({"socket": await services(request).volumes.open(volume_id)})


@router.post("/authenticate")
async def authenticate(request: Request) -> Response:
    given = _parse(AuthenticateBody, await body(request))
    try:
        principal = await services(request).keys.authenticate(given.credential)
    except AuthenticationFailed:
        return answer({"allowed": False})
    return answer({"allowed": await services(request).sandboxes.owns(principal.organization_id, given.sandbox)})
