from __future__ import annotations

import asyncio

import pytest


async def test_health_answers(agent):
    reply = await agent.request("GET", "/health")
    assert reply.status == 200
    assert reply.json().items() >= {"status": "ok", "python": False}.items()


async def test_a_connection_serves_many_requests(agent):
    async with agent.connect() as connection:
        for _ in range(3):
            assert (await connection.request("GET", "/health")).status == 200


async def test_pipelined_requests_are_answered_in_order(agent):
    async with agent.connect() as connection:
        connection.send_head("GET", "/health", {})
        connection.send_head("GET", "/nowhere", {})
        connection.send_head("GET", "/health", {})
        statuses = [(await connection.read_reply()).status for _ in range(3)]
    assert statuses == [200, 404, 200]


async def test_a_request_that_comes_byte_by_byte_is_answered(agent):
    async with agent.connect() as connection:
        for byte in b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n":
            connection.writer.write(bytes([byte]))
            await connection.writer.drain()
        assert (await connection.read_reply()).status == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000, 431),
        (b"POST /env HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
async def test_a_malformed_request_is_refused_and_the_connection_closed(agent, raw, status):
    async with agent.connect() as connection:
        connection.writer.write(raw)
        reply = await connection.read_reply()
        assert (reply.status, reply.json()["kind"]) == (status, "invalid")
        assert await connection.reader.read() == b""


async def test_a_malformed_chunk_is_an_error_of_the_request(agent):
    async with agent.connect() as connection:
        connection.send_head("PUT", "/env", {"Transfer-Encoding": "chunked"})
        connection.writer.write(b"zz\r\n")
        assert (await connection.read_reply()).status == 400


async def test_an_unknown_route_is_not_found_and_a_wrong_method_says_so(agent):
    assert (await agent.request("GET", "/nowhere")).status == 404
    assert (await agent.request("PUT", "/health")).status == 405
    assert (await agent.request("PUT", "/processes/x/attach")).status == 405


@pytest.mark.parametrize("body", [b"{", b"[]", b"[" * 100_000, b"\xff"])
async def test_a_body_that_is_no_json_object_is_invalid(agent, body):
    reply = await agent.request("PATCH", "/env", body)
    assert (reply.status, reply.json()["kind"]) == (400, "invalid")


async def test_a_json_body_above_the_limit_is_too_large_and_the_connection_goes_on(agent):
    async with agent.connect() as connection:
        reply = await connection.request("PATCH", "/env", b" " * (17 * 1024 * 1024))
        assert (reply.status, reply.json()["kind"]) == (413, "too_large")
        assert (await connection.request("GET", "/health")).status == 200


async def test_a_client_that_expects_it_is_told_to_continue(agent):
    async with agent.connect() as connection:
        connection.send_head("PATCH", "/env", {"Content-Length": "10", "Expect": "100-continue"})
        assert (await connection.read_head())[0] == 100
        connection.writer.write(b'{"env":{}}')
        assert (await connection.read_reply()).status == 200


async def test_a_refused_upload_is_never_asked_for(agent):
    async with agent.connect() as connection:
        connection.send_head("PUT", "/nowhere", {"Content-Length": "10", "Expect": "100-continue"})
        assert (await connection.read_reply()).status == 404
        assert await connection.reader.read() == b""


async def test_a_chunked_body_is_read(agent):
    async with agent.connect() as connection:
        connection.send_head("PATCH", "/env", {"Transfer-Encoding": "chunked"})
        connection.writer.write(b'5\r\n{"env\r\n5\r\n":{}}\r\n0\r\n\r\n')
        assert (await connection.read_reply()).status == 200


async def test_connection_close_is_honoured(agent):
    async with agent.connect() as connection:
        assert (await connection.request("GET", "/health", headers={"Connection": "close"})).status == 200
        assert await connection.reader.read() == b""


async def test_many_clients_at_once_are_served(agent):
    replies = await asyncio.gather(*(agent.request("GET", "/health") for _ in range(100)))
    assert {reply.status for reply in replies} == {200}
