from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.control.reaper import TICK_S
from atoll.control.uses import Report
from atoll.core.clocks import HEARD_WITHIN_S
from atoll.core.errors import Unavailable
from atoll.core.lifecycle import State
from atoll.core.order import CreateOrder
from atoll.core.sandbox import OnTimeout, Sandbox
from atoll.core.settings import Clocks
from atoll.testing.plane import Plane, open_plane

HOUR, DAY = 3600, 86400


async def create(plane: Plane, timeout_s: int | None = None) -> str:
    sandbox, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("base", timeout_s=timeout_s))
    return sandbox.id


async def pass_time(
    plane: Plane, seconds: float, step_s: float = 300, each: Callable[[], object] | None = None
) -> None:
    """As the server would live through it: a look now and then."""
    end = plane.clock.now() + seconds
    while plane.clock.now() < end:
        plane.clock.advance(min(step_s, end - plane.clock.now()))
        if each:
            each()
        await plane.services.reaper.tick()


async def alive(plane: Plane, sandbox_id: str) -> bool:
    stored = await plane.store.sandboxes.get(sandbox_id) is not None
    assert stored == (sandbox_id in plane.node.sandboxes)
    return stored


async def last_reason(plane: Plane) -> str | None:
    return next(e.detail for e in await plane.store.audit.list(100) if e.operation == "sandbox.expire")


async def test_a_timeout_kills_at_its_end_and_not_before(plane: Plane):
    box = await create(plane, timeout_s=600)
    await pass_time(plane, 599)
    assert await alive(plane, box)
    await pass_time(plane, 1)
    assert not await alive(plane, box)
    assert await last_reason(plane) == "timeout"
    assert plane.services.routes.get(box) is None


async def test_the_next_look_comes_with_the_next_end(plane: Plane):
    await create(plane, timeout_s=600)
    assert await plane.services.reaper.pause_s() == TICK_S
    await pass_time(plane, 599.75)
    assert await plane.services.reaper.pause_s() == pytest.approx(0.25)
    await pass_time(plane, 0.25)
    assert await plane.services.reaper.pause_s() == TICK_S


async def test_use_does_not_put_off_a_timeout(plane: Plane):
    box = await create(plane, timeout_s=600)
    plane.services.uses.record([Report(box, plane.clock.now(), open=3)], [box])
    await pass_time(plane, 600)
    assert not await alive(plane, box)


async def test_a_timeout_runs_on_while_paused(plane: Plane):
    box = await create(plane, timeout_s=600)
    await plane.services.sandboxes.pause(plane.caller, box)
    await pass_time(plane, 600)
    assert not await alive(plane, box)


async def test_a_longer_timeout_set_in_time_keeps_it(plane: Plane):
    box = await create(plane, timeout_s=600)
    await pass_time(plane, 500)
    await plane.services.sandboxes.set_timeout(plane.caller, box, 600)
    await pass_time(plane, 599)
    assert await alive(plane, box)
    await pass_time(plane, 1)
    assert not await alive(plane, box)


async def test_a_shorter_timeout_is_kept_too(plane: Plane):
    box = await create(plane, timeout_s=6000)
    await plane.services.sandboxes.set_timeout(plane.caller, box, 5)
    await pass_time(plane, 5)
    assert not await alive(plane, box)


async def test_an_hour_without_use_deletes(plane: Plane):
    box = await create(plane)
    await pass_time(plane, HOUR - 1)
    assert await alive(plane, box)
    await pass_time(plane, 1)
    assert not await alive(plane, box)
    assert await last_reason(plane) == "inactivity"


async def test_a_call_starts_the_hour_anew(plane: Plane):
    box = await create(plane)
    await pass_time(plane, HOUR - 10)
    plane.services.uses.record([Report(box, plane.clock.now(), open=0)], [box])
    await pass_time(plane, HOUR - 10)
    assert await alive(plane, box)
    await pass_time(plane, 10)
    assert not await alive(plane, box)


async def test_what_is_open_keeps_it(plane: Plane):
    box = await create(plane)
    plane.services.uses.record([Report(box, plane.clock.now(), open=1)], [box])
    await pass_time(plane, 5 * HOUR)
    assert await alive(plane, box)
    plane.services.uses.record([Report(box, plane.clock.now(), open=0)], [box])
    await pass_time(plane, HOUR + 900)
    assert not await alive(plane, box)


async def test_a_new_edge_reports_anew_what_is_open(plane: Plane):
    box = await create(plane)
    plane.services.uses.record([Report(box, plane.clock.now(), open=1)], [box])
    plane.services.uses.close_all()
    await pass_time(plane, HOUR + 900)
    assert not await alive(plane, box)


async def test_what_runs_inside_keeps_it_and_its_results_for_most_of_an_hour_after(plane: Plane):
    box = await create(plane)
    plane.node.running[box] = 1
    await pass_time(plane, 5 * HOUR)
    assert await alive(plane, box)
    plane.node.running[box] = 0
    await pass_time(plane, HOUR * 3 / 4 - 300)
    assert await alive(plane, box)
    await pass_time(plane, HOUR)
    assert not await alive(plane, box)


