"""The content of volumes, for who has a volume's token: `/volumecontent/ID/{path,dir,file}`, as E2B's clients ask.

The files are shown by an agent in a sandbox of the node's own (`node/keepers.py`), so a path means what it means
inside: `..` and links lead nowhere but into that sandbox, which has nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import posixpath
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from atoll.core.errors import AtollError, NotFound, Unavailable
from atoll.core.ids import is_sandbox_id
from atoll.core.volumes import KEEPER_ROOT, OWNER
from atoll.edge.agent_link import AgentError, AgentGone, AgentLink, AgentRefused, TooManyCalls
from atoll.edge.body import Body, TooLarge, TooManyBodies, read_whole
from atoll.edge.exchange import Exchange
from atoll.edge.frames_in import mapping, number, objects, text, whole
from atoll.edge.listing import rendered
from atoll.edge.server_link import ServerLink
from atoll.edge.tokens import TokenExpired, TokenInvalid, TokenVerifier
from atoll.edge.transfer import Transfer
from atoll.wire import proto_json
from atoll.wire.connect import Object

from .call import answer
from .filesystem import MAX_DEPTH

MAX_OPEN_CALLS = 256
"""A keeper has a quarter of the descriptors of a sandbox (`node.keepers.LIMITS`)."""
FRESH_S = 20.0
"""How long it is believed that the agent is still there; it stays for a minute after it was asked for."""
KEPT_S = 60.0
PIECE = 256 * 1024
MAX_CHANGE = 4096
MAX_DIGITS = 9
KINDS = ("file", "directory", "symlink")


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


FROM_AGENT: dict[str, tuple[int, str]] = {
    "invalid": (400, "invalid_argument"),
    "permission": (403, "permission_denied"),
    "not_found": (404, "not_found"),
    "exists": (409, "already_exists"),
    "not_a_directory": (400, "not_a_directory"),
    "is_a_directory": (400, "is_a_directory"),
    "not_regular": (400, "not_a_file"),
    "too_large": (413, "too_large"),
    "no_space": (507, "no_space"),
    "too_many": (429, "too_many_requests"),
}


class _Opened:
    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.link: AgentLink | None = None
        self.asked_at = float("-inf")
        self.users = 0

    async def close(self) -> None:
        if self.link is not None:
            await self.link.close()


class Volumes:
    def __init__(self, server: ServerLink, tokens: TokenVerifier) -> None:
        self._server = server
        self._tokens = tokens
        self._opened: dict[str, _Opened] = {}

    async def close(self) -> None:
        opened, self._opened = list(self._opened.values()), {}
        await asyncio.gather(*(each.close() for each in opened))

    async def serve(self, exchange: Exchange, volume_id: str, rest: str) -> web.StreamResponse:
        try:
            handler = ROUTES.get((exchange.request.method, rest))
            if handler is None:
                raise Refused(404, "not_found", "there is nothing at this path")
            self._authorize(exchange.request, volume_id)
            async with self._open(volume_id) as link:
                return await handler(_Call(exchange, link))
        except (Refused, AgentError, AtollError) as error:
            if exchange.begun:
                raise
            return _refusal(error)

    def _authorize(self, request: web.BaseRequest, volume_id: str) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer" or not is_sandbox_id(volume_id):
                raise TokenInvalid
            claims = self._tokens.verify_volume(token.strip())
        except TokenExpired:
            raise Refused(401, "token_expired", "the volume's token has expired: connect to the volume again") from None
        except TokenInvalid:
            raise Refused(401, "unauthenticated", "the volume's own token is needed, as a bearer token") from None
        if claims.sandbox_id != volume_id:
            raise Refused(403, "permission_denied", "the token is for another volume")

    @contextlib.asynccontextmanager
    async def _open(self, volume_id: str) -> AsyncIterator[AgentLink]:
        """Asked for again and again while something goes on, so that the agent stays."""
        await self._sweep()
        opened = self._opened.setdefault(volume_id, _Opened())
        opened.users += 1
        keeping = asyncio.create_task(self._keep(volume_id))
        try:
            yield await self._link(volume_id, opened)
        except AgentGone:
            opened.asked_at = float("-inf")
            raise
        finally:
            opened.users -= 1
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping

    async def _keep(self, volume_id: str) -> None:
        while True:
            await asyncio.sleep(FRESH_S)
            with contextlib.suppress(AtollError):
                await self._server.open_volume(volume_id)

    async def _sweep(self) -> None:
        """Whoever is not asked for ends by itself; then nothing of it is kept here either."""
        ended = time.monotonic() - KEPT_S
        gone = [each for each, opened in self._opened.items() if not opened.users and opened.asked_at < ended]
        await asyncio.gather(*(self._opened.pop(each).close() for each in gone))

    async def _link(self, volume_id: str, opened: _Opened) -> AgentLink:
        async with opened.turn:
            if opened.link is not None and time.monotonic() - opened.asked_at < FRESH_S:
                return opened.link
            socket = await self._server.open_volume(volume_id)
            if socket is None:
                raise NotFound(f"Volume '{volume_id}' not found")
            if opened.link is not None and opened.link.socket != socket:
                await opened.link.close()
                opened.link = None
            opened.link = opened.link or AgentLink(socket, MAX_OPEN_CALLS)
            opened.asked_at = time.monotonic()
            return opened.link


class _Call:
    def __init__(self, exchange: Exchange, agent: AgentLink) -> None:
        self.exchange = exchange
        self.request = exchange.request
        self.agent = agent
        self.query = exchange.request.rel_url.query

    @property
    def path(self) -> str:
        """Inside. `..` ends at the volume's root."""
        given = self.query.get("path")
        if given is None:
            raise Refused(400, "invalid_argument", "the query parameter 'path' is needed")
        return KEEPER_ROOT + posixpath.normpath("/" + given.lstrip("/")).rstrip("/")

    def below_root(self) -> str:
        if self.path == KEEPER_ROOT:
            raise Refused(400, "invalid_argument", "the volume's root stays as it is")
        return self.path

    def number(self, name: str, most: int) -> int | None:
        given = self.query.get(name)
        if given is None:
            return None
        if not (given.isascii() and given.isdecimal() and len(given) <= MAX_DIGITS) or int(given) > most:
            raise Refused(400, "invalid_argument", f"'{name}' is a number up to {most}")
        return int(given)

    @property
    def force(self) -> bool:
        return self.query.get("force", "").lower() in ("true", "1")

    async def stat(self, path: str, follow: bool = False) -> Object:
        query = {"path": path, "user": "root", "follow": "1" if follow else "0"}
        return mapping((await self.agent.call("GET", "/files/stat", query=query)).get("entry"))

    async def change(self, path: str, wanted: Object) -> Object:
        """`wanted`: numbers of `mode`, `uid` and `gid`; those that are None stay."""
        named = {name: value for name, value in wanted.items() if value is not None}
        if "mode" in named:
            named["mode"] = f"{named['mode']:04o}"
        body = {"path": path, "user": "root", **named}
        return mapping((await self.agent.call("PATCH", "/files/attributes", json=body)).get("entry"))

    async def make_directories(self, path: str) -> Object:
        """The user's where the user may; else root's, given to the user."""
        try:
            return await self._mkdir(path, "user")
        except AgentRefused as refused:
            if refused.kind != "permission":
                raise
        await self._mkdir(path, "root")
        return await self.change(path, {"uid": OWNER, "gid": OWNER})

    async def _mkdir(self, path: str, user: str) -> Object:
        body = {"path": path, "user": user}
        return mapping((await self.agent.call("POST", "/files/mkdir", json=body)).get("entry"))

    async def writer(self, path: str) -> tuple[str, int | None]:
        """As whom a file is written, and whose it is to be then, if not what comes by itself."""
        try:
            await self.stat(path)
        except AgentRefused as refused:
            if refused.kind != "not_found":
                raise
        else:
            return "root", None
        parent = await self.make_directories(posixpath.dirname(path))
        return ("user", None) if parent.get("uid") == OWNER else ("root", OWNER)

    def attributes(self) -> Object:
        return {
            "mode": self.number("mode", 0o7777),
            "uid": self.number("uid", 65535),
            "gid": self.number("gid", 65535),
        }


