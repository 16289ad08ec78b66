"""Files. Rights and symlinks are for the agent, which has only the sandbox user's; here are form and size."""

from __future__ import annotations

import asyncio
import base64
import binascii
import codecs
import json
import re
import secrets
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import PurePosixPath
from typing import NoReturn

from aiohttp import web

from atoll.edge.agent_link import AgentGone, AgentRefused
from atoll.edge.body import Body
from atoll.edge.frames_in import mapping, objects, text, whole
from atoll.edge.listing import rendered
from atoll.edge.multipart import Data, Mark, Multipart, MultipartError, PartHead
from atoll.edge.transfer import Transfer

from .base64_guard import CanonicalCheck, Encoder, can_be_canonical, decodes_downloads, encoded_size
from .call import Call, Object, absolute, answer, dump, optional_text, required_text, timestamp, timestamp_or_none
from .errors import Kind, SurfaceError, from_agent

MAX_READ = 64 * 1024 * 1024  # of text in one JSON answer; more is downloaded
READ_AT_ONCE = 256 * 1024
TEXT_PIECE = 32 * 1024
MAX_FIELD = 64 * 1024
SCAN_AHEAD = 1024 * 1024
_MODE = re.compile(r"(0o)?[0-7]{1,4}")
_TYPE_BITS = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}


def refuse(call: Call, refused: AgentRefused, path: str) -> NoReturn:
    raise from_agent(refused, call.route.id, path=path) from refused


def render_entry(entry: Object) -> Object:
    kind, mode = text(entry.get("type")), whole(entry.get("mode")) & 0o7777
    is_directory = kind == "directory"
    permissions = stat.filemode(_TYPE_BITS.get(kind, 0) | mode)
    modified = timestamp_or_none(entry.get("modified_at"))
    return {
        "name": text(entry.get("name")),
        "path": text(entry.get("path")),
        "size": whole(entry.get("size")),
        "type": kind,
        "is_directory": is_directory,
        "is_dir": is_directory,
        "permissions": permissions,
        "mode": f"{mode:04o}",
        "modified_time": modified,
        "modified": modified,
        "owner": text(entry.get("user")),
        "group": text(entry.get("group")),
        "target": entry.get("target") if isinstance(entry.get("target"), str) else None,
    }


async def read(call: Call) -> web.StreamResponse:
    path = call.path()
    async with await _fetch(call, path) as content:
        size = content.content_length
        if size > MAX_READ:
            raise SurfaceError(Kind.FILE_TOO_LARGE, f"{path} is larger than {MAX_READ} bytes; use download", path=path)
        if size > READ_AT_ONCE:
            return await _send_text(call, path, content, size)
        raw = b"".join([chunk async for chunk in content.chunks()])
    return answer({"content": raw.decode("utf-8", "replace"), "path": path, "size": size})


async def _send_text(call: Call, path: str, content: Transfer, size: int) -> web.StreamResponse:
    """As JSON a text may be six times as long: it is made, and held, only as fast as the client takes it."""
    response = web.StreamResponse()
    response.content_type = "application/json"
    await call.exchange.begin(response)
    await response.write(b'{"content":"')
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    async for chunk in content.chunks():
        for at in range(0, len(chunk), TEXT_PIECE):
            if piece := decoder.decode(chunk[at : at + TEXT_PIECE]):
                await response.write(_quoted(piece))
            await asyncio.sleep(0)
    rest = _quoted(decoder.decode(b"", final=True))
    await response.write(rest + b'",' + dump({"path": path, "size": size})[1:])
    await response.write_eof()
    return response


def _quoted(piece: str) -> bytes:
    return json.dumps(piece)[1:-1].encode()


async def _fetch(call: Call, path: str) -> Transfer:
    headers = [("Range", call.request.headers["Range"])] if "Range" in call.request.headers else []
    try:
        return await Transfer.fetch(call.agent, "/files/content", {"path": path}, headers)
    except AgentRefused as refused:
        refuse(call, refused, path)


async def download(call: Call) -> web.StreamResponse:
    path = call.path()
    content = await _fetch(call, path)
    try:
        size = content.content_length
        if not decodes_downloads(call.request.headers) or not can_be_canonical(size):
            return await _send_file(call, path, content, [])
        head, canonical = await _scan(content, size)
        if canonical is None:
            content.close()
            canonical = await _scan_again(call, path, size)
            content, head = await _fetch(call, path), []
            if content.content_length != size:
                raise AgentGone("the file changed while it was read")
        send = _send_encoded if canonical else _send_file
        return await send(call, path, content, head)
    finally:
        content.close()


