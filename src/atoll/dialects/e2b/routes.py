"""E2B's control plane, both generations of it. A route parses, calls one service method, renders.

Names of templates may hold a slash, percent-encoded by their clients and decoded by the framework before it looks for
a route: so they are paths here, and routes with more behind the name come first.
"""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from atoll.core.audit import Caller
from atoll.core.errors import Unsupported
from atoll.core.rates import Kind
from atoll.core.sandbox import Sandbox
from atoll.core.template import Template
from atoll.dialects.http import Json, answer, answer_list, body, caller, services, waits

from . import names, parse, render

router = APIRouter()

NEXT_TOKEN = "x-next-token"  # noqa: S105 - a header
IDEMPOTENCY_KEY = "idempotency-key"
MAX_LOG_LINES = 1000


def domain_of(request: Request) -> str | None:
    """With its port. None: the client has asked by the name that it knows."""
    addresses = request.app.state.addresses
    return addresses.public_url.partition("://")[2] if addresses.domain else None


def access(request: Request, found: Sandbox) -> Json:
    return render.access(found, services(request).sandboxes.access_token(found), domain_of(request))


def detail(request: Request, found: Sandbox) -> Response:
    sandboxes = services(request).sandboxes
    return answer(render.detail(found, sandboxes.expires_at(found), sandboxes.access_token(found), domain_of(request)))


def nothing() -> Response:
    return Response(status_code=204)


def _page(items: list[Json], cursor: str | None = None) -> Response:
    """Without the header where nothing follows: clients take an empty one for a token."""
    return answer_list(items, {NEXT_TOKEN: cursor} if cursor else {})


# ---- made, found


async def _create(request: Request, version: int, key: str | None = None) -> Response:
    by, raw = await caller(request, Kind.CREATE), await body(request)

    async def made() -> Json:
        given = parse.creation(raw, version)
        template = (await find_template(request, given.template)).name
        order = parse.from_template(given, template)
        found, _ = await services(request).sandboxes.create(by, order, partial(waits, request))
        return access(request, found)

    if key is None:
        return answer(await made(), 201)
    return answer(dict(await services(request).idempotency.once(by, key, parse.json_of(raw), made)), 201)


@router.post("/v2/sandboxes")
async def create_sandbox(request: Request) -> Response:
    return await _create(request, 2, parse.idempotency_key(request.headers.get(IDEMPOTENCY_KEY)))


@router.post("/sandboxes")
async def create_sandbox_v1(request: Request) -> Response:
    return await _create(request, 1)


async def _list(request: Request, by: Caller, asked: parse.Listing) -> Response:
    template = names.parse_reference(asked.template).name if asked.template else None
    page = await services(request).sandboxes.list(
        by,
        cursor=asked.cursor,
        limit=asked.limit,
        states=asked.states,
        metadata=asked.metadata,
        template=template,
        created_after=asked.created_after,
        oldest_first=asked.oldest_first,
    )
    ends_at = services(request).sandboxes.expires_at
    items = [render.listed(found, ends_at(found)) for found in page.sandboxes]
    return _page(items, page.next_cursor)


@router.get("/v2/sandboxes")
async def list_sandboxes(request: Request) -> Response:
    by = await caller(request)
    return await _list(request, by, parse.listing(request.query_params))


@router.get("/sandboxes")
async def list_sandboxes_v1(request: Request) -> Response:
    by = await caller(request)
    return await _list(request, by, parse.running(request.query_params))


@router.get("/sandboxes/metrics")
async def latest_metrics(request: Request) -> Response:
    by = await caller(request)
    found = await services(request).measures.latest(by, parse.sandbox_ids(request.query_params))
    return answer(render.metrics(found))


@router.get("/sandboxes/{sandbox_id}")
async def get_sandbox(request: Request, sandbox_id: str) -> Response:
    return detail(request, await services(request).sandboxes.get(await caller(request), sandbox_id))


@router.get("/sandboxes/{sandbox_id}/metrics")
async def sandbox_metrics(request: Request, sandbox_id: str) -> Response:
    by, asked = await caller(request), parse.seconds_range(request.query_params)
    found = await services(request).measures.of(by, sandbox_id, asked.start, asked.end)
    return answer_list([render.measure(each) for each in found])


