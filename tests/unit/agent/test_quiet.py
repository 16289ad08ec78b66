from __future__ import annotations

import asyncio
from typing import Any

from atoll.agent.quiet import Quiet


async def test_the_action_comes_once_after_the_last_request():
    loop, happened = asyncio.get_running_loop(), asyncio.Event()
    calls: list[float] = []

    def action() -> None:
        calls.append(loop.time())
        happened.set()

    quiet = Quiet(0.5, action)

    async def answer(request: Any) -> None:
        del request
        await asyncio.sleep(0.02)

    dispatch = quiet.around(answer)
    for _ in range(5):
        await dispatch(None)  # type: ignore[arg-type]
    last = loop.time()
    await happened.wait()
    assert len(calls) == 1
    assert calls[0] - last >= 0.495


async def test_a_request_that_waits_for_ever_does_not_prevent_it():
    happened, never = asyncio.Event(), asyncio.Event()

    async def wait(request: Any) -> None:
        del request
        await never.wait()

    waiting = asyncio.ensure_future(Quiet(0.01, happened.set).around(wait)(None))  # type: ignore[arg-type]
    await asyncio.wait_for(happened.wait(), 5)
    assert not waiting.done()
    waiting.cancel()


async def test_what_is_held_does_not_count_before_it_begins():
    happened = asyncio.Event()
    quiet = Quiet(0.0, happened.set, held=True)

    async def answer(request: Any) -> None:
        del request

    await quiet.around(answer)(None)  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    assert not happened.is_set()
    quiet.begin()
    await asyncio.wait_for(happened.wait(), 5)
