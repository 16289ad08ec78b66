"""Files, by query for what carries raw bytes and by JSON for the rest."""

from __future__ import annotations

import asyncio

from atoll.agent.errors import invalid
from atoll.agent.files import MAX_DEPTH, Attributes, Wanted, checked_id, checked_mode, checked_path
from atoll.agent.http_server import Content, JsonObject, Request
from atoll.agent.services import Services
from atoll.agent.users import User, from_home
from atoll.agent.watch import Watch

MAX_SOURCES = 10_000


async def stat(services: Services, request: Request) -> JsonObject:
    follow = request.query.get("follow", "1") != "0"
    path, user = _path_and_user(services, request)
    return {"entry": services.files.stat(path, user, follow, _wanted(request))}


async def listing(services: Services, request: Request) -> Content:
    depth = request.query.get("depth", "1")
    if not depth.isdecimal() or not 1 <= int(depth) <= MAX_DEPTH:
        raise invalid(f"depth is a number from 1 to {MAX_DEPTH}")
    path, user = _path_and_user(services, request)
    encoded = await services.files.list(path, user, int(depth), _wanted(request))
    return Content(encoded, type="application/json")


async def read(services: Services, request: Request) -> Content:
    path, user = _path_and_user(services, request)
    return services.files.read(path, user, request.headers.get("range"))


async def write(services: Services, request: Request) -> JsonObject:
    mode, overwrite = checked_mode(request.query.get("mode")), request.query.get("overwrite", "1") != "0"
    path, user = _path_and_user(services, request)
    attributes = Attributes.of(request.query.get("attributes"))
    return {"entry": await services.files.write(path, user, mode, overwrite, request.pour_into, attributes)}


async def mkdir(services: Services, request: Request) -> JsonObject:
    body = await request.json()
    user = services.users.lookup(body.get("user", "user"))
    path, exist_ok = _at_home(body.get("path"), user), body.get("exist_ok", True) is not False
    return {"entry": services.files.mkdir(path, user, checked_mode(body.get("mode")), exist_ok)}


async def compose(services: Services, request: Request) -> JsonObject:
    body = await request.json()
    user = services.users.lookup(body.get("user", "user"))
    given = body.get("sources")
    if not isinstance(given, list) or not 0 < len(given) <= MAX_SOURCES:
        raise invalid(f"sources are 1 to {MAX_SOURCES} paths")
    sources = [_at_home(each, user) for each in given]
    return {"entry": await services.files.compose(sources, _at_home(body.get("to"), user), user)}


async def change(services: Services, request: Request) -> JsonObject:
    body = await request.json()
    user = services.users.lookup(body.get("user", "user"))
    ids = checked_id(body.get("uid")), checked_id(body.get("gid"))
    return {"entry": services.files.change(checked_path(body.get("path")), user, checked_mode(body.get("mode")), *ids)}


async def remove(services: Services, request: Request) -> JsonObject:
    return {"removed": await services.files.remove(*_path_and_user(services, request))}


async def move(services: Services, request: Request) -> JsonObject:
    body = await request.json()
    user = services.users.lookup(body.get("user", "user"))
    return {"entry": await services.files.move(_at_home(body.get("from"), user), _at_home(body.get("to"), user), user)}


async def watch(services: Services, request: Request) -> None:
    """Runs until the client goes."""
    path, user = _path_and_user(services, request)
    recursive = request.query.get("recursive", "0") not in ("", "0")
    early: list[JsonObject] = []  # what comes while the tree is being looked through

    def emit(event: JsonObject) -> None:
        if request.stream is None:
            early.append(event)
            return
        request.stream.send_json(event)
        if not request.stream.writable:
            watching.pause()

    attributes = request.query.get("attributes", "0") not in ("", "0")
    watching = Watch(services.users, user, path, recursive, emit, attributes)
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


def _path_and_user(services: Services, request: Request) -> tuple[str, User]:
    user = services.users.lookup(request.query.get("user", "user"))
    return _at_home(request.query.get("path"), user), user


def _at_home(value: object, user: User) -> str:
    return checked_path(from_home(value, user) if isinstance(value, str) else value)


def _wanted(request: Request) -> Wanted:
    return Wanted(request.query.get("links", "0") not in ("", "0"), request.query.get("attributes", ""))
