"""Long directories do not keep the edge from anything else."""

from __future__ import annotations

import asyncio

from atoll.edge.listing import ENTRIES_PER_TURN, rendered


async def test_a_long_list_is_whole_and_others_have_their_turns():
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    entries = [{"name": number} for number in range(10 * ENTRIES_PER_TURN + 1)]
    shown = await rendered(entries, lambda entry: {"shown": entry["name"]})
    beside.cancel()
    assert shown == [{"shown": number} for number in range(10 * ENTRIES_PER_TURN + 1)]
    assert turns >= 10
