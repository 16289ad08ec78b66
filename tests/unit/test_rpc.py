import asyncio
import stat
from pathlib import Path

import pytest

from atoll.core.errors import Conflict, InternalError, Unavailable
from atoll.rpc import Connection, Params, RpcClient, serve


async def handle(method: str, params: Params, connection: Connection) -> Params:
    match method:
        case "echo":
            return params
        case "slow":
            await asyncio.sleep(60)
        case "conflict":
            raise Conflict("wrong state", state="paused")
        case "crash":
            raise RuntimeError("secret detail")
        case "emit":
            connection.emit("exited", {"id": "a"})
    return {}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.sock"


async def test_a_call_returns_the_result_and_the_socket_is_private(path: Path):
    server = await serve(path, handle)
    client = await RpcClient.connect(path)
    assert await client.call("echo", {"n": 1}) == {"n": 1}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await client.close()
    await server.close()


async def test_a_fast_call_overtakes_a_slow_one(path: Path):
    server = await serve(path, handle)
    client = await RpcClient.connect(path)
    slow = asyncio.create_task(client.call("slow", timeout_s=0.05))
    assert await client.call("echo", {"n": 2}) == {"n": 2}
    with pytest.raises(Unavailable, match="no answer within"):
        await slow
    await client.close()
    for task in list(server._requests):
        task.cancel()
    await server.close()


async def test_errors_keep_their_kind_and_details(path: Path):
    server = await serve(path, handle)
    client = await RpcClient.connect(path)
    with pytest.raises(Conflict) as caught:
        await client.call("conflict")
    assert caught.value.details == {"state": "paused"}
    await client.close()
    await server.close()


async def test_an_unexpected_exception_does_not_leak_its_text(path: Path, caplog: pytest.LogCaptureFixture):
    server = await serve(path, handle)
    client = await RpcClient.connect(path)
    with pytest.raises(InternalError) as caught:
        await client.call("crash")
    assert "secret" not in caught.value.message
    assert caught.value.details["error_id"] in caplog.text
    await client.close()
    await server.close()


async def test_events_reach_the_callback(path: Path):
    server = await serve(path, handle)
    seen: asyncio.Queue[tuple[str, Params]] = asyncio.Queue()
    client = await RpcClient.connect(path, on_event=lambda event, data: seen.put_nowait((event, data)))
    await client.call("emit")
    assert await seen.get() == ("exited", {"id": "a"})
    await client.close()
    await server.close()


async def test_a_lost_connection_fails_every_pending_call(path: Path):
    async def hang_up(method: str, params: Params, connection: Connection) -> Params:
        connection._writer.close()
        return {}

    server = await serve(path, hang_up)
    client = await RpcClient.connect(path)
    calls = [asyncio.create_task(client.call("x")) for _ in range(3)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    await client.wait_closed()
    with pytest.raises(Unavailable):
        await client.call("x")
    await client.close()
    await server.close()


async def test_connecting_to_nobody_is_unavailable(path: Path):
    with pytest.raises(Unavailable):
        await RpcClient.connect(path)


async def test_a_socket_left_by_a_dead_process_is_replaced(path: Path):
    path.touch()
    server = await serve(path, handle)
    client = await RpcClient.connect(path)
    assert await client.call("echo", {}) == {}
    await client.close()
    await server.close()


async def test_a_line_that_is_not_json_drops_the_client(path: Path):
    server = await serve(path, handle)
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET / HTTP/1.1\r\n")
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await server.close()
