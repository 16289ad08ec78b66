"""Novita's control plane: E2B's first generation, with calls of its own and with other forms at some of its paths.

Where the form is another one, a route is for requests with the field that Novita's clients send with every call; E2B's
routes are looked at afterwards. Its own calls need no such field.
"""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Scope

from atoll.core.audit import Caller
from atoll.core.errors import InvalidInput
from atoll.core.rates import Kind
from atoll.core.secrets import Secret
from atoll.core.volumes import Volume
from atoll.dialects.http import Json, answer, answer_list, body, caller, services, waits

from . import novita_parse, novita_render, parse
from .routes import access, detail, domain_of, find_template, nothing, refuse_copy

SDK_NAME = b"x-novita-sdk-name"
PUBLISHER = (b"publisher", b"Novita")
"""By which clients older than the other field are known."""


class ToNovitasClients(APIRoute):
    """Is there for nobody else."""


def is_for(route: BaseRoute, scope: Scope) -> bool:
    """Whether the route is there for who sent this."""
    if not isinstance(route, ToNovitasClients):
        return True
    return any(each[0] == SDK_NAME or each == PUBLISHER for each in scope["headers"])


own = APIRouter()
"""Calls that E2B does not have."""
differing = APIRouter(route_class=ToNovitasClients)
"""Calls that E2B has in another form."""


# ---- made, found


@differing.post("/sandboxes")
async def create_sandbox(request: Request) -> Response:
    by, raw = await caller(request, Kind.CREATE), await body(request)
    given = novita_parse.creation(raw)
    order = parse.from_template(given, (await find_template(request, given.template)).name)
    found, _ = await services(request).sandboxes.create(by, order, partial(waits, request))
    return answer(access(request, found), 201)


