"""Files, by query for what carries raw bytes and by JSON for the rest."""

from __future__ import annotations

import asyncio

from atoll.agent.errors import invalid
from atoll.agent.files import MAX_DEPTH, checked_mode, checked_path
from atoll.agent.http_server import Content, JsonObject, Request
from atoll.agent.services import Services
from atoll.agent.users import User
from atoll.agent.watch import Watch


async def stat(services: Services, request: Request) -> JsonObject:
    follow = request.query.get("follow", "1") != "0"
    return {"entry": services.files.stat(_path(request), _user(services, request), follow)}


async def listing(services: Services, request: Request) -> Content:
    depth = request.query.get("depth", "1")
    if not depth.isdecimal() or not 1 <= int(depth) <= MAX_DEPTH:
        raise invalid(f"depth is a number from 1 to {MAX_DEPTH}")
    encoded = await services.files.list(_path(request), _user(services, request), int(depth))
    return Content(encoded, type="application/json")


async def read(services: Services, request: Request) -> Content:
    return services.files.read(_path(request), _user(services, request), request.headers.get("range"))


async def write(services: Services, request: Request) -> JsonObject:
    mode, overwrite = checked_mode(request.query.get("mode")), request.query.get("overwrite", "1") != "0"
    path, user = _path(request), _user(services, request)
    return {"entry": await services.files.write(path, user, mode, overwrite, request.pour_into)}


async def mkdir(services: Services, request: Request) -> JsonObject:
    body = await request.json()
    user = services.users.lookup(body.get("user", "user"))
    return {"entry": services.files.mkdir(checked_path(body.get("path")), user, checked_mode(body.get("mode")))}


async def remove(services: Services, request: Request) -> JsonObject:
    return {"removed": await services.files.remove(_path(request), _user(services, request))}


async def move(services: Services, request: Request) -> JsonObject:
    body = await request.json()
    user = services.users.lookup(body.get("user", "user"))
    return {"entry": await services.files.move(checked_path(body.get("from")), checked_path(body.get("to")), user)}


async def watch(services: Services, request: Request) -> None:
    """Runs until the client goes."""
    path, user = _path(request), _user(services, request)
    recursive = request.query.get("recursive", "0") not in ("", "0")
    early: list[JsonObject] = []  # what comes while the tree is being looked through

    def emit(event: JsonObject) -> None:
        if request.stream is None:
            early.append(event)
            return
        request.stream.send_json(event)
        if not request.stream.writable:
            watching.pause()

    watching = Watch(services.users, user, path, recursive, emit)
    try:
        await watching.start()
        stream = request.start_stream()
        stream.on_writable = watching.resume
        stream.send_json({"type": "ready"})
        for event in early:
            emit(event)
        with services.open_stream():
            await asyncio.get_running_loop().create_future()
    finally:
        watching.close()


def _path(request: Request) -> str:
    return checked_path(request.query.get("path"))


def _user(services: Services, request: Request) -> User:
    return services.users.lookup(request.query.get("user", "user"))
