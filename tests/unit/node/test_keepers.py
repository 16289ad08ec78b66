from __future__ import annotations

import asyncio

import pytest

from atoll.core.errors import NotFound, Unavailable
from atoll.core.template import Template
from atoll.node import keepers
from atoll.node.keepers import Keepers
from atoll.node.sandboxes import Order

PYTHON = Template("code", "c0", ("/c",), python="/usr/bin/python3")
TINY = Template("tiny", "t0", ("/t",))


class Sandboxes:
    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.ended = asyncio.Event()

    async def create(self, order: Order) -> dict[str, str]:
        self.orders[order.id] = order
        return {"socket": f"/run/{order.id}.sock"}

    async def destroy(self, sandbox_id: str, incarnation: int) -> None:
        self.orders.pop(sandbox_id, None)
        self.ended.set()

    async def check_alive(self, sandbox_id: str) -> None:
        if sandbox_id not in self.orders:
            raise NotFound("gone")


async def test_a_volume_is_shown_by_one_sandbox_of_the_smallest_template_without_a_way_out():
    sandboxes = Sandboxes()
    made = Keepers(sandboxes, lambda: [PYTHON, TINY])
    assert await made.open("v") == await made.open("v")
    (order,) = sandboxes.orders.values()
    assert (order.template, order.keeper, order.policy.internet_access) == ("tiny", True, False)
    assert [(each.volume_id, each.path) for each in order.volumes] == [("v", "/volume")]
    await made.shut()


async def test_it_ends_when_nobody_asks():
    sandboxes = Sandboxes()
    made = Keepers(sandboxes, lambda: [TINY], idle_s=0.01)
    await made.open("v")
    async with asyncio.timeout(5):
        await sandboxes.ended.wait()
    assert sandboxes.orders == {}
    assert (await made.open("v"))["socket"]
    await made.shut()


async def test_one_that_has_died_is_replaced():
    sandboxes = Sandboxes()
    made = Keepers(sandboxes, lambda: [TINY])
    first = await made.open("v")
    sandboxes.orders.clear()
    assert (await made.open("v"))["id"] != first["id"]
    made.forget()
    assert (await made.open("v"))["id"] != first["id"]
    await made.shut()


async def test_it_ends_with_its_volume():
    sandboxes = Sandboxes()
    made = Keepers(sandboxes, lambda: [TINY])
    await made.open("v")
    await made.close("v")
    await made.close("v")
    assert sandboxes.orders == {}


async def test_without_a_template_nobody_can_show_it():
    with pytest.raises(Unavailable, match="no template"):
        await Keepers(Sandboxes(), list).open("v")


async def test_there_are_so_many_at_once(monkeypatch):
    monkeypatch.setattr(keepers, "MAX_KEEPERS", 1)
    made = Keepers(Sandboxes(), lambda: [TINY])
    await made.open("v")
    with pytest.raises(Unavailable, match="try again"):
        await made.open("w")
    await made.shut()
