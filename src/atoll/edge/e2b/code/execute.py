"""POST /execute: one cell, and what it says as it says it.

Closing the connection interrupts the cell: the agent ends what nobody hears. What cannot begin is refused with a
status; where the client has been told already to wait, with an error in the stream.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from atoll.edge.agent_link import AgentError, AgentMisbehaved, AgentRefused
from atoll.edge.e2b.streamed import Streamed
from atoll.edge.frames_in import Frame
from atoll.edge.hopx.call import timestamp

from . import events, names, orders
from .call import Call
from .errors import Refused, from_agent, no_such_context

CONTENT_TYPE = "application/x-ndjson"
KEEPALIVE_S = 5.0
HOLD_S = 0.2
"""How long half a line waits for the other half: as long as a Jupyter kernel gathers output, and longer than the CPU
limit can stop a sandbox between the two writes of one `print` (one period, 0.1 s)."""


async def execute(call: Call) -> web.StreamResponse:
    order = orders.execution(await call.body())
    if not names.is_ours(order.context_id):
        raise no_such_context(order.context_id)
    with call.turns.taken(call.route.id, order.context_id):
        stream = Streamed(call.exchange, CONTENT_TYPE)
        async with stream.kept_alive(events.KEEPALIVE, KEEPALIVE_S, may_be_first=True):
            try:
                await _run(call, order, stream)
            except AgentRefused as error:
                refused = refusal_of(error, order.context_id)
                if not call.exchange.begun:
                    raise refused from error
                await stream.send(events.refusal(refused.message) + events.END)
        return await stream.finish()


async def _run(call: Call, order: orders.Execution, stream: Streamed) -> None:
    path = f"/contexts/{order.context_id}/execute"
    said = Said(stream)
    async with await call.agent.open("POST", path, json=order.to_wire()) as answer:
        try:
            async for frame in answer.frames():
                await said.add(frame)
        except ValueError as error:
            raise AgentMisbehaved(str(error)) from error
        finally:
            said.close()


class Said:
    """What an execution says, on its way to the client."""

    def __init__(self, stream: Streamed) -> None:
        self._stream = stream
        self._events = events.Events()
        self._release: asyncio.Task[None] | None = None

    async def add(self, frame: Frame) -> None:
        for line in self._events.of(frame, timestamp()):
            await self._stream.send(line)
        if not self._events.held:
            self.close()
        elif self._release is None:
            self._release = asyncio.create_task(self._let_go())

    async def _let_go(self) -> None:
        await asyncio.sleep(HOLD_S)
        self._release = None  # from here on nobody cancels it: a line goes out as a whole
        with suppress(ConnectionError):  # who has left is noticed elsewhere
            for line in self._events.let_go(timestamp()):
                await self._stream.send(line)

    def close(self) -> None:
        if self._release is not None:
            self._release.cancel()
            self._release = None


def refusal_of(error: AgentError, context_id: str) -> Refused:
    if isinstance(error, AgentRefused) and error.kind == "not_found":
        return no_such_context(context_id)
    return from_agent(error)