@differing.post("/sandboxes/{sandbox_id}/connect")
async def connect_sandbox(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    given = parse.body(novita_parse.ConnectBody, await body(request))
    network = novita_parse.network_choice(given)
    found, roused = await services(request).sandboxes.connect(
        by, sandbox_id, parse.positive(given.timeout, 0), policy=network.policy, ingress=network.ingress
    )
    return answer(access(request, found), 201 if roused else 200)


@own.get("/sandboxes/quota")
async def get_quota(request: Request) -> Response:
    return answer(novita_render.quota(await services(request).quotas.of(await caller(request))))


@own.get("/sandboxes/events")
async def list_events(request: Request) -> Response:
    by, query = await caller(request), request.query_params
    now = services(request).clock.now()
    asked = novita_parse.events(query, query.getlist("events"), novita_render.EVENT_NAMES, now)
    return answer(novita_render.events(await services(request).events.list(by, asked), asked.offset))


# ---- a life


@own.post("/sandboxes/{sandbox_id}/reset")
async def reset_sandbox(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    given = parse.body(novita_parse.ResetBody, await body(request))
    network = novita_parse.network_choice(given)
    found = await services(request).resets.reset(
        by,
        sandbox_id,
        given.resume is not False,
        policy=network.policy,
        ingress=network.ingress,
        timeout_s=None if given.timeout is None else parse.positive(given.timeout, 0),
    )
    token = found.ingress.token_in_force
    return answer({"trafficAccessToken": token} if token else {})


@own.post("/sandboxes/{sandbox_id}/hotplug-memory")
async def plug_memory(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    given = parse.body(novita_parse.PlugBody, await body(request))
    await services(request).memory.plug(by, sandbox_id, given.mib)
    return nothing()


@own.post("/sandboxes/{sandbox_id}/volume-mounts")
async def mount_volume(request: Request, sandbox_id: str) -> Response:
    by = await caller(request)
    given = parse.body(parse.Mount, await body(request))
    return detail(request, await services(request).mounts.mount(by, sandbox_id, given.name, given.path))


@own.delete("/sandboxes/{sandbox_id}/volume-mounts")
async def unmount_volume(request: Request, sandbox_id: str) -> Response:
    by, query = await caller(request), request.query_params
    path, force = query.get("path"), novita_parse.flag(query, "force")
    if not path:
        raise InvalidInput("Invalid request: path is required", field="path")
    return detail(request, await services(request).mounts.unmount(by, sandbox_id, path, force))


@own.post("/sandboxes/{sandbox_id}/clone")
async def clone_sandbox(request: Request, sandbox_id: str) -> Response:
    return await refuse_copy(request, sandbox_id)


@own.post("/sandboxes/{sandbox_id}/commit")
async def commit_sandbox(request: Request, sandbox_id: str) -> Response:
    return await refuse_copy(request, sandbox_id)


# ---- templates


@differing.get("/v2/templates")
async def list_templates(request: Request) -> Response:
    by = await caller(request)
    asked = novita_parse.template_page(request.query_params)
    return answer(novita_render.templates(await services(request).templates.list(by), asked))


# ---- volumes


@differing.get("/volumes")
async def list_volumes(request: Request) -> Response:
    volumes = services(request).volumes
    found = await volumes.list(await caller(request))
    used = await volumes.used_bytes(found)
    return answer_list([novita_render.volume(each, used.get(each.id)) for each in found])


@differing.post("/volumes")
async def create_volume(request: Request) -> Response:
    by = await caller(request)
    given = parse.body(novita_parse.NovitaVolumeBody, await body(request))
    size = {} if given.size_mib is None else {"size_mib": given.size_mib}
    made, token = await services(request).volumes.create(by, given.name, inodes=given.inodes, **size)
    return answer(novita_render.volume_access(made, token, domain_of(request), 0), 201)


@differing.get("/volumes/{volume_id}")
async def get_volume(request: Request, volume_id: str) -> Response:
    found, token = await services(request).volumes.get(await caller(request), volume_id)
    return answer(novita_render.volume_access(found, token, domain_of(request), await _used(request, found)))


@own.patch("/volumes/{volume_id}")
async def resize_volume(request: Request, volume_id: str) -> Response:
    by = await caller(request)
    given = parse.body(novita_parse.VolumeQuotaBody, await body(request))
    found, token = await services(request).volumes.resize(by, volume_id, given.size_mib, given.inodes)
    return answer(novita_render.volume_access(found, token, domain_of(request), await _used(request, found)))


async def _used(request: Request, volume: Volume) -> int | None:
    return (await services(request).volumes.used_bytes([volume])).get(volume.id)


# ---- secrets


@differing.get("/secrets")
async def list_secrets(request: Request) -> Response:
    by = await caller(request)
    found = await services(request).secrets.all(by)
    return answer({"secrets": [_secret(request, by, each) for each in found]})


@differing.post("/secrets")
async def create_secret(request: Request) -> Response:
    by = await caller(request)
    given = parse.body(novita_parse.SecretBody, await body(request))
    novita_parse.check_hosts(given.hosts)
    made = await services(request).secrets.create(
        by, given.name, given.value, hosts=given.hosts, description=given.description or ""
    )
    return answer(_secret(request, by, made), 201)


@differing.get("/secrets/{name}")
async def get_secret(request: Request, name: str) -> Response:
    by = await caller(request)
    return answer(_secret(request, by, await services(request).secrets.get(by, name)))


@own.put("/secrets/{name}")
async def update_secret(request: Request, name: str) -> Response:
    by = await caller(request)
    given = parse.body(novita_parse.SecretChangeBody, await body(request))
    novita_parse.check_hosts(given.hosts)
    changed = await services(request).secrets.update(
        by, name, value=given.value, hosts=given.hosts, description=given.new_description
    )
    return answer(_secret(request, by, changed))


@differing.delete("/secrets/{name}")
async def delete_secret(request: Request, name: str) -> Response:
    return answer({"deleted": (await services(request).secrets.delete(await caller(request), name)).name})


def _secret(request: Request, by: Caller, found: Secret) -> Json:
    placeholder = services(request).sandboxes.placeholder(by.principal.organization_id, found.name)
    return novita_render.secret(found, placeholder)
