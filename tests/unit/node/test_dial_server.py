"""Who is given a connection outward: the node's own word on its sandboxes, over the socket that the edge asks."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from contextlib import AsyncExitStack

import pytest

from atoll.core.ids import new_sandbox_id
from atoll.core.settings import Places

from .test_node import build_node, cleanup, creation, running

__all__ = ["cleanup"]


def ask(places: Places, sandbox_id: str, host: str = "203.0.113.1") -> dict[str, str]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.connect(str(places.dial_socket))
        link.send(json.dumps({"sandbox_id": sandbox_id, "host": host, "port": 80}).encode())
        data, descriptors, _, _ = socket.recv_fds(link, 8192, 4)
        assert not descriptors
        return dict(json.loads(data)["error"])


@pytest.mark.parametrize(
    ("internet_access", "reason"),
    [(True, "--uplink none"), (False, "without internet access"), (None, "no such sandbox")],
)
async def test_only_a_sandbox_with_internet_access_gets_as_far_as_the_way_out(
    places: Places, cleanup: AsyncExitStack, internet_access: bool | None, reason: str
) -> None:
    client = await cleanup.enter_async_context(running(build_node(places), places))
    order = creation(policy={"internet_access": internet_access})
    if internet_access is not None:
        await client.call("create", order)
    refused = await asyncio.to_thread(ask, places, str(order["id"]))
    assert reason in refused["message"]
    assert refused["kind"] == ("not_found" if internet_access is None else "permission_denied")


async def test_a_node_without_a_descriptor_to_spare_hears_again_later(
    places: Places, cleanup: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [OSError(errno.EMFILE, "too many")]

    async def scarce(sock: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop()
        return await accept(sock)

    monkeypatch.setattr(loop, "sock_accept", scarce)
    await cleanup.enter_async_context(running(build_node(places), places))
    assert "no such sandbox" in (await asyncio.to_thread(ask, places, new_sandbox_id()))["message"]
    assert not failures


async def test_the_socket_is_for_its_owner_alone_and_a_new_node_takes_it_over(
    places: Places, cleanup: AsyncExitStack
) -> None:
    for _ in range(2):
        async with running(build_node(places), places):
            assert places.dial_socket.stat().st_mode & 0o777 == 0o600
            assert "no such sandbox" in (await asyncio.to_thread(ask, places, new_sandbox_id()))["message"]
