"""Processes as HopX clients see them: background executions, the system's, and the three spellings of kill."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from aiohttp import web

from atoll.edge.agent_link import AgentError, AgentRefused
from atoll.edge.frames_in import mapping, number, objects, text, texts, whole

from .call import Call, Object, answer, timestamp, timestamp_or_none
from .errors import Kind, SurfaceError
from .execution import plain_id
from .languages import language_of

END_S = 2.0  # clients look for five seconds
LISTED_OUTPUT = 8 * 1024  # of each stream, its end
STATUS = {"running": "running", "killed": "killed", "timed_out": "failed"}


def status_of(record: Object) -> str:
    if record.get("status") == "exited":
        return "completed" if record.get("exit_code") == 0 else "failed"
    return STATUS.get(text(record.get("status")), "failed")


def render_process(record: Object, now: float) -> Object:
    argv = texts(record.get("argv"))
    command = " ".join(argv).replace("{dir}/", "")  # where code was put, which is gone at the end
    started, ended = record.get("started_at"), record.get("ended_at")
    start_time, end_time = timestamp_or_none(started), timestamp_or_none(ended)
    duration = number(ended, now) - number(started, now)
    return {
        "process_id": text(record.get("id")),
        "execution_id": text(record.get("id")),
        "pid": record.get("pid"),
        "name": text(record.get("name")) or command[:256],
        "status": status_of(record),
        "language": language_of(argv),
        "command": command[:4096],
        "start_time": start_time,
        "started_at": start_time,
        "end_time": end_time,
        "completed_at": end_time,
        "exit_code": record.get("exit_code"),
        "duration": duration,
        "execution_time": duration,
    }


async def _records(call: Call, output: int | None = None) -> list[Object]:
    query = {} if output is None else {"output": str(output)}
    return objects((await call.agent.call("GET", "/processes", query=query)).get("processes"))


def _with_output(shown: Object, found: Object, dropped: bool) -> Object:
    """`output_truncated`: the beginning of it is not shown."""
    stdout, stderr = text(found.get("stdout")), text(found.get("stderr"))
    return {**shown, "stdout": stdout, "stderr": stderr, "output_truncated": dropped or bool(found.get("truncated"))}


def _with_callback(call: Call, shown: Object) -> Object:
    callback = call.webhooks.of(call.route.id, shown["process_id"])
    return shown if callback is None else {**shown, "callback": callback}


def _listed(call: Call, record: Object, now: float) -> Object:
    cut = any(len(text(record.get(name)).encode("utf-8", "replace")) >= LISTED_OUTPUT for name in ("stdout", "stderr"))
    return _with_callback(call, _with_output(render_process(record, now), record, cut))


async def list_background(call: Call) -> web.StreamResponse:
    now = time.time()
    shown = [_listed(call, record, now) for record in await _records(call, LISTED_OUTPUT) if not record.get("pty")]
    return answer({"processes": shown, "count": len(shown), "timestamp": timestamp(now)})


async def show_background(call: Call) -> web.StreamResponse:
    """One of them with all of its output that is kept."""
    process_id = plain_id(call.arguments[0])
    try:
        data = await call.agent.call("GET", f"/processes/{process_id}")
    except AgentRefused as refused:
        raise _not_found(process_id, refused) from refused
    shown = render_process(mapping(data.get("process")), time.time())
    return answer(_with_callback(call, _with_output(shown, data, dropped=False)))


async def list_system(call: Call) -> web.StreamResponse:
    """The async client lists these and kills by `process_id`, so a background run shows its own."""
    found = objects((await call.agent.call("GET", "/system/processes")).get("processes"))
    background = {
        whole(record.get("pid")): record for record in await _records(call) if record.get("status") == "running"
    }
    now = time.time()
    shown: list[dict[str, Any]] = []
    for process in found:
        pid = whole(process.get("pid"))
        record = background.pop(pid, None)
        ours = {} if record is None else _rendered(record, now)
        started = {"started_at": timestamp_or_none(process.get("started_at"))}
        shown.append({**ours, **process, **started, "process_id": ours.get("process_id") or str(pid)})
    shown += [_rendered(record, now) for record in background.values()]
    return answer({"processes": shown, "count": len(shown), "timestamp": timestamp(now)})


def _rendered(record: Object, now: float) -> Object:
    """`terminal`: `/processes/connect` can attach to it and size it."""
    return {**render_process(record, now), "terminal": record.get("pty") is True}


async def kill(call: Call) -> web.StreamResponse:
    return await _kill(call, call.arguments[0])


async def kill_by_query(call: Call) -> web.StreamResponse:
    process_id = call.request.query.get("process_id", "")
    if not process_id:
        raise SurfaceError(Kind.MISSING_PARAMETER, "The query parameter 'process_id' is required")
    return await _kill(call, process_id)


async def _kill(call: Call, process_id: str) -> web.Response:
    plain_id(process_id)
    target = {"signal": "SIGKILL", "tree": True}
    try:
        await call.agent.call("POST", f"/processes/{process_id}/signal", json=target)
        await _until_over(call, process_id)
    except AgentRefused as refused:
        if refused.kind != "not_found" or not process_id.isdigit():
            raise _not_found(process_id, refused) from refused
        await _kill_pid(call, process_id)
    return answer(
        {
            "success": True,
            "process_id": process_id,
            "status": "killed",
            "message": f"Process {process_id} killed",
            "timestamp": timestamp(),
        }
    )


async def _until_over(call: Call, process_id: str) -> None:
    """So that whoever lists after a kill finds it killed."""
    with suppress(TimeoutError, AgentError):
        async with asyncio.timeout(END_S), await call.agent.open("GET", f"/processes/{process_id}/attach") as stream:
            async for _ in stream.frames():
                pass


async def _kill_pid(call: Call, pid: str) -> None:
    """A system process, with the sandbox user's rights and nobody else's."""
    line = {"argv": ["sh", "-c", 'kill -9 "$0"', pid], "timeout_s": 10.0, "attach": True, "record": False}
    async with await call.agent.open("POST", "/processes", json=line) as stream:
        async for frame in stream.frames():
            if frame.type == "end" and mapping(frame.value.get("process")).get("exit_code") != 0:
                raise SurfaceError(Kind.PROCESS_NOT_FOUND, f"Process {pid} not found, or not yours to kill")


def _not_found(process_id: str, refused: AgentRefused) -> Exception:
    if refused.kind != "not_found":
        return refused
    return SurfaceError(Kind.PROCESS_NOT_FOUND, f"Process {process_id} not found", process_id=process_id)
