"""TLS, and whatever shows no name: the first bytes are sent on as they came, then both ways are carried."""

from __future__ import annotations

from .connection import Connection


async def carry(connection: Connection, first: bytes) -> None:
    """`connection` is decided on. Returns when both sides have ended."""
    assert connection.onward is not None
    await connection.reach(connection.onward)
    if first:
        await connection.send(first)
    await connection.both_ways()
