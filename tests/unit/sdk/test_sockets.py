"""WebSockets of both forms: who reads slowly keeps its connection, and a server that is gone is noticed."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from atoll.edge.hopx.sockets import PING_EVERY_S
from atoll.sdk import _aio_sockets, _sio_sockets
from atoll.sdk._core import sockets

MESSAGES = 400
MESSAGE = bytes(64 * 1024)
HEARTBEAT_S = 1.0
PATIENT_PINGS = 10


class Flood:
    """Sends more than fits between two programs, and takes for gone who says nothing for a heartbeat and a half."""

    def __init__(self) -> None:
        self.patient = threading.Event()
        """The client has been there for long enough to be taken for gone."""
        self.url = ""

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(heartbeat=HEARTBEAT_S, autoping=False)
        await ws.prepare(request)
        sending = asyncio.create_task(self._send(ws))
        pings = 0
        while (message := await ws.receive()).type in (WSMsgType.PING, WSMsgType.PONG):
            pings += message.type is WSMsgType.PING
            if pings == PATIENT_PINGS:
                self.patient.set()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        return ws

    @staticmethod
    async def _send(ws: web.WebSocketResponse) -> None:
        for _ in range(MESSAGES):
            await ws.send_bytes(MESSAGE)


@pytest.fixture
def flood() -> Iterator[Flood]:
    made, loop = Flood(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(step: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(step, loop).result(10)

    async def listen() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/", made.serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/"
        return runner

    runner = run(listen())
    yield made
    run(runner.cleanup())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def read_sync(flood: Flood, look: Callable[[Any], None]) -> int:
    opened = _sio_sockets.open_socket(flood.url, {}, 10)
    assert isinstance(opened, _sio_sockets.Socket)
    look(opened._connection.socket)
    read = opened.receive() == MESSAGE
    assert flood.patient.wait(20)
    while read < MESSAGES and opened.receive() == MESSAGE:
        read += 1
    opened.close()
    return read


def read_async(flood: Flood, look: Callable[[Any], None]) -> int:
    async def run() -> int:
        opened = await _aio_sockets.open_socket(flood.url, {}, 10)
        assert isinstance(opened, _aio_sockets.Socket)
        look(opened._connection.transport.get_extra_info("socket"))
        read = await opened.receive() == MESSAGE
        assert await asyncio.to_thread(flood.patient.wait, 20)
        while read < MESSAGES and await opened.receive() == MESSAGE:
            read += 1
        await opened.close()
        return read

    return asyncio.run(run())


def leave_sync(flood: Flood) -> int | None:
    opened = _sio_sockets.open_socket(flood.url, {}, 10)
    assert isinstance(opened, _sio_sockets.Socket)
    opened.receive()
    opened.close()
    opened.close()
    return opened._connection.close_code


def leave_async(flood: Flood) -> int | None:
    async def run() -> int | None:
        opened = await _aio_sockets.open_socket(flood.url, {}, 10)
        assert isinstance(opened, _aio_sockets.Socket)
        await opened.receive()
        await opened.close()
        await opened.close()
        return opened._connection.close_code

    return asyncio.run(run())


@pytest.mark.parametrize("leave", [leave_sync, leave_async])
def test_who_leaves_a_flood_hears_the_goodbye(flood, leave):
    """And so need not wait until the time for it is over."""
    assert leave(flood) == 1000


def lost_after_ms(connected: Any) -> int:
    return connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


@pytest.mark.parametrize("read", [read_sync, read_async])
def test_who_reads_slowly_is_not_taken_for_gone(flood, read, monkeypatch):
    monkeypatch.setitem(sockets.OPTIONS, "ping_interval", HEARTBEAT_S / 4)
    seen: list[int] = []
    assert read(flood, lambda connected: seen.append(lost_after_ms(connected))) == MESSAGES
    assert seen == [sockets.LOST_AFTER_MS]


def test_our_pings_come_more_often_than_the_servers():
    assert sockets.OPTIONS["ping_interval"] <= PING_EVERY_S / 2
    assert sockets.OPTIONS["ping_timeout"] is None