async def _scan(content: Transfer, size: int) -> tuple[list[bytes], bool | None]:
    """What was read ahead, and whether the file is canonical base64; None: not known within what is read ahead."""
    check, head, seen = CanonicalCheck(size), [], 0
    async for chunk in content.chunks():
        head.append(chunk)
        seen += len(chunk)
        check.feed(chunk)
        if not check.possible or seen >= size:
            return head, check.possible
        if seen > SCAN_AHEAD:
            return head, None
    raise AgentGone("the file ended early")


async def _scan_again(call: Call, path: str, size: int) -> bool:
    """A big file that may be base64 is read twice rather than held in memory."""
    check = CanonicalCheck(size)
    async with await _fetch(call, path) as content:
        async for chunk in content.chunks():
            check.feed(chunk)
            if not check.possible:
                return False
    return check.possible


async def _send_file(call: Call, path: str, content: Transfer, head: list[bytes]) -> web.StreamResponse:
    response = await _begin(call, path, content, content.content_length)
    for chunk in head:
        await response.write(chunk)
    await content.pour_into(call.request, response)
    await response.write_eof()
    return response


async def _send_encoded(call: Call, path: str, content: Transfer, head: list[bytes]) -> web.StreamResponse:
    response = await _begin(call, path, content, encoded_size(content.content_length))
    encoder = Encoder()
    async for chunk in _joined(head, content):
        for piece in encoder.feed(chunk):
            await response.write(piece)
    for piece in encoder.feed(b"", final=True):
        await response.write(piece)
    await response.write_eof()
    return response


async def _joined(head: list[bytes], content: Transfer) -> AsyncIterator[bytes]:
    for chunk in head:
        yield chunk
    async for chunk in content.chunks():
        yield chunk


async def _begin(call: Call, path: str, content: Transfer, size: int) -> web.StreamResponse:
    status = 206 if content.status == 206 else 200
    response = web.StreamResponse(status=status, headers={"Accept-Ranges": "bytes"})
    response.content_type = "application/octet-stream"
    response.headers["Content-Disposition"] = disposition(PurePosixPath(path).name)
    span = content.headers.get("content-range", "")
    if status == 206 and re.fullmatch(r"bytes \d{1,20}-\d{1,20}/(\d{1,20}|\*)", span):
        response.headers["Content-Range"] = span
    response.content_length = size
    await call.exchange.begin(response)
    return response


def disposition(name: str) -> str:
    """Only what needs no quoting; a name from the sandbox never reaches a header as it is."""
    return f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]", "_", name) or "file"}"'


async def write(call: Call) -> web.StreamResponse:
    body = await call.object()
    path = absolute(_path_of(body), call.route.workdir)
    data = decode_content(body)
    query = {"path": path, "mode": mode_of(body)}
    if body.get("overwrite") is False:
        query["overwrite"] = "0"
    try:
        await call.agent.call("PUT", "/files/content", query=query, body=data)
    except AgentRefused as refused:
        refuse(call, refused, path)
    return answer(_done("File written", path, size=len(data)))


def _path_of(body: Object) -> str:
    path = required_text(body, "path")
    if not path:
        raise SurfaceError(Kind.MISSING_PARAMETER, "The field 'path' is required")
    return path


def decode_content(body: Object) -> bytes:
    content = required_text(body, "content")
    encoding = optional_text(body, "encoding").lower()
    try:
        if encoding == "base64":
            return base64.b64decode(content, validate=True)
        if encoding in ("", "utf-8", "utf8", "text"):
            return content.encode()
    except (binascii.Error, ValueError) as error:
        raise SurfaceError(Kind.INVALID_REQUEST, "The field 'content' cannot be decoded") from error
    raise SurfaceError(Kind.INVALID_REQUEST, "The field 'encoding' must be 'base64' or absent")


def mode_of(body: Object) -> str:
    mode = optional_text(body, "mode", "0644") or "0644"
    if not _MODE.fullmatch(mode):
        raise SurfaceError(Kind.INVALID_REQUEST, "The field 'mode' must be octal permissions such as '0644'")
    return f"{int(mode, 8):04o}"


def _done(message: str, path: str, **more: object) -> Object:
    return {"success": True, "path": path, "message": message, "timestamp": timestamp(), **more}


async def list_directory(call: Call) -> web.StreamResponse:
    path = call.path(call.route.workdir)
    try:
        data = await call.agent.call("GET", "/files/list", query={"path": path, "depth": "1"})
    except AgentRefused as refused:
        refuse(call, refused, path)
    shown = await rendered(objects(data.get("entries")), render_entry)
    return answer({"files": shown, "path": path, "count": len(shown)})


