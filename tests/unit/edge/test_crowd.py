"""Bounds for all connections together."""

from __future__ import annotations

import asyncio
import resource

from atoll.edge import body
from atoll.edge.gate.crowd import MAX_CLIENTS, Crowd, capacity


class Transport:
    aborted = False

    def abort(self) -> None:
        self.aborted = True


class Client:
    def __init__(self, waiting: int = 0, idle: bool = False, moved_at: float = 0.0) -> None:
        self.transport = Transport()
        self.moved_at = moved_at
        self.swept = 0
        self._waiting, self._idle = waiting, idle

    def sweep(self, now: float) -> None:
        self.swept += 1

    def waiting(self) -> int:
        return 0 if self.transport.aborted else self._waiting

    def is_idle(self) -> bool:
        return self._idle


def test_below_the_share_nobody_is_ended_and_everybody_is_looked_at():
    crowd, clients = Crowd(max_waiting=100), [Client(10) for _ in range(10)]
    for client in clients:
        crowd.joined(client)
    crowd.sweep(1.0)
    assert [(client.swept, client.transport.aborted) for client in clients] == [(1, False)] * 10


def test_above_it_those_who_hold_most_are_ended_until_half_is_free(caplog):
    crowd, clients = Crowd(max_waiting=100), [Client(size) for size in (1, 60, 20, 50, 5)]
    for client in clients:
        crowd.joined(client)
    crowd.sweep(1.0)
    assert [client.transport.aborted for client in clients] == [False, True, False, True, False]
    assert "2 connections are ended" in caplog.text


def test_idle_ones_make_room_and_without_them_the_newcomer_goes():
    crowd, idle, busy, newcomer = Crowd(max_clients=2), Client(idle=True), Client(), Client()
    crowd.joined(idle)
    crowd.joined(busy)
    crowd.joined(newcomer)
    assert [each.transport.aborted for each in (idle, busy, newcomer)] == [True, False, False]
    another = Client()
    crowd.joined(another)
    assert another.transport.aborted


async def test_bodies_that_are_read_into_memory_share_a_bound(client, agent, monkeypatch):
    monkeypatch.setattr(body, "MAX_HELD", 1_000_000)
    agent.answers("PUT", "/files", {})
    held = asyncio.Event()

    async def stalled():
        yield b'{"path": "/a", "content": "' + b"x" * 900_000
        await held.wait()
        yield b'"}'

    first = asyncio.create_task(client.call("POST", "/files/write", data=stalled()))
    async with asyncio.timeout(10):
        while body._All.held < 900_000:  # noqa: ASYNC110 - nobody says when
            await asyncio.sleep(0)
    status, said = await client.call("POST", "/files/write", json={"path": "/b", "content": "y" * 200_000})
    assert (status, said["code"]) == (429, "TOO_MANY_REQUESTS")
    held.set()
    await first
    assert body._All.held == 0
    status, _ = await client.call("POST", "/files/write", json={"path": "/b", "content": "y" * 200_000})
    assert status != 429


def test_all_clients_and_their_ways_in_have_descriptors(monkeypatch):
    for descriptors, clients in ((1024, 384), (20_000, 7500), (1 << 20, MAX_CLIENTS)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, most=descriptors: (most, most))
        assert capacity() == clients
