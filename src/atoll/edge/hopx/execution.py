"""Running code and commands: `/execute…`, `/commands/…`. A program's failure is an answer, never an error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from atoll.edge.agent_link import AgentError, AgentGone, AgentLink, AgentRefused, Answer
from atoll.edge.frames_in import mapping, text
from atoll.edge.routes import Route

from . import languages, webhooks
from .call import Call, Object, answer, env_of, optional_text, required_text, timeout_of, timestamp, workdir_of
from .errors import Kind, SurfaceError
from .languages import Language
from .outcome import Ending, Outcome, ending_of, timed_out

DEFAULT_TIMEOUT_S = 120.0
BACKGROUND_TIMEOUT_S = 300.0
# The agent keeps the time; this is for one that does not (a hostile one, or one that is frozen).
GRACE_S = 10.0
MAX_ENDED = 16 * 1024 * 1024  # of a record with the last output of both streams, 1 MiB before it became JSON

# Why a program could not be started → the exit code that a shell would give
CANNOT_START = {
    "not_found": 127,
    "unsupported": 127,
    "permission": 126,
    "too_many": 126,
    "no_space": 126,
    "not_a_directory": 126,
    "is_a_directory": 126,
    "not_regular": 126,
    "too_large": 126,
    "internal": 126,
}


@dataclass(frozen=True)
class Run:
    """A program to start: agent protocol's `POST /processes` without its mechanics."""

    argv: tuple[str, ...]
    cwd: str
    timeout_s: float
    env: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] | None = None
    otherwise: tuple[str, ...] = ()
    name: str | None = None
    compiler: str | None = None

    def to_wire(self, **more: Any) -> Object:
        return {
            "argv": list(self.argv),
            "env": self.env,
            "cwd": self.cwd,
            "user": "user",
            "timeout_s": self.timeout_s,
            "files": self.files,
            "compile": self.compiler,
            "name": self.name,
            **more,
        }


@dataclass(frozen=True)
class Code:
    language: Language
    code: str
    cwd: str
    timeout_s: float
    env: dict[str, str]
    name: str | None = None

    def to_run(self) -> Run:
        return Run(
            argv=self.language.argv,
            cwd=self.cwd,
            timeout_s=self.timeout_s,
            env=self.env,
            files={**self.language.files, self.language.file: self.code},
            otherwise=self.language.otherwise,
            name=self.name or self.language.name,
            compiler=self.language.compiler,
        )

    def to_cell(self) -> Object:
        """In the default context, or beside it when that runs a cell already."""
        return {"code": self.code, "env": self.env, "cwd": self.cwd, "timeout_s": self.timeout_s, "spare": True}


def parse_code(body: Object, route: Route, timeout_s: float = DEFAULT_TIMEOUT_S) -> Code:
    return Code(
        language=languages.find(optional_text(body, "language", "python") or "python"),
        code=required_text(body, "code"),
        cwd=workdir_of(body, route),
        timeout_s=timeout_of(body, timeout_s),
        env=env_of(body),
        name=optional_text(body, "name")[:256] or None,
    )


def parse_command(body: Object, route: Route, timeout_s: float = DEFAULT_TIMEOUT_S) -> Run:
    """With `args` the command is a program, without them a line for the shell. Where there is no bash, sh has to do."""
    command = required_text(body, "command")
    if not command or "\0" in command:
        raise SurfaceError(Kind.INVALID_REQUEST, "The field 'command' must be a non-empty string")
    args = body.get("args")
    if args is not None and not (isinstance(args, list) and all(isinstance(arg, str) for arg in args)):
        raise SurfaceError(Kind.INVALID_REQUEST, "The field 'args' must be a list of strings")
    argv = (command, *args) if args else ("bash", "-c", command)
    return Run(
        argv=argv,
        cwd=workdir_of(body, route),
        timeout_s=timeout_of(body, timeout_s),
        env=env_of(body),
        otherwise=("sh", *argv[1:]) if argv[0] == "bash" else (),
        name=optional_text(body, "name")[:256] or None,
    )


@asynccontextmanager
async def running(agent: AgentLink, work: Code | Run, route: Route) -> AsyncIterator[Answer]:
    """The run's stream. Leaving it ends what still runs. AgentRefused when it cannot be started."""
    if isinstance(work, Code) and work.language.contexts and route.python:
        async with await agent.open("POST", "/contexts/default/execute", json=work.to_cell()) as stream:
            yield stream
        return
    run = work if isinstance(work, Run) else work.to_run()
    async with await start_process(agent, run, attach=True, kill_on_disconnect=True, record=False) as stream:
        yield stream


async def start_process(agent: AgentLink, run: Run, **mechanics: Any) -> Answer:
    try:
        return await agent.open("POST", "/processes", json=run.to_wire(**mechanics))
    except AgentRefused as refused:
        if refused.kind != "not_found" or not run.otherwise:
            raise
    other = replace(run, argv=run.otherwise, otherwise=())
    return await agent.open("POST", "/processes", json=other.to_wire(**mechanics))


def plain_id(value: str) -> str:
    """An id that goes into a path towards the agent."""
    if not (0 < len(value) <= 64 and value.replace("_", "").replace("-", "").isalnum() and value.isascii()):
        raise SurfaceError(Kind.PROCESS_NOT_FOUND, f"Process {value[:64]} not found")
    return value


