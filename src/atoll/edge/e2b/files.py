"""E2B's `/files`: a file's content in either direction, in constant memory.

What comes out may be a page that somebody wrote to do harm, and a link to it may be opened in a browser: so it is
never run there (`UNTRUSTED`).
"""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from mimetypes import MimeTypes
from pathlib import PurePosixPath
from typing import Protocol
from urllib.parse import quote

from aiohttp import web

from atoll.edge.agent_link import AgentRefused
from atoll.edge.body import Body
from atoll.edge.frames_in import mapping, text
from atoll.edge.multipart import Data, Mark, Multipart, MultipartError, PartHead
from atoll.edge.transfer import Transfer
from atoll.wire import connect, proto_json
from atoll.wire.connect import Code, Object

from .call import Call, answer
from .conditions import Coding, coding, precondition, wanted_range
from .entries import METADATA
from .errors import EnvdError
from .rpc import message_of

UNTRUSTED = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}
TYPES = MimeTypes(filenames=())  # what this machine believes of suffixes is of no account
PIECE = 256 * 1024
MAX_COMPOSE = 4 * 1024 * 1024
HEADER = "x-metadata-"
MAX_KEY = 246
MAX_METADATA = 4096
_SPAN = re.compile(r"bytes \d{1,20}-\d{1,20}/(\d{1,20}|\*)")
_DATE = re.compile(r"[A-Za-z]{3}, [0-9]{2} [A-Za-z]{3} [0-9]{4} [0-9:]{8} GMT")


# ---- out


async def download(call: Call) -> web.StreamResponse:
    given, headers = call.request.query.get("path", ""), call.request.headers
    wanted = coding(headers.get("Accept-Encoding"))
    if wanted is Coding.NEITHER:
        raise EnvdError(Code.INVALID_ARGUMENT, "files are sent as they are or with gzip; accept one of these", 406)
    span = wanted_range(headers)
    content = await _fetch(call, given, None if wanted is Coding.GZIP else span)
    try:
        modified = _date(content)
        if span is None and wanted is Coding.IDENTITY and wanted_range(headers, modified) is not None:
            content.close()
            content = await _fetch(call, given, headers["Range"])
        refused = precondition(headers, modified)
        if refused is not None:
            return web.Response(status=refused, headers={**UNTRUSTED, "Last-Modified": modified})
        return await _send(call, given, content, packed=wanted is Coding.GZIP)
    finally:
        content.close()


async def _fetch(call: Call, given: str, span: str | None) -> Transfer:
    query = {"path": call.path(given), "user": call.user}
    try:
        return await Transfer.fetch(call.agent, "/files/content", query, [("Range", span)] if span else [])
    except AgentRefused as refused:
        raise _explained(refused, given) from refused


def _explained(refused: AgentRefused, given: str) -> Exception:
    match refused.kind:
        case "not_found":
            return EnvdError(Code.NOT_FOUND, f"path '{given}' does not exist", 404)
        case "is_a_directory":
            return EnvdError(Code.INVALID_ARGUMENT, f"path '{given}' is a directory", 400)
        case "not_regular":
            return EnvdError(Code.INVALID_ARGUMENT, f"path '{given}' is not a regular file", 400)
        case "invalid" if "range" in refused.message:
            return EnvdError(Code.OUT_OF_RANGE, refused.message, 416)
        case _:
            return refused


async def _send(call: Call, given: str, content: Transfer, packed: bool) -> web.StreamResponse:
    response = web.StreamResponse(status=206 if content.status == 206 else 200, headers=UNTRUSTED)
    name = PurePosixPath(given).name
    response.content_type = TYPES.guess_type(name)[0] or "application/octet-stream"
    response.headers.update({"Content-Disposition": disposition(name), "Vary": "Accept-Encoding"})
    if modified := _date(content):
        response.headers["Last-Modified"] = modified
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    else:
        response.headers["Accept-Ranges"] = "bytes"
        if response.status == 206 and _SPAN.fullmatch(span := content.headers.get("content-range", "")):
            response.headers["Content-Range"] = span
        response.content_length = content.content_length
    await call.exchange.begin(response)
    if call.request.method != "HEAD":
        await (_pack(content, response) if packed else content.pour_into(call.request, response))
    await response.write_eof()
    return response


