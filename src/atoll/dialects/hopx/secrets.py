"""Secrets, in the manner of HopX's control plane, which has none: routes, what they take, what they answer."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from atoll.control.secrets import SecretPage
from atoll.core.secrets import Secret
from atoll.dialects.http import Json, answer, body, caller, request_id, services

from . import parse
from .render import timestamp

router = APIRouter()

PATH = "/v1/secrets"


class CreateSecretBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    name: str
    value: str = Field(repr=False)
    hosts: list[str] | None = None
    description: str | None = None
    metadata: dict[str, str] | None = None


class UpdateSecretBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    value: str | None = Field(None, repr=False)
    hosts: list[str] | None = None
    description: str | None = None
    metadata: dict[str, str] | None = None


@router.post(PATH)
async def create_secret(request: Request) -> Response:
    by = await caller(request)
    given = parse.body(CreateSecretBody, await body(request))
    made = await services(request).secrets.create(
        by,
        given.name,
        given.value,
        hosts=given.hosts or (),
        description=given.description or "",
        metadata=given.metadata or {},
    )
    return answer({**view(made), "request_id": request_id(request)}, 201)


@router.get(PATH)
async def list_secrets(request: Request) -> Response:
    by, query = await caller(request), request.query_params
    found = await services(request).secrets.list(by, query.get("cursor") or None, parse.limit(query))
    return answer({**page(found), "request_id": request_id(request)})


@router.get(PATH + "/{name}")
async def get_secret(request: Request, name: str) -> Response:
    found = await services(request).secrets.get(await caller(request), name)
    return answer({**view(found), "request_id": request_id(request)})


@router.put(PATH + "/{name}")
async def update_secret(request: Request, name: str) -> Response:
    by = await caller(request)
    given = parse.body(UpdateSecretBody, await body(request))
    changed = await services(request).secrets.update(
        by,
        name,
        value=given.value,
        hosts=given.hosts,
        description=given.description,
        metadata=given.metadata,
    )
    return answer({**view(changed), "request_id": request_id(request)})


@router.delete(PATH + "/{name}")
async def delete_secret(request: Request, name: str) -> Response:
    gone = await services(request).secrets.delete(await caller(request), name)
    facts = {"id": gone.id, "object": "secret", "name": gone.name, "deleted": True}
    return answer({**facts, "request_id": request_id(request)})


def view(found: Secret) -> Json:
    return {
        "id": found.id,
        "object": "secret",
        "name": found.name,
        "version": found.version,
        "hosts": list(found.hosts),
        "description": found.description,
        "metadata": found.metadata,
        "created_at": timestamp(found.created_at),
        "updated_at": timestamp(found.updated_at),
    }


def page(found: SecretPage) -> Json:
    return {
        "object": "list",
        "data": [view(each) for each in found.secrets],
        "has_more": found.next_cursor is not None,
        "next_cursor": found.next_cursor,
        "url": PATH,
    }
