"""Starting, watching and ending programs."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from atoll.agent.errors import invalid
from atoll.agent.http_server import JsonObject, Request
from atoll.agent.process_spec import Size, Spec
from atoll.agent.processes import Process
from atoll.agent.services import Services
from atoll.agent.signals import signal_number

MAX_LISTED_OUTPUT = 64 * 1024  # of each stream of each process in a list
KILLED_WITHIN_S = 1.0  # unless the kernel itself holds it


async def start(services: Services, request: Request) -> JsonObject | None:
    spec = Spec.of(await request.json(), services.config.workdir)
    process = services.processes.start(spec)
    if not spec.attach:
        return {"process": process.record()}
    try:
        await _follow(services, process, request)
    except asyncio.CancelledError:
        if spec.kill_on_disconnect and not process.exited:
            services.processes.kill(process)
        raise
    return None


async def listing(services: Services, request: Request) -> JsonObject:
    if request.query.get("env", "0") != "0":
        return {"processes": [process.record() | {"env": process.spec.env} for process in services.processes]}
    if "output" not in request.query:
        return {"processes": [process.record() for process in services.processes]}
    last = _byte_count(request.query["output"])
    return {"processes": [process.record() | _output(process, last) for process in services.processes]}


async def show(services: Services, request: Request) -> JsonObject:
    process = _named(services, request)
    if request.query.get("wait", "0") != "0":
        with services.open_stream():
            await process.ended.wait()
    return {"process": process.record(), **_output(process, None)}


async def attach(services: Services, request: Request) -> None:
    await _follow(services, _named(services, request), request, from_now=request.query.get("from") == "now")


async def send_signal(services: Services, request: Request) -> JsonObject:
    process, body = _named(services, request), await request.json()
    tree = body.get("tree", True)
    if not isinstance(tree, bool):
        raise invalid("tree is true or false")
    number = signal_number(body.get("signal", "SIGTERM"))
    services.processes.send_signal(process, number, tree)
    found = process.record()  # as the signal has met it
    if number == signal.SIGKILL:  # who looks for it after the answer shall not find it
        with suppress(TimeoutError):
            async with asyncio.timeout(KILLED_WITHIN_S):
                await process.gone.wait()
    return {"process": found}


async def write_stdin(services: Services, request: Request) -> JsonObject:
    process = _expecting_input(services, request)
    async for data in request.body():
        await process.write_stdin(data)
    return {}


async def close_stdin(services: Services, request: Request) -> JsonObject:
    await _expecting_input(services, request).close_stdin()
    return {}


async def resize(services: Services, request: Request) -> JsonObject:
    process = _named(services, request)
    process.resize(Size.of(await request.json()))
    return {}


def _output(process: Process, last: int | None) -> JsonObject:
    ring = process.ring
    if ring is None:
        return {"stdout": "", "stderr": "", "truncated": 0}
    return {"stdout": ring.stdout(last), "stderr": ring.stderr(last), "truncated": ring.truncated}


def _byte_count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MAX_LISTED_OUTPUT:
        raise invalid(f"output is a number of bytes from 1 to {MAX_LISTED_OUTPUT}")
    return int(text)


def _named(services: Services, request: Request) -> Process:
    return services.processes.get(request.parameters["id"])


def _expecting_input(services: Services, request: Request) -> Process:
    process = _named(services, request)
    match request.query.get("to"):
        case "pipe" | "terminal" as kind:
            process.expect_input(kind == "terminal")
        case None:
            pass
        case _:
            raise invalid("to is pipe or terminal")
    return process


async def _follow(services: Services, process: Process, request: Request, from_now: bool = False) -> None:
    stream = request.start_stream()
    stream.send_json({"type": "start", "process": process.record()})
    attachment = process.attach(stream, from_now)
    try:
        with services.open_stream():
            await attachment.done
    finally:
        process.detach(attachment)
    stream.send_json({"type": "end", "process": process.record(), "duration_s": process.duration_s})