async def _pack(content: Transfer, response: web.StreamResponse) -> None:
    packer = zlib.compressobj(1, wbits=31)
    async for chunk in content.chunks():
        await response.write(await asyncio.to_thread(packer.compress, chunk))
    await response.write(packer.flush())


def _date(content: Transfer) -> str:
    """Only what is one: it goes into a header."""
    given = content.headers.get("last-modified", "")
    return given if _DATE.fullmatch(given) else ""


def disposition(name: str) -> str:
    """A name from the sandbox's side never reaches a header as it is.

    >>> disposition('a"b.txt')
    'inline; filename="a_b.txt"; filename*=UTF-8\\'\\'a%22b.txt'
    """
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name) or "file"
    return f'inline; filename="{plain}"' + ("" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}")


# ---- in


class Source(Protocol):
    async def read_into(self, room: memoryview) -> int:
        """0: the end."""
        ...


class Unpacked:
    """A body that came packed. It is unpacked as it is taken, so a small one that becomes large waits nowhere."""

    def __init__(self, body: Source) -> None:
        self._body = body
        self._room = memoryview(bytearray(PIECE))
        self._unpacker = zlib.decompressobj(31)
        self._rest = b""

    async def read_into(self, room: memoryview) -> int:
        while True:
            if not self._rest and not self._unpacker.eof:
                self._rest = bytes(self._room[: await self._body.read_into(self._room)])
                if not self._rest:
                    raise connect.invalid("the gzip stream ends early")
            try:
                data = self._unpacker.decompress(self._rest, len(room))
            except zlib.error as error:
                raise connect.invalid("the body is not a gzip stream") from error
            self._rest = self._unpacker.unconsumed_tail
            if data:
                room[: len(data)] = data
                await asyncio.sleep(0)  # others have their turn: a kilobyte that came can be a megabyte here
                return len(data)
            if self._unpacker.eof:
                return await self._drained()

    async def _drained(self) -> int:
        while await self._body.read_into(self._room):
            pass
        return 0


async def upload(call: Call) -> web.StreamResponse:
    metadata = metadata_of(call.request.headers)
    with Body(call.exchange) as body:
        source = _source(call, body)
        match call.content_type:
            case "multipart/form-data":
                written = await _upload_parts(call, source, metadata)
            case "application/octet-stream":
                written = [await _upload_one(call, source, metadata)]
            case _:
                raise connect.invalid("files are uploaded as multipart/form-data or as application/octet-stream")
    return answer(written)


def _source(call: Call, body: Body) -> Source:
    match call.request.headers.get("Content-Encoding", "identity").strip().lower():
        case "identity" | "":
            return body
        case "gzip":
            return Unpacked(body)
        case other:
            raise EnvdError(Code.INVALID_ARGUMENT, f"the content encoding {other[:32]!r} is not supported", 400)


