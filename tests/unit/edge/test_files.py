from __future__ import annotations

import asyncio
import base64
import datetime
import io
import random
import ssl
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from atoll.core.settings import EdgeSettings, TlsFiles
from atoll.edge.certificates import Files, ensure
from atoll.edge.main import serving

CONTENT = "/files/content"
ENTRY = {
    "name": "a.txt",
    "path": "/workspace/a.txt",
    "type": "file",
    "size": 3,
    "mode": 0o644,
    "uid": 1000,
    "gid": 1000,
    "user": "user",
    "group": "user",
    "modified_at": 1700000000.25,
    "target": None,
}
HTTPX = {"User-Agent": "python-httpx/0.28.1"}


async def test_read_text(client, agent) -> None:
    agent.sends("GET", CONTENT, "é\n".encode())
    status, body = await client.call("GET", "/files/read?path=/workspace/a.txt")
    assert (status, body) == (200, {"content": "é\n", "path": "/workspace/a.txt", "size": 3})
    assert agent.seen[0].query == {"path": "/workspace/a.txt"}


async def test_relative_path_is_below_the_workdir(client, agent) -> None:
    agent.sends("GET", CONTENT, b"")
    _, body = await client.call("GET", "/files/read?path=sub%2Fa.txt")
    assert body["path"] == "/workspace/sub/a.txt"


@pytest.mark.parametrize(
    ("kind", "agent_status", "status", "code"),
    [
        ("not_found", 404, 404, "FILE_NOT_FOUND"),
        ("permission", 403, 403, "PATH_NOT_ALLOWED"),
        ("is_a_directory", 409, 400, "INVALID_PATH"),
        ("not_regular", 409, 400, "INVALID_PATH"),
        ("not_a_directory", 409, 400, "INVALID_PATH"),
        ("invalid", 400, 400, "INVALID_REQUEST"),
        ("too_many", 429, 429, "TOO_MANY_REQUESTS"),
        ("internal", 500, 424, "AGENT_FAILED"),
        ("surprise", 418, 424, "AGENT_FAILED"),
    ],
)
async def test_refusals_of_the_agent_have_their_code(kind, agent_status, status, code, client, agent) -> None:
    agent.refuses("GET", CONTENT, kind, agent_status, "words")
    got, body = await client.call("GET", "/files/read?path=/etc/shadow")
    assert (got, body["code"], body["message"], body["error"]) == (status, code, "words", "words")
    assert body["details"] == {"path": "/etc/shadow"}
    assert body["path"] == "/etc/shadow"
    assert body["request_id"].startswith("req_")


async def test_path_is_required(client, agent) -> None:
    for method, path in [("GET", "/files/read"), ("GET", "/files/download"), ("DELETE", "/files/remove?path=")]:
        status, body = await client.call(method, path)
        assert (status, body["code"]) == (400, "MISSING_PARAMETER")


async def test_nul_in_a_path_is_400(client, agent) -> None:
    status, body = await client.call("GET", "/files/read?path=%2Fa%00b")
    assert (status, body["code"]) == (400, "INVALID_PATH")