async def test_a_sandbox_that_does_not_say_is_kept_until_its_maximum_life(plane: Plane):
    box = await create(plane)
    plane.node.fail("activity", Unavailable("silent"))
    await pass_time(plane, DAY - 1)
    assert await alive(plane, box)
    await pass_time(plane, 1)
    assert not await alive(plane, box)
    assert await last_reason(plane) == "max_life"


async def test_maximum_life_ends_it_in_any_case(plane: Plane):
    box = await create(plane)
    plane.services.uses.record([Report(box, plane.clock.now(), open=5)], [box])
    plane.node.running[box] = 5
    await pass_time(plane, DAY)
    assert not await alive(plane, box)


async def test_paused_time_does_not_count_as_life(plane: Plane):
    box = await create(plane)
    keep = lambda: plane.services.uses.touch(box)  # noqa: E731
    await pass_time(plane, 20 * HOUR, each=keep)
    await plane.services.sandboxes.pause(plane.caller, box)
    await pass_time(plane, 10 * DAY, step_s=HOUR)
    await plane.services.sandboxes.resume(plane.caller, box)
    await pass_time(plane, 4 * HOUR - 1, each=keep)
    assert await alive(plane, box)
    await pass_time(plane, 1, each=keep)
    assert not await alive(plane, box)


@pytest.mark.parametrize("verb", ["pause", "stop"])
async def test_what_does_not_run_is_kept_thirty_days(plane: Plane, verb: str):
    box = await create(plane)
    await getattr(plane.services.sandboxes, verb)(plane.caller, box)
    await pass_time(plane, 30 * DAY - 1, step_s=DAY)
    assert await alive(plane, box)
    await pass_time(plane, 1)
    assert not await alive(plane, box)
    assert await last_reason(plane) == "kept"


async def test_a_resume_counts_as_use(plane: Plane):
    box = await create(plane)
    await plane.services.sandboxes.pause(plane.caller, box)
    await pass_time(plane, 10 * HOUR, step_s=HOUR)
    await plane.services.sandboxes.resume(plane.caller, box)
    await pass_time(plane, HOUR - 1)
    assert await alive(plane, box)


async def test_clocks_that_are_off_end_nothing(tmp_path: Path):
    plane = await open_plane(tmp_path, limits=Clocks(0, 0, 0))
    box = await create(plane)
    await pass_time(plane, 100 * DAY, step_s=DAY)
    assert await alive(plane, box)
    assert plane.services.sandboxes.expires_at(await plane.store.sandboxes.get(box)) is None
    plane.close()


async def test_with_the_node_away_the_end_waits(plane: Plane):
    box = await create(plane, timeout_s=60)
    plane.placement.connected = False
    await pass_time(plane, 120)
    assert (await plane.store.sandboxes.get(box)).state is State.RUNNING
    plane.placement.connected = True
    await pass_time(plane, 60)
    assert not await alive(plane, box)


async def test_a_restart_with_other_settings_applies_them(tmp_path: Path):
    first = await open_plane(tmp_path)
    box = await create(first)
    first.close()
    second = await open_plane(tmp_path, first.node, Clocks(inactivity_s=10))
    await pass_time(second, 10, step_s=1)
    assert not await alive(second, box)
    second.close()


async def test_a_server_that_was_down_does_not_take_that_for_silence(tmp_path: Path):
    first = await open_plane(tmp_path)
    box = await create(first)
    row = await first.store.sandboxes.get(box)
    await first.store.sandboxes.replace(row, replace(row, last_activity_at=first.clock.now() - 50 * HOUR))
    first.close()
    second = await open_plane(tmp_path, first.node)
    await pass_time(second, HOUR - 1)
    assert await alive(second, box)
    second.close()


async def test_one_failing_look_does_not_keep_the_others(plane: Plane, caplog: pytest.LogCaptureFixture):
    boxes = [await create(plane, timeout_s=60) for _ in range(3)]
    real: Callable[..., Awaitable[bool]] = plane.store.sandboxes.replace

    async def replace_row(old: Sandbox, new: Sandbox, **more: object) -> bool:
        if old.id == boxes[1]:
            raise RuntimeError("bug")
        return await real(old, new, **more)

    plane.store.sandboxes.replace = replace_row
    await pass_time(plane, 60)
    assert set(plane.node.sandboxes) == {boxes[1]}
    assert "a look at the clocks failed" in caplog.text


@pytest.mark.parametrize(("on_timeout", "state"), [(OnTimeout.PAUSE, State.PAUSED), (OnTimeout.KILL, None)])
async def test_an_idle_one_ends_as_its_timeout_says_and_not_while_somebody_is_connected(plane, on_timeout, state):
    order = CreateOrder("base", timeout_s=3600, on_timeout=on_timeout, idle_timeout_s=60)
    box, _ = await plane.services.sandboxes.create(plane.caller, order)
    plane.services.uses.record([Report(box.id, plane.clock.now(), 1)], [box.id])
    for open_calls in (1, 0):
        for _ in range(3):
            plane.clock.advance(59)
            await plane.services.reaper.tick()
            assert (await plane.services.sandboxes.get(plane.caller, box.id)).state is State.RUNNING
            plane.services.uses.record([Report(box.id, plane.clock.now(), open_calls)], [box.id])
    plane.clock.advance(60 + HEARD_WITHIN_S)
    await plane.services.reaper.tick()
    row = await plane.store.sandboxes.get(box.id)
    assert (row.state if row else None) is state