async def show(call: _Call) -> web.StreamResponse:
    return answer(_stat(await call.stat(call.path)))


async def change(call: _Call) -> web.StreamResponse:
    try:
        wanted = json.loads(await read_whole(call.request, MAX_CHANGE))
        named = {name: wanted.get(name) for name in ("mode", "uid", "gid")}
        if not all(value is None or (type(value) is int and 0 <= value <= 65535) for value in named.values()):
            raise ValueError
    except (ValueError, AttributeError, RecursionError, TooLarge, TooManyBodies):
        raise Refused(400, "invalid_argument", "the body names mode, uid and gid as numbers") from None
    return answer(_stat(await call.change(call.path, named)))


async def remove(call: _Call) -> web.StreamResponse:
    path = call.below_root()
    await call.stat(path)
    await call.agent.call("DELETE", "/files", query={"path": path, "user": "root"})
    return web.Response(status=204)


async def list_directory(call: _Call) -> web.StreamResponse:
    depth = call.number("depth", MAX_DEPTH) or 1
    found = await call.agent.call("GET", "/files/list", query={"path": call.path, "user": "root", "depth": str(depth)})
    return answer(await rendered(objects(found.get("entries")), _stat))


async def make_directory(call: _Call) -> web.StreamResponse:
    path, wanted = call.below_root(), call.attributes()
    if not call.force:
        await call.stat(posixpath.dirname(path), follow=True)
        with contextlib.suppress(AgentRefused):
            await call.stat(path)
            raise Refused(409, "already_exists", f"{call.query['path']} is already there")
    made = await call.make_directories(path)
    return answer(_stat(await call.change(path, wanted) if _any(wanted) else made), 201)