def metadata_of(headers: Mapping[str, str]) -> dict[str, str]:
    """All of a file's metadata; what is not named is cleared."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        if not name.lower().startswith(HEADER):
            continue
        key = name[len(HEADER) :].lower()
        if not key or len(key) > MAX_KEY or not all(" " <= letter <= "~" for letter in key + value):
            raise connect.invalid(f"a metadata key has 1 to {MAX_KEY} characters, keys and values are printable ASCII")
        found[key] = value
    if sum(len(key) + len(value) for key, value in found.items()) > MAX_METADATA:
        raise connect.invalid(f"the metadata of a file has at most {MAX_METADATA} bytes")
    return found


async def _upload_one(call: Call, source: Source, metadata: dict[str, str]) -> Object:
    given = call.request.query.get("path", "")
    if not given:
        raise connect.invalid("the query parameter 'path' is needed")
    writing = await Writing.begin(call, given, metadata)
    room = memoryview(bytearray(PIECE))
    try:
        while count := await source.read_into(room):
            await writing.write(room[:count])
        return await writing.finish()
    finally:
        writing.close()


async def _upload_parts(call: Call, source: Source, metadata: dict[str, str]) -> list[Object]:
    arriving = _Parts(call, metadata)
    try:
        parser = Multipart(call.request.headers.get("Content-Type", ""))
        async for event in _events(source, parser):
            await arriving.take(event)
        return await arriving.finish()
    except MultipartError as error:
        raise connect.invalid(f"the multipart body is malformed: {error}") from error
    finally:
        arriving.close()


async def _events(source: Source, parser: Multipart) -> AsyncIterator[PartHead | Data]:
    while count := await source.read_into(parser.room()):
        parser.filled(count)
        while not isinstance(event := parser.next_event(), Mark):
            yield event
    if not parser.ended:
        raise MultipartError("it has no end")


class _Parts:
    """The files of one request as they come, one after the other."""

    def __init__(self, call: Call, metadata: dict[str, str]) -> None:
        self._call = call
        self._metadata = metadata
        self._named = call.request.query.get("path", "")
        self._paths: set[str] = set()
        self._writing: Writing | None = None
        self._written: list[Object] = []

    async def take(self, event: PartHead | Data) -> None:
        match event:
            case PartHead(name=name, filename=filename):
                await self._end_part()
                if name == "file":
                    self._writing = await Writing.begin(self._call, self._next(filename), self._metadata)
            case Data(data=data):
                if self._writing is not None:
                    await self._writing.write(data)

    def _next(self, filename: str) -> str:
        """The query names one file; several are named by their parts."""
        if self._named and self._paths:
            raise connect.invalid("several files, and one path in the query: name each by its part's filename")
        path = self._named or filename
        if not path:
            raise connect.invalid("a part has no filename, and the query has no path")
        if path in self._paths:
            raise connect.invalid(f"the file '{path}' is there twice")
        self._paths.add(path)
        return path

    async def _end_part(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            try:
                self._written.append(await writing.finish())
            finally:
                writing.close()

    async def finish(self) -> list[Object]:
        await self._end_part()
        if not self._written:
            raise connect.invalid("the request has no part named 'file'")
        return self._written

    def close(self) -> None:
        if self._writing is not None:
            self._writing.close()


class Writing:
    """One file on its way in; it appears whole, or not at all."""

    def __init__(self, given: str, metadata: dict[str, str], stored: Transfer) -> None:
        self._given = given
        self._metadata = metadata
        self._stored = stored

    @classmethod
    async def begin(cls, call: Call, given: str, metadata: dict[str, str]) -> Writing:
        attributes = json.dumps({"prefix": METADATA, "values": metadata})
        query = {"path": call.path(given), "user": call.user, "attributes": attributes}
        return cls(given, metadata, await Transfer.store(call.agent, "/files/content", query))

    async def write(self, data: memoryview) -> None:
        try:
            await self._stored.write(data)
        except AgentRefused as refused:
            raise _explained(refused, self._given) from refused

    async def finish(self) -> Object:
        try:
            entry = mapping((await self._stored.finish()).get("entry"))
        except AgentRefused as refused:
            raise _explained(refused, self._given) from refused
        shown = {"name": text(entry.get("name")), "path": text(entry.get("path")), "type": "file"}
        return {**shown, "metadata": self._metadata} if self._metadata else shown

    def close(self) -> None:
        self._stored.close()


# ---- together


async def compose(call: Call) -> web.StreamResponse:
    message = await message_of(call, MAX_COMPOSE)
    sources = [call.path(each) for each in proto_json.texts(message, "source_paths")]
    target, user = proto_json.text(message, "destination"), proto_json.text(message, "username") or call.user
    if not sources or not target:
        raise connect.invalid("source_paths and destination are needed")
    body = {"sources": sources, "to": call.path(target), "user": user}
    entry = mapping((await call.agent.call("POST", "/files/compose", json=body, timeout_s=3600.0)).get("entry"))
    return answer({"name": text(entry.get("name")), "path": text(entry.get("path")), "type": "file"})
