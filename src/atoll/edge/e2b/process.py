"""`process.Process`: programs, their output, their input and their ends, over the agent's processes.

A program is named by its pid as seen inside, or by its tag. It outlives the client that started it, but not the
deadline of the call that did. All its subscribers hear the same; the slowest sets the pace of the program, and who
takes nothing at all is cut off. Signals reach everything that the program has become.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote

from atoll.edge.agent_link import AgentRefused, Answer
from atoll.edge.frames_in import Frame, mapping, objects, text, texts, whole
from atoll.wire import connect, proto_json
from atoll.wire.connect import Code, ConnectError, Object

from .call import Call
from .rpc import Send

KEEPALIVE: Object = {"event": {"keepalive": {}}}
OUTPUT_PIECE = 32 * 1024
TERMINAL_PIECE = 16 * 1024
TERMINAL_SIZE = (80, 24)
MAX_PID = 2**32 - 1
SIGNALS = {"SIGNAL_UNSPECIFIED": 0, "SIGNAL_SIGKILL": 9, "SIGNAL_SIGTERM": 15}
SHELLS = {"/bin/bash": "/bin/sh"}
"""What takes a shell's place where it is missing."""
NO_INPUT = "error writing to stdin: stdin not enabled or closed"


# ---- which process


def selector(message: Object) -> Object:
    return proto_json.part(message, "process")


def name_of(chosen: Object) -> str:
    """As the agent's paths name it."""
    if proto_json.has(chosen, "pid"):
        return f"pid:{proto_json.whole(chosen, 'pid')}"
    if proto_json.has(chosen, "tag"):
        return f"tag:{quote(proto_json.text(chosen, 'tag'), safe='')}"
    raise connect.invalid("a process is chosen by its pid or by its tag")


def refuse(refused: AgentRefused, chosen: Object) -> ConnectError | AgentRefused:
    if refused.kind != "not_found":
        return refused
    by = "pid" if proto_json.has(chosen, "pid") else "tag"
    return ConnectError(Code.NOT_FOUND, f"process with {by} {proto_json.field(chosen, by)} not found")


# ---- List


async def list_processes(call: Call, message: Object) -> Object:
    del message
    answer = await call.agent.call("GET", "/processes", query={"env": "1"})
    running = [record for record in objects(answer.get("processes")) if record.get("status") == "running"]
    return {"processes": [_info(record) for record in running]}


def _info(record: Object) -> Object:
    command, *arguments = texts(record.get("argv")) or [""]
    env = {name: value for name, value in mapping(record.get("env")).items() if isinstance(value, str)}
    config = {"cmd": command, "args": arguments, "envs": env, "cwd": text(record.get("cwd"))}
    tag = record.get("tag")
    return {
        "config": proto_json.without_defaults(config),
        "pid": _pid(record),
        **({"tag": tag} if isinstance(tag, str) else {}),
    }


def _pid(record: Object) -> int:
    return min(max(0, whole(record.get("pid"))), MAX_PID)


# ---- Start and Connect


async def start(call: Call, message: Object, send: Send) -> None:
    wanted = to_agent(call, message)
    async with await _start(call, wanted) as stream:
        await _pass_on(stream, send)


def to_agent(call: Call, message: Object) -> Object:
    """A StartRequest in the agent's words."""
    config = proto_json.part(message, "process")
    command, directory = proto_json.text(config, "cmd"), proto_json.text(config, "cwd")
    return {
        "argv": [command, *proto_json.texts(config, "args")],
        "env": proto_json.text_map(config, "envs"),
        "cwd": call.path(directory) if directory else call.workdir,
        "make_cwd": not directory,
        "user": call.user,
        "timeout_s": call.deadline_s,
        "stdin": proto_json.boolean(message, "stdin", otherwise=True),
        "pty": _size(message),
        "tag": proto_json.optional_text(message, "tag"),
        "attach": True,
        "record": "brief",
        "drain": True,
    }


def _size(message: Object) -> Object | None:
    if not proto_json.has(message, "pty"):
        return None
    size = proto_json.part(proto_json.part(message, "pty"), "size")
    cols, rows = proto_json.whole(size, "cols"), proto_json.whole(size, "rows")
    return {"cols": cols or TERMINAL_SIZE[0], "rows": rows or TERMINAL_SIZE[1]}


async def _start(call: Call, wanted: Object) -> Answer:
    try:
        return await call.agent.open("POST", "/processes", json=wanted)
    except AgentRefused as refused:
        command, *arguments = wanted["argv"]
        if refused.kind != "not_found" or command not in SHELLS:
            raise
        return await call.agent.open("POST", "/processes", json={**wanted, "argv": [SHELLS[command], *arguments]})


async def subscribe(call: Call, message: Object, send: Send) -> None:
    chosen = selector(message)
    try:
        stream = await call.agent.open("GET", f"/processes/{name_of(chosen)}/attach", query={"from": "now"})
    except AgentRefused as refused:
        raise refuse(refused, chosen) from refused
    async with stream:
        await _pass_on(stream, send)


