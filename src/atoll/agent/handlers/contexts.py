"""Stateful interpreters and their cells."""

from __future__ import annotations

import asyncio
import re
from contextlib import nullcontext

from atoll.agent.contexts import Make
from atoll.agent.env import checked
from atoll.agent.errors import invalid
from atoll.agent.files import checked_path
from atoll.agent.http_server import JsonObject, Request
from atoll.agent.interpreter import Cell
from atoll.agent.kernels import language_of
from atoll.agent.process_spec import timeout
from atoll.agent.services import Services

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FLAGS = ("wait", "spare", "describe")


async def create(services: Services, request: Request) -> JsonObject:
    body = await request.json()
    context_id = body.get("id")
    if context_id is not None:
        _check_id(context_id)
    context = await services.contexts.create(context_id, _make(body))
    return {"context": context.record()}


def _check_id(value: object) -> None:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise invalid("a context's id is 1 to 64 letters, digits, - and _")


def _make(body: JsonObject) -> Make:
    cwd = body.get("cwd")
    return Make(
        language=language_of(body.get("language")),
        cwd=None if cwd is None else checked_path(cwd),
        user=body.get("user", "user"),
        env=checked(body.get("env")),
    )


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
    code, cwd, make = body.get("code"), body.get("cwd"), body.get("make")
    wait, spare, describe = (body.get(name, False) for name in _FLAGS)
    if not isinstance(code, str) or not all(isinstance(flag, bool) for flag in (wait, spare, describe)):
        raise invalid("code is a text; wait, spare and describe are true or false")
    if make is not None:
        if not isinstance(make, dict):
            raise invalid("make is an object")
        _check_id(request.parameters["id"])
    env, timeout_s = checked(body.get("env")), timeout(body.get("timeout_s"))
    directory = None if cwd is None else checked_path(cwd)
    named = services.contexts.get(request.parameters["id"], None if make is None else _make(make))
    chosen = services.contexts.instead_of(named) if spare else nullcontext(named)
    with services.open_stream():
        async with chosen as context:
            started: list[Cell] = []
            try:
                await services.contexts.begin(
                    context, code, env, directory, timeout_s, wait, describe, request.start_stream, started.append
                )
                await asyncio.shield(started[0].done)
            except asyncio.CancelledError:
                for cell in started:
                    cell.stream = None
                    context.stop(cell)
                raise
