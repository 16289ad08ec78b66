"""HopX's control plane, its routes 1 to 14, and `…/network` and `…/links`, which are ours. A route parses, calls one
service method, renders.

Every success carries a JSON object: the clients parse the body of each one.
"""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from atoll import __version__
from atoll.core.rates import Kind
from atoll.core.sandbox import Sandbox
from atoll.dialects.http import Json, answer, body, caller, request_id, services, waits

from . import parse, render

router = APIRouter()


def _view(request: Request, found: Sandbox) -> Json:
    expires_at = services(request).sandboxes.expires_at(found)
    return render.sandbox(found, expires_at, request.app.state.addresses)


def _sandbox(request: Request, found: Sandbox) -> Response:
    facts = {**_view(request, found), **render.traffic_token(found)}
    return answer({**facts, "request_id": request_id(request)})


@router.get("/health")
async def health(request: Request) -> Response:
    facts = {"status": "ok", "version": __version__, "ready": request.app.state.is_ready()}
    return answer({**facts, "request_id": request_id(request)})


@router.post("/v1/sandboxes")
async def create_sandbox(request: Request) -> Response:
    by = await caller(request, Kind.CREATE)
    order = parse.create_order(await body(request))
    found, token = await services(request).sandboxes.create(by, order, partial(waits, request))
    facts = {**_view(request, found), **render.traffic_token(found), **render.token(token)}
    return answer({**facts, "request_id": request_id(request)}, 201)


@router.get("/v1/sandboxes")
async def list_sandboxes(request: Request) -> Response:
    by, query = await caller(request), request.query_params
    found = await services(request).sandboxes.list(
        by,
        parse.status(query),
        query.get("region") or None,
        query.get("cursor") or None,
        parse.limit(query),
        metadata=parse.metadata(query.getlist("metadata")),
    )
    items = [_view(request, sandbox) for sandbox in found.sandboxes]
    return answer({**render.page(found, items), "request_id": request_id(request)})


@router.get("/v1/sandboxes/{sandbox_id}")
async def get_sandbox(request: Request, sandbox_id: str) -> Response:
    return _sandbox(request, await services(request).sandboxes.get(await caller(request), sandbox_id))


@router.delete("/v1/sandboxes/{sandbox_id}")
async def delete_sandbox(request: Request, sandbox_id: str) -> Response:
    gone = await services(request).sandboxes.delete(await caller(request), sandbox_id)
    return answer({"id": gone.id, "object": "sandbox", "status": gone.state.value, "request_id": request_id(request)})


@router.post("/v1/sandboxes/{sandbox_id}/pause")
async def pause_sandbox(request: Request, sandbox_id: str) -> Response:
    return _sandbox(request, await services(request).sandboxes.pause(await caller(request), sandbox_id))


@router.post("/v1/sandboxes/{sandbox_id}/resume")
async def resume_sandbox(request: Request, sandbox_id: str) -> Response:
    return _sandbox(request, await services(request).sandboxes.resume(await caller(request), sandbox_id))


@router.post("/v1/sandboxes/{sandbox_id}/start")
async def start_sandbox(request: Request, sandbox_id: str) -> Response:
    return _sandbox(request, await services(request).sandboxes.start(await caller(request), sandbox_id))


@router.post("/v1/sandboxes/{sandbox_id}/stop")
async def stop_sandbox(request: Request, sandbox_id: str) -> Response:
    return _sandbox(request, await services(request).sandboxes.stop(await caller(request), sandbox_id))


@router.put("/v1/sandboxes/{sandbox_id}/timeout")
async def set_timeout(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    seconds = parse.timeout_s(await body(request))
    return _sandbox(request, await services(request).sandboxes.set_timeout(by, sandbox_id, seconds))


@router.put("/v1/sandboxes/{sandbox_id}/network")
async def set_network(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    change = parse.network(await body(request))
    changed = await services(request).sandboxes.set_network(by, sandbox_id, change.policy, change.ingress)
    return _sandbox(request, changed)


@router.post("/v1/sandboxes/{sandbox_id}/token/refresh")
async def refresh_token(request: Request, sandbox_id: str) -> Response:
    token = await services(request).sandboxes.refresh_token(await caller(request), sandbox_id)
    return answer({**render.token(token), "request_id": request_id(request)})


@router.post("/v1/sandboxes/{sandbox_id}/links")
async def make_link(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    order, addresses = parse.link(await body(request)), request.app.state.addresses
    token, port, found = await services(request).sandboxes.link(
        by, sandbox_id, order.port, order.seconds, addresses.domain is not None
    )
    return answer({**render.link(token, port, found, addresses), "request_id": request_id(request)}, 201)


@router.get("/v1/templates")
async def list_templates(request: Request) -> Response:
    by, query = await caller(request), request.query_params
    found = await services(request).templates.list(by, query.get("category") or None, query.get("language") or None)
    items = [render.template(template) for template in found]
    return answer({"object": "list", "data": items, "request_id": request_id(request)})


@router.get("/v1/templates/{name}")
async def get_template(request: Request, name: str) -> Response:
    found = await services(request).templates.get(await caller(request), name)
    return answer({**render.template(found), "request_id": request_id(request)})


@router.delete("/v1/templates/{name}")
async def delete_template(request: Request, name: str) -> Response:
    await services(request).templates.delete(await caller(request), name)
    return answer({"id": name, "deleted": True, "request_id": request_id(request)})