async def read(call: _Call) -> web.StreamResponse:
    headers = [("Range", call.request.headers["Range"])] if "Range" in call.request.headers else []
    async with await Transfer.fetch(
        call.agent, "/files/content", {"path": call.path, "user": "root"}, headers
    ) as content:
        response = web.StreamResponse(status=206 if content.status == 206 else 200)
        response.content_type = "application/octet-stream"
        response.content_length = content.content_length
        await call.exchange.begin(response)
        await content.pour_into(call.request, response)
        await response.write_eof()
        return response


async def write(call: _Call) -> web.StreamResponse:
    path, wanted = call.below_root(), call.attributes()
    user, owner = await call.writer(path)
    wanted = {**wanted, **{name: owner for name in ("uid", "gid") if wanted[name] is None and owner is not None}}
    stored = await Transfer.store(call.agent, "/files/content", {"path": path, "user": user})
    room = memoryview(bytearray(PIECE))
    try:
        with Body(call.exchange) as body:
            while count := await body.read_into(room):
                await stored.write(room[:count])
        await stored.finish()
    finally:
        stored.close()
    return answer(_stat(await call.change(path, wanted) if _any(wanted) else await call.stat(path)), 201)


ROUTES: dict[tuple[str, str], Callable[[_Call], Awaitable[web.StreamResponse]]] = {
    ("GET", "path"): show,
    ("PATCH", "path"): change,
    ("DELETE", "path"): remove,
    ("GET", "dir"): list_directory,
    ("POST", "dir"): make_directory,
    ("GET", "file"): read,
    ("PUT", "file"): write,
}


def _any(wanted: Object) -> bool:
    return any(value is not None for value in wanted.values())


def _stat(entry: Object) -> Object:
    """Every field is what the agent says, checked for its form."""
    kind, path = text(entry.get("type")), text(entry.get("path"))
    shown: Object = {
        "name": text(entry.get("name")) if path != KEEPER_ROOT else "",
        "type": kind if kind in KINDS else "unknown",
        "path": path.removeprefix(KEEPER_ROOT) or "/",
        "size": whole(entry.get("size")),
        "mode": whole(entry.get("mode")) & 0o7777,
        "uid": whole(entry.get("uid")),
        "gid": whole(entry.get("gid")),
        "atime": proto_json.timestamp(number(entry.get("accessed_at"))),
        "mtime": proto_json.timestamp(number(entry.get("modified_at"))),
        "ctime": proto_json.timestamp(number(entry.get("changed_at"))),
    }
    target = entry.get("target")
    return {**shown, "target": target} if isinstance(target, str) else shown


def _refusal(error: Refused | AgentError | AtollError) -> web.Response:
    match error:
        case Refused(status=status, code=code, message=message):
            return _error(status, code, message)
        case AgentRefused(kind=kind, message=message):
            status, code = FROM_AGENT.get(kind, (500, "internal"))
            return _error(status, code, message.replace(KEEPER_ROOT, ""))
        case TooManyCalls():
            return _error(429, "too_many_requests", "too many calls to this volume at once")
        case NotFound(message=message):
            return _error(404, "not_found", message)
        case Unavailable(message=message):
            return _error(503, "unavailable", message)
        case AgentGone():
            return _error(503, "unavailable", "the volume's files have just been closed; try again")
        case _:
            return _error(500, "internal", "the volume's files cannot be shown")


def _error(status: int, code: str, message: str) -> web.Response:
    return answer({"code": code, "message": message}, status)
