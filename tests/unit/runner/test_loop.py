import asyncio

import pytest

from atoll.agent.runner.loop import Loop


@pytest.fixture
def loop():
    found = Loop()
    yield found
    found.close()


def test_loop_is_made_at_the_first_use_and_kept(loop):
    assert not loop.is_open()

    async def running():
        return asyncio.get_running_loop()

    assert loop.run(running()) is loop.run(running())
    assert loop.is_open()


def test_closed_loop_is_made_anew(loop):
    loop.run(asyncio.sleep(0))
    loop.close()
    assert loop.run(asyncio.sleep(0, 5)) == 5


def test_plain_function_runs_inside(loop):
    assert loop.call(asyncio.get_running_loop).is_running() is False


def test_interrupt_cancels_the_cell(loop):
    steps = []

    async def cell():
        try:
            asyncio.get_running_loop().call_soon(interrupt)
            await asyncio.sleep(600)
        finally:
            steps.append("cleaned")

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run(cell())
    assert steps == ["cleaned"]
