"""Files. Rights and symlinks are for the agent, which has only the sandbox user's; here are form and size."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import stat
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import NoReturn

from aiohttp import BodyPartReader, web

from atoll.edge.agent_link import AgentGone, AgentMisbehaved, AgentRefused, Answer
from atoll.edge.frames_in import mapping, objects, text, whole

from .base64_guard import CanonicalCheck, Encoder, can_be_canonical, decodes_downloads, encoded_size
from .call import Call, Object, absolute, answer, optional_text, required_text, timestamp, timestamp_or_none
from .errors import Kind, SurfaceError, from_agent

MAX_READ = 64 * 1024 * 1024  # of text in one JSON answer; more is downloaded
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


async def _open_content(call: Call, path: str) -> Answer:
    headers = {"Range": call.request.headers["Range"]} if "Range" in call.request.headers else None
    try:
        return await call.agent.open("GET", "/files/content", query={"path": path}, headers=headers)
    except AgentRefused as refused:
        refuse(call, refused, path)


async def read(call: Call) -> web.StreamResponse:
    path = call.path()
    async with await _open_content(call, path) as content:
        if (content.content_length or 0) > MAX_READ:
            raise SurfaceError(Kind.FILE_TOO_LARGE, f"{path} is larger than {MAX_READ} bytes; use download", path=path)
        raw = await content.body(MAX_READ)
    return answer({"content": raw.decode("utf-8", "replace"), "path": path, "size": len(raw)})


async def download(call: Call) -> web.StreamResponse:
    path = call.path()
    content = await _open_content(call, path)
    try:
        size = content.content_length
        if size is None:
            raise AgentMisbehaved("a file of unknown size")
        if not decodes_downloads(call.request.headers) or not can_be_canonical(size):
            return await _send_file(call, path, content, size, content.chunks())
        head, canonical = await _scan(content, size)
        if canonical is None:
            content.close()
            canonical = await _scan_again(call, path, size)
            content, head = await _open_content(call, path), []
        return await _send_file(call, path, content, size, _joined(head, content), encode=canonical)
    finally:
        content.close()


async def _scan(content: Answer, size: int) -> tuple[list[bytes], bool | None]:
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
    async with await _open_content(call, path) as content:
        async for chunk in content.chunks():
            check.feed(chunk)
            if not check.possible:
                return False
    return check.possible


async def _joined(head: list[bytes], content: Answer) -> AsyncIterator[bytes]:
    for chunk in head:
        yield chunk
    async for chunk in content.chunks():
        yield chunk


async def _encoded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    encoder = Encoder()
    async for chunk in chunks:
        for piece in encoder.feed(chunk):
            yield piece
    for piece in encoder.feed(b"", final=True):
        yield piece


async def _send_file(
    call: Call, path: str, content: Answer, size: int, chunks: AsyncIterator[bytes], encode: bool = False
) -> web.StreamResponse:
    status = 206 if content.status == 206 else 200
    response = web.StreamResponse(status=status, headers={"Accept-Ranges": "bytes"})
    response.content_type = "application/octet-stream"
    response.headers["Content-Disposition"] = disposition(PurePosixPath(path).name)
    span = content.headers.get("Content-Range", "")
    if status == 206 and re.fullmatch(r"bytes \d{1,20}-\d{1,20}/(\d{1,20}|\*)", span):
        response.headers["Content-Range"] = span
    response.content_length = encoded_size(size) if encode else size
    await call.exchange.begin(response)
    async for chunk in _encoded(chunks) if encode else chunks:
        await response.write(chunk)
    await response.write_eof()
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
    shown = [render_entry(entry) for entry in objects(data.get("entries"))]
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
    path = call.path()
    try:
        await call.agent.call("DELETE", "/files", query={"path": path})
    except AgentRefused as refused:
        refuse(call, refused, path)
    return answer(_done("Removed", path))


async def upload(call: Call) -> web.StreamResponse:
    """Multipart, in constant memory. Where the file comes before its `path` it waits beside its likely place."""
    if not call.request.content_type.startswith("multipart/"):
        raise SurfaceError(Kind.INVALID_REQUEST, "Uploads are sent as multipart/form-data")
    path, staged, size = "", "", None
    try:
        reader = await call.request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise SurfaceError(Kind.INVALID_REQUEST, "Nested multipart bodies are not supported")
            if part.name == "path":
                path = absolute(await _read_field(part), call.route.workdir)
            elif part.name == "file" and size is None:
                staged = "" if path else f"{call.route.workdir}/.upload-{secrets.token_hex(8)}"
                size = await _put_part(call, path or staged, part)
            else:
                await part.release()
        if size is None or not path:
            raise SurfaceError(Kind.MISSING_PARAMETER, "An upload needs the parts 'file' and 'path'")
        if staged:
            await _move(call, staged, path)
            staged = ""
    except (ValueError, RuntimeError) as error:
        raise SurfaceError(Kind.INVALID_REQUEST, "The multipart body is malformed") from error
    finally:
        if staged:
            call.agent.afterwards(call.agent.call("DELETE", "/files", query={"path": staged}))
    return answer(_done("File uploaded", path, size=size))


async def _read_field(part: BodyPartReader) -> str:
    raw = bytearray()
    while chunk := await part.read_chunk():
        raw += chunk
        if len(raw) > MAX_FIELD:
            raise SurfaceError(Kind.BODY_TOO_LARGE, "The part 'path' is too long")
    value = raw.decode("utf-8", "replace")
    if not value:
        raise SurfaceError(Kind.MISSING_PARAMETER, "The part 'path' is empty")
    return value


async def _put_part(call: Call, path: str, part: BodyPartReader) -> int:
    size = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal size
        while chunk := await part.read_chunk(256 * 1024):
            size += len(chunk)
            yield chunk

    query = {"path": path, "mode": "0644"}
    try:
        async with await call.agent.open("PUT", "/files/content", query=query, body=chunks()) as stored:
            await stored.json()
    except AgentRefused as refused:
        refuse(call, refused, path)
    return size


async def _move(call: Call, origin: str, path: str) -> None:
    try:
        await call.agent.call("POST", "/files/move", json={"from": origin, "to": path, "user": "user"})
    except AgentRefused as refused:
        refuse(call, refused, path)
