"""Stateful interpreters and their cells."""

from __future__ import annotations

import asyncio
import re
from contextlib import nullcontext

from atoll.agent.env import checked
from atoll.agent.errors import invalid
from atoll.agent.files import checked_path
from atoll.agent.http_server import JsonObject, Request
from atoll.agent.interpreter import Cell
from atoll.agent.process_spec import timeout
from atoll.agent.services import Services

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


async def create(services: Services, request: Request) -> JsonObject:
    body = await request.json()
    context_id, cwd, user = body.get("id"), body.get("cwd"), body.get("user", "user")
    if context_id is not None and (not isinstance(context_id, str) or not _ID.fullmatch(context_id)):
        raise invalid("a context's id is 1 to 64 letters, digits, - and _")
    directory = None if cwd is None else checked_path(cwd)
    context = await services.contexts.create(context_id, directory, user, checked(body.get("env")))
    return {"context": context.record()}


async def listing(services: Services, request: Request) -> JsonObject:
    del request
    return {"contexts": [context.record() for context in services.contexts.list()]}


async def delete(services: Services, request: Request) -> JsonObject:
    await services.contexts.delete(request.parameters["id"])
    return {}


async def restart(services: Services, request: Request) -> JsonObject:
    return {"context": (await services.contexts.restart(request.parameters["id"])).record()}


async def interrupt(services: Services, request: Request) -> JsonObject:
    services.contexts.interrupt(request.parameters["id"])
    return {}


async def execute(services: Services, request: Request) -> None:
    body = await request.json()
    code, cwd = body.get("code"), body.get("cwd")
    wait, spare = body.get("wait", False), body.get("spare", False)
    if not isinstance(code, str) or not isinstance(wait, bool) or not isinstance(spare, bool):
        raise invalid("code is a text, wait and spare are true or false")
    named = services.contexts.get(request.parameters["id"])
    directory = None if cwd is None else checked_path(cwd)
    env, timeout_s = checked(body.get("env")), timeout(body.get("timeout_s"))
    chosen = services.contexts.instead_of(named) if spare else nullcontext(named)
    with services.open_stream():
        async with chosen as context:
            started: list[Cell] = []
            try:
                await services.contexts.begin(
                    context, code, env, directory, timeout_s, wait, request.start_stream, started.append
                )
                await started[0].done
            except asyncio.CancelledError:
                for cell in started:
                    cell.stream = None
                    context.stop(cell)
                raise