async def exists(call: Call) -> web.StreamResponse:
    path = call.path()
    try:
        data = await call.agent.call("GET", "/files/stat", query={"path": path})
    except AgentRefused as refused:
        if refused.kind not in ("not_found", "not_a_directory", "permission"):
            refuse(call, refused, path)
        return answer({"exists": False, "path": path})
    is_directory = mapping(data.get("entry")).get("type") == "directory"
    return answer({"exists": True, "path": path, "is_directory": is_directory})


async def make_directory(call: Call) -> web.StreamResponse:
    body = await call.object()
    path = absolute(_path_of(body), call.route.workdir)
    try:
        await call.agent.call("POST", "/files/mkdir", json={"path": path, "user": "user", "mode": "0755"})
    except AgentRefused as refused:
        refuse(call, refused, path)
    return answer(_done("Directory created", path))


async def remove(call: Call) -> web.StreamResponse:
    return await _remove(call, call.path())


async def remove_by_body(call: Call) -> web.StreamResponse:
    """As older async clients ask for it."""
    return await _remove(call, absolute(required_text(await call.object(), "path"), call.route.workdir))


async def _remove(call: Call, path: str) -> web.StreamResponse:
    try:
        await call.agent.call("DELETE", "/files", query={"path": path})
    except AgentRefused as refused:
        refuse(call, refused, path)
    return answer(_done("Removed", path))


async def upload(call: Call) -> web.StreamResponse:
    """Multipart, in constant memory. Where the file comes before its `path` it waits beside its likely place."""
    arriving = _Upload(call)
    try:
        parser = Multipart(call.request.headers.get("Content-Type", ""))
        async with aclosing(_events(call, parser)) as events:
            async for event in events:
                await arriving.take(event)
        await arriving.finish()
    except MultipartError as error:
        raise SurfaceError(Kind.INVALID_REQUEST, f"The multipart body is malformed: {error}") from error
    finally:
        arriving.close()
    return answer(_done("File uploaded", arriving.path, size=arriving.size))


async def _events(call: Call, parser: Multipart) -> AsyncGenerator[PartHead | Data, None]:
    with Body(call.exchange) as body:
        while count := await body.read_into(parser.room()):
            parser.filled(count)
            while not isinstance(event := parser.next_event(), Mark):
                yield event
    if not parser.ended:
        raise MultipartError("it has no end")


class _Upload:
    """The parts of one upload as they come: a field `path`, and the first `file`, whose content goes on at once."""

    def __init__(self, call: Call) -> None:
        self.path = ""
        self.size = 0
        self._call = call
        self._field = bytearray()
        self._part = ""
        self._stored: Transfer | None = None
        self._staged = ""

    async def take(self, event: PartHead | Data) -> None:
        match event:
            case PartHead(name=name):
                self._end_part()
                self._part = name if name != "file" or self._stored is None else ""
                if self._part == "file":
                    await self._begin_file()
            case Data(data=data) if self._part == "file":
                self.size += len(data)
                await self._write(data)
            case Data(data=data) if self._part == "path":
                self._field += data
                if len(self._field) > MAX_FIELD:
                    raise SurfaceError(Kind.BODY_TOO_LARGE, "The part 'path' is too long")

    async def finish(self) -> None:
        """The file has its name only now, when all of the request has come."""
        self._end_part()
        if self._stored is None or not self.path:
            raise SurfaceError(Kind.MISSING_PARAMETER, "An upload needs the parts 'file' and 'path'")
        try:
            await self._stored.finish()
        except AgentRefused as refused:
            refuse(self._call, refused, self.path)
        if self._staged:
            await _move_or_remove(self._call, self._staged, self.path)

    def close(self) -> None:
        if self._stored is not None:
            self._stored.close()

    def _end_part(self) -> None:
        if self._part == "path":
            if not self._field:
                raise SurfaceError(Kind.MISSING_PARAMETER, "The part 'path' is empty")
            self.path = absolute(self._field.decode("utf-8", "replace"), self._call.route.workdir)
            self._field.clear()
        self._part = ""

    async def _begin_file(self) -> None:
        if not self.path:
            self._staged = f"{self._call.route.workdir}/.upload-{secrets.token_hex(8)}"
        query = {"path": self.path or self._staged, "mode": "0644"}
        self._stored = await Transfer.store(self._call.agent, "/files/content", query)

    async def _write(self, data: memoryview) -> None:
        assert self._stored is not None
        try:
            await self._stored.write(data)
        except AgentRefused as refused:
            refuse(self._call, refused, self.path or self._staged)


async def _move_or_remove(call: Call, origin: str, path: str) -> None:
    moved = False
    try:
        await call.agent.call("POST", "/files/move", json={"from": origin, "to": path, "user": "user"})
        moved = True
    except AgentRefused as refused:
        refuse(call, refused, path)
    finally:
        if not moved:
            call.agent.afterwards(call.agent.call("DELETE", "/files", query={"path": origin}))