async def _pass_on(stream: Answer, send: Send) -> None:
    terminal = False
    async for frame in stream.frames():
        if frame.type == "start":
            record = mapping(frame.value.get("process"))
            terminal = record.get("pty") is True
            await send(event({"start": {"pid": _pid(record)}}))
        elif frame.type == "end":
            await send(event({"end": ending(mapping(frame.value.get("process")))}))
        elif frame.payload:
            for piece in output(frame, terminal):
                await send(piece)


def event(value: Object) -> bytes:
    return connect.message({"event": value})


def output(frame: Frame, terminal: bool) -> Iterator[bytes]:
    """The envelopes of a piece of output."""
    kind, most = ("pty", TERMINAL_PIECE) if terminal else (("stdout", "stderr")[frame.type == "E"], OUTPUT_PIECE)
    begin = b'{"event":{"data":{"' + kind.encode() + b'":"'
    for at in range(0, len(frame.payload), most):
        data = proto_json.base64_bytes(frame.payload[at : at + most])
        yield connect.envelope(b"".join((begin, data, b'"}}}')))


def ending(record: Object) -> Object:
    """How it ended, in Go's words. ConnectError when its time was over."""
    status, code = record.get("status"), whole(record.get("exit_code"))
    if status == "timed_out":
        raise ConnectError(Code.DEADLINE_EXCEEDED, "the call's time is over; what it had started was killed")
    if status == "killed":
        said = f"signal: {_signal_words(text(record.get('signal')))}"
        return {"exitCode": -1, "status": said, "error": said}
    code = min(max(0, code), 255)
    said = f"exit status {code}"
    return {**({"exitCode": code} if code else {}), "exited": True, "status": said, **({"error": said} if code else {})}


def _signal_words(name: str) -> str:
    number = getattr(signal.Signals.__members__.get(name), "value", None)
    words = number and signal.strsignal(number)
    return words.lower() if words else name.lower()[:64]


# ---- input, signals, size


async def update(call: Call, message: Object) -> Object:
    size = _size(message)
    if size is not None:
        await _tell(call, selector(message), "POST", "resize", value=size)
    else:
        await _tell(call, selector(message), "GET", "")
    return {}


async def send_input(call: Call, message: Object) -> Object:
    await _write(call, selector(message), proto_json.part(message, "input"))
    return {}


async def stream_input(call: Call, messages: AsyncIterator[Object]) -> Object:
    chosen: Object | None = None
    async for message in messages:
        if chosen is None:
            if not proto_json.has(message, "start"):
                raise connect.invalid("the first message of a stream of input says which process it is for")
            chosen = selector(proto_json.part(message, "start"))
            await _tell(call, chosen, "GET", "")
        elif proto_json.has(message, "data"):
            await _write(call, chosen, proto_json.part(proto_json.part(message, "data"), "input"))
    return {}


async def _write(call: Call, chosen: Object, given: Object) -> None:
    for name, kind in (("stdin", "pipe"), ("pty", "terminal")):
        if proto_json.has(given, name):
            await _tell(
                call, chosen, "POST", "stdin", {"to": kind}, body=proto_json.blob(given, name), failure=NO_INPUT
            )
            return
    raise ConnectError(Code.UNIMPLEMENTED, "input is for stdin or for a pty")


async def send_signal(call: Call, message: Object) -> Object:
    number = proto_json.choice(message, "signal", SIGNALS)
    if number not in (signal.SIGKILL, signal.SIGTERM):
        raise ConnectError(Code.UNIMPLEMENTED, "the signals are SIGNAL_SIGTERM and SIGNAL_SIGKILL")
    chosen = selector(message)
    answer = await _tell(call, chosen, "POST", "signal", value={"signal": number, "tree": True})
    if mapping(answer.get("process")).get("status") != "running":
        raise refuse(AgentRefused("not_found", "it has ended"), chosen)
    return {}


async def close_stdin(call: Call, message: Object) -> Object:
    failure = "cannot close the stdin of a process with a pty; send it Ctrl+D (0x04)"
    await _tell(call, selector(message), "DELETE", "stdin", {"to": "pipe"}, failure=failure)
    return {}


async def _tell(
    call: Call,
    chosen: Object,
    method: str,
    what: str,
    query: dict[str, str] | None = None,
    value: Object | None = None,
    body: bytes | None = None,
    failure: str = "",
) -> Object:
    """`failure`: what is said of a process that is not of the kind for it."""
    path = f"/processes/{name_of(chosen)}" + (f"/{what}" if what else "")
    try:
        async with await call.agent.open(method, path, query=query, json=value, body=body) as answer:
            return await answer.json()
    except AgentRefused as refused:
        if refused.kind == "invalid" and failure:
            raise ConnectError(Code.INTERNAL, failure) from refused
        raise refuse(refused, chosen) from refused