@router.get("/sandboxes/{sandbox_id}/logs")
async def sandbox_logs_v1(request: Request, sandbox_id: str) -> Response:
    by, query = await caller(request), request.query_params
    start, most = parse.whole(query, "start", 0), parse.limit(query, MAX_LOG_LINES, MAX_LOG_LINES)
    lines = await services(request).history.of(by, sandbox_id)
    found = [line for line in lines if line.at * 1000 >= start][:most]
    entries = [render.log_entry(line) for line in found]
    return answer({"logs": [render.log_line(line) for line in found], "logEntries": entries})


@router.get("/v2/sandboxes/{sandbox_id}/logs")
async def sandbox_logs(request: Request, sandbox_id: str) -> Response:
    by, asked = await caller(request), parse.log_query(request.query_params)
    lines = await services(request).history.of(by, sandbox_id)
    return answer({"logs": [render.log_entry(line) for line in asked.chosen(lines)]})


# ---- a life


async def _connect(request: Request, by: Caller, sandbox_id: str, asked: parse.Resumption) -> Response:
    found, roused = await services(request).sandboxes.connect(
        by, sandbox_id, asked.timeout_s, memory=asked.memory, on_timeout=asked.on_timeout
    )
    return answer(access(request, found), 201 if roused else 200)


@router.post("/v2/sandboxes/{sandbox_id}/connect")
async def connect_sandbox(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    return await _connect(request, by, sandbox_id, parse.connection(await body(request), 2))


@router.post("/sandboxes/{sandbox_id}/connect")
async def connect_sandbox_v1(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    return await _connect(request, by, sandbox_id, parse.connection(await body(request), 1))


@router.post("/sandboxes/{sandbox_id}/resume")
async def resume_sandbox(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    asked = parse.resumption(await body(request))
    found, _ = await services(request).sandboxes.connect(
        by, sandbox_id, asked.timeout_s, only_resting=True, on_timeout=asked.on_timeout
    )
    return answer(access(request, found), 201)


@router.post("/sandboxes/{sandbox_id}/pause")
async def pause_sandbox(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    await services(request).sandboxes.rest(by, sandbox_id, parse.keeps_memory(await body(request)))
    return nothing()


@router.post("/sandboxes/{sandbox_id}/timeout")
async def set_timeout(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    await services(request).sandboxes.run_for(by, sandbox_id, parse.timeout_s(await body(request)))
    return nothing()


@router.post("/sandboxes/{sandbox_id}/refreshes")
async def refresh_sandbox(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    await services(request).sandboxes.run_for(by, sandbox_id, parse.refresh_s(await body(request)), shorten=False)
    return nothing()


@router.delete("/sandboxes/{sandbox_id}")
async def kill_sandbox(request: Request, sandbox_id: str) -> Response:
    await services(request).sandboxes.delete(await caller(request), sandbox_id)
    return nothing()


@router.put("/sandboxes/{sandbox_id}/network")
async def set_network(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    policy = parse.network(await body(request))
    await services(request).sandboxes.set_network(by, sandbox_id, policy, only_running=True)
    return nothing()


# ---- copies of what runs

NO_COPIES = (
    "The native engine cannot copy the memory of running processes, and a copy without it would lose them. Snapshots "
    "and forks need an engine that can (a microVM), which this installation does not have. Pause keeps everything."
)


async def refuse_copy(request: Request, sandbox_id: str) -> Response:
    await services(request).sandboxes.check_owned(await caller(request), sandbox_id)
    raise Unsupported(NO_COPIES)


@router.post("/sandboxes/{sandbox_id}/snapshots")
async def make_snapshot(request: Request, sandbox_id: str) -> Response:
    return await refuse_copy(request, sandbox_id)


@router.post("/sandboxes/{sandbox_id}/fork")
async def fork_sandbox(request: Request, sandbox_id: str) -> Response:
    return await refuse_copy(request, sandbox_id)


@router.get("/snapshots")
async def list_snapshots(request: Request) -> Response:
    """There are none."""
    await caller(request)
    return _page([])


# ---- templates


async def find_template(request: Request, text: str) -> Template:
    reference = names.parse_reference(text)
    found = await services(request).templates.find(reference.name)
    names.check_tag(reference, found)
    return found


async def _list_templates(request: Request) -> Response:
    found = await services(request).templates.list(await caller(request))
    return _page([render.template(each) for each in found])


@router.get("/templates")
async def list_templates_v1(request: Request) -> Response:
    return await _list_templates(request)


@router.get("/v2/templates")
async def list_templates(request: Request) -> Response:
    return await _list_templates(request)


@router.get("/default-templates")
async def list_default_templates(request: Request) -> Response:
    return await _list_templates(request)


@router.get("/templates/aliases/{alias:path}")
async def get_alias(request: Request, alias: str) -> Response:
    await caller(request)
    return answer({"templateID": (await find_template(request, alias)).name, "public": True})


@router.get("/templates/{template:path}/tags")
async def list_tags(request: Request, template: str) -> Response:
    await caller(request)
    return answer_list(render.tags(await find_template(request, template)))


@router.get("/templates/{template:path}")
async def get_template(request: Request, template: str) -> Response:
    await caller(request)
    return answer(render.template_detail(await find_template(request, template)))


NO_BUILDS = "Templates are not built through this API: build them with `atoll template build`, under the name to use."


@router.post("/templates/{rest:path}")
@router.post("/templates")
@router.post("/v2/templates/{rest:path}")
@router.post("/v2/templates")
@router.post("/v3/templates")
@router.patch("/templates/{rest:path}")
@router.patch("/v2/templates/{rest:path}")
@router.delete("/templates/tags")
async def change_template(request: Request) -> Response:
    await caller(request)
    raise Unsupported(NO_BUILDS)


@router.delete("/templates/{template:path}")
async def delete_template(request: Request, template: str) -> Response:
    by = await caller(request)
    await services(request).templates.delete(by, (await find_template(request, template)).name)
    return nothing()


# ---- volumes


@router.get("/volumes")
async def list_volumes(request: Request) -> Response:
    found = await services(request).volumes.list(await caller(request))
    return answer_list([render.volume(each) for each in found])


@router.post("/volumes")
async def create_volume(request: Request) -> Response:
    by = await caller(request)
    given = parse.body(parse.VolumeBody, await body(request))
    made, token = await services(request).volumes.create(by, given.name)
    return answer(render.volume_access(made, token, domain_of(request)), 201)


@router.get("/volumes/{volume_id}")
async def get_volume(request: Request, volume_id: str) -> Response:
    found, token = await services(request).volumes.get(await caller(request), volume_id)
    return answer(render.volume_access(found, token, domain_of(request)))


@router.delete("/volumes/{volume_id}")
async def delete_volume(request: Request, volume_id: str) -> Response:
    await services(request).volumes.delete(await caller(request), volume_id)
    return nothing()


# ---- secrets


@router.get("/secrets")
async def list_secrets(request: Request) -> Response:
    by, query = await caller(request), request.query_params
    page = await services(request).secrets.list(by, query.get("nextToken") or None, parse.limit(query))
    return _page([render.secret(each) for each in page.secrets], page.next_cursor)


@router.post("/secrets")
async def create_secret(request: Request) -> Response:
    by = await caller(request)
    given = parse.body(parse.SecretBody, await body(request))
    made = await services(request).secrets.create(by, given.name, given.value, metadata=given.metadata or {})
    return answer(render.secret(made), 201)


@router.get("/secrets/{name}")
async def get_secret(request: Request, name: str) -> Response:
    return answer(render.secret(await services(request).secrets.get(await caller(request), name)))


@router.post("/secrets/{name}")
async def update_secret(request: Request, name: str) -> Response:
    by = await caller(request)
    given = parse.body(parse.NewVersionBody, await body(request))
    changed = await services(request).secrets.update(by, name, value=given.value, metadata=given.metadata)
    return answer(render.secret(changed))


@router.delete("/secrets/{name}")
async def delete_secret(request: Request, name: str) -> Response:
    await services(request).secrets.delete(await caller(request), name)
    return nothing()