async def test_text_too_large_for_json_is_refused_before_it_is_read(client, agent) -> None:
    async def endless(seen: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 65 * 1024 * 1024
        await response.prepare(seen.live)
        await asyncio.Event().wait()
        return response

    agent.on("GET", CONTENT, endless)
    status, body = await client.call("GET", "/files/read?path=/big")
    assert (status, body["code"]) == (413, "FILE_TOO_LARGE")
    await agent.left.wait()


async def test_long_text_is_the_same_piece_by_piece(client, agent) -> None:
    """Escapes, characters of every length across the pieces, bytes that are no text, one that is cut off at the end."""
    raw = ('\x01"\\é€😀\n'.encode() + b"\xff") * 40_000 + "€".encode()[:2]
    agent.sends("GET", CONTENT, raw)
    status, body = await client.call("GET", "/files/read?path=/workspace/a.txt")
    assert (status, body) == (
        200,
        {"content": raw.decode("utf-8", "replace"), "path": "/workspace/a.txt", "size": len(raw)},
    )


async def test_long_text_is_asked_for_as_fast_as_the_client_takes_it(client, agent) -> None:
    """A reader that stands still makes the edge hold only what its buffers do."""
    sent = 0

    async def much(seen: Any) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        response.content_length = 64 * 1024 * 1024
        await response.prepare(seen.live)
        while True:
            await response.write(b"\x01" * 65536)
            sent += 65536

    agent.on("GET", CONTENT, much)
    async with client.session.get(client.url("/files/read?path=/big"), headers=client.headers(None)) as answer:
        assert await answer.content.readexactly(12) == b'{"content":"'
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
    assert sent < 16 * 1024 * 1024


async def download(client, path: str = "/workspace/a.bin", **headers: str) -> tuple[int, dict[str, str], bytes]:
    url, headers = client.url(f"/files/download?path={path}"), client.headers(headers)
    async with client.session.get(url, headers=headers) as answer:
        return answer.status, dict(answer.headers), await answer.read()


async def test_download_is_raw(client, agent) -> None:
    agent.sends("GET", CONTENT, b"\x00\xff" * 10)
    status, headers, body = await download(client)
    assert (status, body) == (200, b"\x00\xff" * 10)
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Length"] == "20"
    assert headers["Content-Disposition"] == 'attachment; filename="a.bin"'
    assert headers["X-Request-ID"].startswith("req_")


async def test_range_is_passed_on(client, agent) -> None:
    agent.sends("GET", CONTENT, b"bc", 206, **{"Content-Range": "bytes 1-2/9"})
    status, headers, body = await download(client, Range="bytes=1-2")
    assert (status, body, headers["Content-Range"]) == (206, b"bc", "bytes 1-2/9")
    assert agent.seen[0].headers["Range"] == "bytes=1-2"


async def test_headers_of_the_sandbox_do_not_pass(client, agent) -> None:
    agent.sends("GET", CONTENT, b"x", **{"Set-Cookie": "a=b", "X-Evil": "1", "Content-Range": "nonsense"})
    _, headers, _ = await download(client)
    assert not {"Set-Cookie", "X-Evil", "Content-Range"} & headers.keys()


@pytest.mark.parametrize("content", [b"test", b"AA==", b"QUJD" * 1000])
async def test_canonical_base64_is_encoded_once_more_for_the_python_client(content, client, agent) -> None:
    agent.sends("GET", CONTENT, content)
    _, headers, body = await download(client, **HTTPX)
    assert base64.b64decode(body) == content
    assert headers["Content-Length"] == str(len(body))
    _, _, body = await download(client)
    assert body == content


@pytest.mark.parametrize("content", [b"", b"tes", b"tes\n", b"AB==", b"a b=", b"\xff" * 4])
async def test_other_content_is_not(content, client, agent) -> None:
    agent.sends("GET", CONTENT, content)
    assert (await download(client, **HTTPX))[2] == content


@pytest.mark.parametrize("end", [b"", b"\n\n\n\n"])
async def test_big_file_that_may_be_base64_is_read_twice_and_arrives_whole(end, client, agent) -> None:
    content = b"QUJD" * 600_000 + end
    agent.sends("GET", CONTENT, content)
    _, _, body = await download(client, **HTTPX)
    assert (body if end else base64.b64decode(body)) == content


async def test_file_that_ends_early_breaks_the_download(client, agent) -> None:
    async def short(seen: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 100
        await response.prepare(seen.live)
        await response.write(b"half")
        seen.live.transport.close()
        return response

    agent.on("GET", CONTENT, short)
    with pytest.raises(aiohttp.ClientError):
        await download(client)


@pytest.mark.parametrize(
    ("sent", "content", "mode"),
    [
        ({"content": "é"}, "é".encode(), "0644"),
        ({"content": "AP8=", "encoding": "base64", "mode": "0755"}, b"\x00\xff", "0755"),
        ({"content": "", "mode": "600", "overwrite": True}, b"", "0600"),
    ],
)
async def test_write(sent, content, mode, client, agent) -> None:
    agent.answers("PUT", CONTENT, {"entry": ENTRY})
    status, body = await client.call("POST", "/files/write", {"path": "/workspace/a.txt", **sent})
    assert (status, body["success"], body["path"], body["size"]) == (200, True, "/workspace/a.txt", len(content))
    assert agent.seen[0].body == content
    assert agent.seen[0].query == {"path": "/workspace/a.txt", "mode": mode}


@pytest.mark.parametrize(
    "bad",
    [
        {"content": "x"},
        {"path": "", "content": "x"},
        {"path": 5, "content": "x"},
        {"path": "/a"},
        {"path": "/a", "content": "x!", "encoding": "base64"},
        {"path": "/a", "content": "x", "encoding": "rot13"},
        {"path": "/a", "content": "x", "mode": "rw"},
        {"path": "/a", "content": "x", "mode": "0999"},
        {"path": "/a", "content": "x", "mode": 420},
        {"path": "/a", "content": "\ud800"},
    ],
)
async def test_bad_write_is_400(bad, client, agent) -> None:
    status, _ = await client.call("POST", "/files/write", bad)
    assert status == 400
    assert not agent.seen


async def test_full_disk_is_an_error_that_is_not_repeated(client, agent) -> None:
    agent.refuses("PUT", CONTENT, "no_space", 507, "disk full")
    status, body = await client.call("POST", "/files/write", {"path": "/a", "content": "x"})
    assert (status, body["code"]) == (413, "FILE_OPERATION_FAILED")


async def test_list_has_both_spellings_of_everything(client, agent) -> None:
    directory = {**ENTRY, "name": "d", "path": "/workspace/d", "type": "directory", "mode": 0o755, "size": 4096}
    agent.answers("GET", "/files/list", {"entries": [ENTRY, directory]})
    status, body = await client.call("GET", "/files/list")
    assert (status, body["path"], body["count"]) == (200, "/workspace", 2)
    assert body["files"][0] == {
        "name": "a.txt",
        "path": "/workspace/a.txt",
        "size": 3,
        "type": "file",
        "is_directory": False,
        "is_dir": False,
        "permissions": "-rw-r--r--",
        "mode": "0644",
        "modified_time": "2023-11-14T22:13:20.250000Z",
        "modified": "2023-11-14T22:13:20.250000Z",
        "owner": "user",
        "group": "user",
        "target": None,
    }
    assert (body["files"][1]["is_dir"], body["files"][1]["permissions"]) == (True, "drwxr-xr-x")


async def test_empty_directory_is_an_empty_list(client, agent) -> None:
    agent.answers("GET", "/files/list", {"entries": []})
    assert (await client.call("GET", "/files/list?path=/x"))[1] == {"files": [], "path": "/x", "count": 0}


@pytest.mark.parametrize(("kind", "agent_status"), [("not_found", 404), ("not_a_directory", 409), ("permission", 403)])
async def test_exists_is_no_without_an_error(kind, agent_status, client, agent) -> None:
    agent.refuses("GET", "/files/stat", kind, agent_status)
    assert (await client.call("GET", "/files/exists?path=/x")) == (200, {"exists": False, "path": "/x"})


async def test_exists_is_yes(client, agent) -> None:
    agent.answers("GET", "/files/stat", {"entry": ENTRY})
    status, body = await client.call("GET", "/files/exists?path=/x")
    assert (status, body["exists"]) == (200, True)


async def test_mkdir_and_remove(client, agent) -> None:
    agent.answers("POST", "/files/mkdir", {"entry": ENTRY})
    agent.answers("DELETE", "/files", {"removed": 1})
    assert (await client.call("POST", "/files/mkdir", {"path": "/workspace/d"}))[1]["success"]
    assert (await client.call("DELETE", "/files/remove?path=/workspace/d"))[1]["success"]
    assert (await client.call("POST", "/files/remove", {"path": "/workspace/d", "recursive": True}))[1]["success"]
    assert agent.seen[0].json["path"] == "/workspace/d"
    assert [seen.query for seen in agent.seen[1:]] == [{"path": "/workspace/d"}] * 2


def form(*parts: tuple[str, Any]) -> aiohttp.FormData:
    data = aiohttp.FormData()
    for name, value in parts:
        data.add_field(name, value, filename="local.bin" if name == "file" else None)
    return data


async def test_upload_goes_straight_to_its_path(client, agent) -> None:
    agent.answers("PUT", CONTENT, {"entry": ENTRY})
    content = bytes(range(256)) * 4096
    status, body = await client.call(
        "POST", "/files/upload", data=form(("path", "/workspace/up.bin"), ("file", content))
    )
    assert (status, body["path"], body["size"]) == (200, "/workspace/up.bin", len(content))
    assert agent.seen[0].body == content
    assert agent.seen[0].query["path"] == "/workspace/up.bin"


async def test_upload_whose_path_comes_last_is_moved_there(client, agent) -> None:
    agent.answers("PUT", CONTENT, {"entry": ENTRY})
    agent.answers("POST", "/files/move", {"entry": ENTRY})
    status, body = await client.call("POST", "/files/upload", data=form(("file", b"x"), ("path", "/tmp/up.bin")))
    assert (status, body["path"]) == (200, "/tmp/up.bin")
    staged = agent.seen[0].query["path"]
    assert staged.startswith("/workspace/.upload-")
    assert agent.seen[1].json == {"from": staged, "to": "/tmp/up.bin", "user": "user"}


async def test_upload_without_a_path_is_broken_off_before_it_has_a_name(client, agent) -> None:
    agent.answers("PUT", CONTENT, {"entry": ENTRY})
    status, body = await client.call("POST", "/files/upload", data=form(("file", b"x")))
    assert (status, body["code"]) == (400, "MISSING_PARAMETER")
    assert not [seen for seen in agent.seen if seen.method == "PUT"]


async def test_staged_upload_that_cannot_be_moved_is_removed(client, agent) -> None:
    agent.answers("PUT", CONTENT, {"entry": ENTRY})
    agent.refuses("POST", "/files/move", "permission", 403)
    removed: asyncio.Queue[str] = asyncio.Queue()

    async def remove(seen: Any) -> web.StreamResponse:
        removed.put_nowait(seen.query["path"])
        return web.json_response({})

    agent.on("DELETE", "/files", remove)
    status, _ = await client.call("POST", "/files/upload", data=form(("file", b"x"), ("path", "/etc/x")))
    assert status == 403
    assert await removed.get() == agent.seen[0].query["path"]


BIG = random.Random(7).randbytes(5_000_000)


def multipart(*parts: tuple[str, bytes]) -> bytes:
    """With the boundary `b`."""
    heads = (b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n' % name.encode() for name, _ in parts)
    return b"".join(head + content + b"\r\n" for head, (_, content) in zip(heads, parts, strict=True)) + b"--b--\r\n"


MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize("path_first", [True, False])
async def test_big_upload_arrives_whole_and_its_connection_is_closed(path_first, client, agent) -> None:
    agent.answers("PUT", CONTENT, {"entry": ENTRY})
    agent.answers("POST", "/files/move", {"entry": ENTRY})
    parts = [("path", b"/workspace/up.bin"), ("file", BIG)]
    raw = io.BytesIO(multipart(*(parts if path_first else reversed(parts))))
    headers = client.headers(MULTIPART)
    async with client.session.post(client.url("/files/upload"), data=raw, headers=headers) as answer:
        assert (answer.status, (await answer.json())["size"]) == (200, len(BIG))
        assert answer.headers["Connection"] == "close"
    assert agent.seen[0].body == BIG


async def test_big_upload_of_unknown_length_arrives_whole(client, agent) -> None:
    agent.answers("PUT", CONTENT, {"entry": ENTRY})

    async def pieces() -> Any:
        raw = multipart(("path", b"/workspace/up.bin"), ("file", BIG))
        for at in range(0, len(raw), 700_001):
            yield raw[at : at + 700_001]

    status, body = await client.call("POST", "/files/upload", data=pieces(), headers=MULTIPART)
    assert (status, body["size"]) == (200, len(BIG))
    assert agent.seen[0].body == BIG


async def test_upload_that_ends_early_is_not_stored(client, agent) -> None:
    agent.answers("PUT", CONTENT, {"entry": ENTRY})
    body = multipart(("path", b"/a"), ("file", b"half of it")).removesuffix(b"--b--\r\n")
    status, answered = await client.call("POST", "/files/upload", data=body, headers=MULTIPART)
    assert (status, answered["code"]) == (400, "INVALID_REQUEST")
    assert not agent.seen


@pytest.mark.parametrize("size", [100, 5_000_000])
async def test_upload_is_refused_without_being_heard_out(size, client, agent) -> None:
    agent.refuses("PUT", CONTENT, "no_space", 507, "full")
    status, body = await client.call(
        "POST", "/files/upload", data=io.BytesIO(multipart(("path", b"/a"), ("file", b"x" * size))), headers=MULTIPART
    )
    assert (status, body["message"]) == (413, "full")


@pytest.mark.parametrize("abrupt", [100, 3_000_000])
async def test_client_that_leaves_ends_the_upload_inside(abrupt, client, agent) -> None:
    begun = asyncio.Event()

    async def pieces() -> Any:
        yield multipart(("path", b"/a"), ("file", b"x" * abrupt)).removesuffix(b"\r\n--b--\r\n")
        begun.set()
        await asyncio.Event().wait()

    headers = client.headers({**MULTIPART, "Content-Length": "9000000"})
    sending = asyncio.create_task(client.session.post(client.url("/files/upload"), data=pieces(), headers=headers))
    await begun.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await agent.left.wait()


async def test_big_download_arrives_whole_and_the_connection_is_kept(client, agent) -> None:
    agent.sends("GET", CONTENT, BIG)
    for _ in range(2):
        status, headers, body = await download(client)
        assert (status, body) == (200, BIG)
        assert "Connection" not in headers


async def test_big_download_that_ends_early_breaks(client, agent) -> None:
    async def short(seen: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(BIG) + 1
        await response.prepare(seen.live)
        await response.write(BIG)
        seen.live.transport.close()
        return response

    agent.on("GET", CONTENT, short)
    with pytest.raises(aiohttp.ClientError):
        await download(client)


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nmore than one",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot JSON!",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\n[1,2,3]",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nshort",
        b"",
    ],
)
@pytest.mark.parametrize("way", ["up", "down"])
async def test_agent_that_does_not_speak_the_protocol_is_a_failure_of_the_sandbox(way, raw, client, agent) -> None:
    async def answer(seen: Any) -> web.StreamResponse:
        seen.live.transport.write(raw)
        seen.live.transport.close()
        raise asyncio.CancelledError

    agent.on("GET", CONTENT, answer)
    agent.on("PUT", CONTENT, answer)
    if way == "down":
        status, body = await client.call("GET", "/files/download?path=/a")
    else:
        status, body = await client.call("POST", "/files/upload", data=form(("path", "/a"), ("file", b"x")))
    assert 400 <= status < 500, body
    assert body["code"] != "FILE_NOT_FOUND"


async def test_client_that_leaves_ends_the_download_inside(client, agent) -> None:
    async def endless(seen: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 10**12
        await response.prepare(seen.live)
        while True:
            await response.write(BIG)

    agent.on("GET", CONTENT, endless)
    async with client.session.get(
        client.url("/files/download?path=/a"), headers=client.headers({}), timeout=aiohttp.ClientTimeout(30)
    ) as answer:
        assert await answer.content.readexactly(1_000_000)
        answer.close()
    await agent.left.wait()


async def test_upload_that_is_no_multipart_is_400(client) -> None:
    status, _ = await client.call("POST", "/files/upload", {"path": "/x"})
    assert status == 400
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    status, _ = await client.call("POST", "/files/upload", data=b"garbage", headers=headers)
    assert status == 400


async def test_refused_upload_tells_why(client, agent) -> None:
    agent.refuses("PUT", CONTENT, "permission", 403)
    status, body = await client.call("POST", "/files/upload", data=form(("path", "/etc/x"), ("file", b"x")))
    assert (status, body["code"]) == (403, "PATH_NOT_ALLOWED")


async def test_big_transfers_over_tls_are_exact(places, server, agent, session, kit, tmp_path) -> None:
    """Nothing may pass by the encryption."""
    files = Files(tmp_path / "tls")
    files.cert.parent.mkdir(exist_ok=True)
    ensure(files, "d.test", "local", datetime.datetime.now(datetime.UTC))
    settings = EdgeSettings(places, "127.0.0.1", 0, domain="d.test", tls=TlsFiles(files.cert, files.key))
    agent.sends("GET", CONTENT, BIG)
    agent.answers("PUT", CONTENT, {"entry": ENTRY})
    trusting = ssl.create_default_context(cafile=str(files.ca))
    async with serving(settings) as edge:
        origin = f"https://localhost:{edge.port}/s/{kit.SANDBOX}/files"
        headers = {"Authorization": f"Bearer {kit.token_for(kit.SANDBOX)}"}
        async with session.get(f"{origin}/download?path=/a", headers=headers, ssl=trusting) as answer:
            assert await answer.read() == BIG
        raw = io.BytesIO(multipart(("path", b"/a"), ("file", BIG)))
        async with session.post(f"{origin}/upload", data=raw, headers=headers | MULTIPART, ssl=trusting) as answer:
            assert (await answer.json())["size"] == len(BIG)
    assert agent.seen[-1].body == BIG