def cannot_start(refused: AgentRefused, work: Code | Run) -> Ending:
    """The answer to a program that is not there. Raises what is not about the program."""
    code = CANNOT_START.get(refused.kind)
    if code is None:
        raise refused
    run = work if isinstance(work, Run) else work.to_run()
    if code == 127 and isinstance(work, Code):
        return Ending(
            127, 0.0, f"{run.compiler or run.argv[0]}: not found: this template has no {work.language.name}\n"
        )
    if refused.kind == "not_found":
        return Ending(127, 0.0, f"{run.argv[0]}: command not found\n")
    return Ending(code, 0.0, f"{run.argv[0]}: cannot start: {refused.message}\n")


async def collect(call: Call, work: Code | Run) -> tuple[Outcome, Ending]:
    outcome, ending, begun = Outcome(), None, time.monotonic()
    try:
        async with asyncio.timeout(work.timeout_s + GRACE_S), running(call.agent, work, call.route) as stream:
            async for frame in stream.frames():
                outcome.feed(frame)
                if frame.type == "end":
                    ending = ending_of(frame, work.timeout_s)
    except TimeoutError:
        ending = timed_out(work.timeout_s, time.monotonic() - begun)
    except AgentRefused as refused:
        ending = cannot_start(refused, work)
    if ending is None:
        raise AgentError("a stream without an end")
    return outcome, ending


async def execute(call: Call) -> web.StreamResponse:
    return await _execute(call, parse_code(await call.object(), call.route))


async def execute_ipython(call: Call) -> web.StreamResponse:
    return await _execute(call, parse_code({**await call.object(), "language": "python"}, call.route))


async def _execute(call: Call, code: Code) -> web.Response:
    outcome, ending = await collect(call, code)
    where = {"context": outcome.context} if outcome.context else {}
    return answer({**outcome.render(ending), **where, "language": code.language.name, "timestamp": timestamp()})


async def run_command(call: Call) -> web.StreamResponse:
    body = await call.object()
    outcome, ending = await collect(call, parse_command(body, call.route))
    more = {"command": body["command"], "pid": outcome.pid, "timestamp": timestamp()}
    return answer({**outcome.render(ending), **more})


async def execute_background(call: Call) -> web.StreamResponse:
    code = parse_code(await call.object(), call.route, BACKGROUND_TIMEOUT_S)
    return await _start_background(call, code, code.language.name)


async def command_background(call: Call) -> web.StreamResponse:
    return await _start_background(call, parse_command(await call.object(), call.route), "")


async def _start_background(call: Call, work: Code | Run, language: str) -> web.Response:
    record = await _started(call, work)
    process_id = text(record.get("id"))
    return answer(
        {
            "process_id": process_id,
            "execution_id": process_id,
            "status": "running",
            "pid": record.get("pid"),
            "name": work.name or text(record.get("name")),
            "language": language,
            "start_time": timestamp(),
            "message": f"Background process started: {process_id}",
        }
    )


async def _started(call: Call, work: Code | Run) -> Object:
    """A program that is not there is an error here: there is no result to carry it."""
    run = work if isinstance(work, Run) else work.to_run()
    try:
        async with asyncio.timeout(GRACE_S), await start_process(call.agent, run, attach=False) as stream:
            return mapping((await stream.json()).get("process"))
    except AgentRefused as refused:
        ending = cannot_start(refused, work)
        raise SurfaceError(Kind.INVALID_REQUEST, ending.message.strip()) from refused
    except TimeoutError as error:
        raise SurfaceError(Kind.AGENT_SILENT, "The sandbox did not answer in time") from error


async def execute_async(call: Call) -> web.StreamResponse:
    """A background run whose end is told to a URL. Everything that can be refused is refused before it runs."""
    body = await call.object()
    code, callback = parse_code(body, call.route, webhooks.TIMEOUT_S), webhooks.parse(body)
    if not call.route.internet_access:
        raise SurfaceError(
            Kind.FORBIDDEN,
            "This sandbox is without internet access, so nothing it does is told to a URL; "
            "use /execute/background and /execute/processes",
        )
    call.webhooks.admit(call.route.id)
    execution_id = plain_id(text((await _started(call, code)).get("id")))
    call.webhooks.begin(call.route.id, execution_id, callback, code.timeout_s, lambda: _ended(call.agent, execution_id))
    return answer(
        {
            "execution_id": execution_id,
            "process_id": execution_id,
            "status": "queued",
            "callback_url": callback.url,
            "message": f"The result of execution {execution_id} will be sent to the callback URL",
            "timestamp": timestamp(),
        }
    )


async def _ended(agent: AgentLink, execution_id: str) -> Object:
    """Asks once and is answered at the end, however late; a sandbox that ends first breaks the connection."""
    try:
        async with await agent.open("GET", f"/processes/{execution_id}", query={"wait": "1"}) as stream:
            return await stream.json(MAX_ENDED)
    except AgentGone as error:
        raise webhooks.Lost("The sandbox was stopped before the run ended") from error
    except AgentError as error:
        raise webhooks.Lost("The sandbox did not say how the run ended") from error
