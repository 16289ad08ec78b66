"""A launcher without isolation, for tests that need no root: same requests, same events, the agent an ordinary process.

    python -m atoll.testing.fake_launcher --socket PATH --run DIR --installation ID [--version TEXT]

Never part of `atoll up`: it would run code unisolated. Like the real one it keeps nothing that it could not do without:
given a handle by a node, it ends, pauses and measures sandboxes that an earlier one started.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from atoll.core.errors import Conflict, InternalError, InvalidInput, NotFound
from atoll.listening import wait_listening
from atoll.rpc import Connection, RpcServer, serve

VERSION = "fake"
AGENT_START_TIMEOUT_S = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

Params = dict[str, Any]  # Any: JSON values of the launcher's requests


class FakeLauncher:
    def __init__(self, version: str = VERSION) -> None:
        self._version = version
        self.failing: set[str] = set()
        """Methods that answer with an error."""
        self.slots: list[str] = []
        """Names of the slots made ahead and not used yet."""
        self.egress: dict[str, Params] = {}
        """What the packet filter would do for each sandbox."""
        self.memory: dict[str, int] = {}
        """Of those whose memory was changed."""
        self.mounts: dict[str, dict[str, str]] = {}
        """Made at run time: path → image."""
        self.busy: set[str] = set()
        """Paths whose files are in use."""
        self.told: list[tuple[str, Params]] = []
        """`punish` and `blocked`."""
        self.swept: list[str] = []
        self.sweeping = asyncio.Event()
        """Cleared: what is to be swept has to wait."""
        self.sweeping.set()
        self._born = 0
        self._templates: set[str] = set()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._server: RpcServer | None = None
        self.ended = asyncio.Event()

    async def listen(self, path: Path) -> None:
        self._server = await serve(path, self._answer)

    async def close(self) -> None:
        """As if it had been killed: connections drop, agents live."""
        assert self._server is not None
        await self._server.close()

    async def end(self) -> None:
        """For a test's end: nothing of it is left."""
        for process in self._processes.values():
            process.kill()
        await asyncio.gather(*self._waiting)
        await self.close()

    async def _answer(self, method: str, params: Params, _: Connection) -> Params | None:
        methods: dict[str, Callable[[Params], Awaitable[Params | None]]] = {
            "hello": self._hello,
            "template": self._template,
            "prepare": self._prepare,
            "discard": self._discard,
            "create": self._create,
            "destroy": self._destroy,
            "swept": self._swept,
            "pause": self._pause,
            "resume": self._resume,
            "usage": self._usage,
            "set_memory": self._set_memory,
            "mount": self._mount,
            "unmount": self._unmount,
            "mounted": self._mounted,
            "attached": self._attached,
            "set_egress": self._set_egress,
            "punish": lambda params: self._hear("punish", params),
            "blocked": lambda params: self._hear("blocked", params),
            "refused": self._refused,
            "shutdown": self._shutdown,
        }
        if method not in methods:
            raise InvalidInput(f"no method {method!r}")
        if method in self.failing:
            raise InternalError(f"{method} fails")
        return await methods[method](params)

    async def _hello(self, _: Params) -> Params:
        entries = [{"id": identity, **_handle(process.pid)} for identity, process in self._processes.items()]
        return {"version": self._version, "pid": os.getpid(), "sandboxes": entries}

    async def _template(self, params: Params) -> None:
        self._templates.add(params["name"])

    async def _prepare(self, params: Params) -> None:
        if not Path(params["disk"]).is_file():
            raise InternalError("no disk")
        self.slots.append(params["slot"])

    async def _discard(self, params: Params) -> None:
        with contextlib.suppress(ValueError):
            self.slots.remove(params["slot"])

    async def _create(self, params: Params) -> Params:
        if params["template"] not in self._templates:
            raise NotFound("the template has no zygotes")
        if params.get("slot") in self.slots:
            self.slots.remove(params["slot"])
        if not Path(params["disk"]).is_file() or not bytes.fromhex(params["key"]):
            raise InternalError("no disk or no key")
        config = params["config"] | {"workdir": "/tmp", "python": False}  # noqa: S108 - there is no /workspace, no seed
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "atoll.agent"),
            *("--socket", params["socket"], "--config", json.dumps(config)),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self._processes[params["id"]] = process
        task = asyncio.create_task(self._wait(params["id"], process))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        await wait_listening(Path(params["socket"]), AGENT_START_TIMEOUT_S)
        self.egress[params["id"]] = params["egress"]
        self._born += 1
        return _handle(process.pid) | {"address": f"100.96.0.{self._born}"}

    async def _set_memory(self, params: Params) -> None:
        self.memory[params["id"]] = params["limits"]["memory_mib"]

    async def _mount(self, params: Params) -> Params:
        if not bytes.fromhex(params["key"]):
            raise InternalError("no key")
        self.mounts.setdefault(params["id"], {})[params["path"]] = params["image"]
        return {"new": True}

    async def _unmount(self, params: Params) -> Params:
        if params["path"] in self.busy and not params["force"]:
            raise Conflict("in use")
        was = self.mounts.get(params["id"], {}).pop(params["path"], None)
        return {"was": was is not None}

    async def _mounted(self, params: Params) -> Params:
        return {"mounted": self.mounts.get(params["id"], {}).get(params["path"]) == params["image"]}

    async def _attached(self, params: Params) -> Params:
        return {"attached": any(params["image"] in each.values() for each in self.mounts.values())}

    async def _set_egress(self, params: Params) -> None:
        self.egress[params["id"]] = params["egress"]

    async def _refused(self, _: Params) -> Params:
        return {"packets": {"never": 3}}

    async def _hear(self, method: str, params: Params) -> None:
        self.told.append((method, params))

    async def _wait(self, identity: str, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        if self._processes.get(identity) is not process:  # it was ended, and may have a next life
            return
        del self._processes[identity]
        if self._server is not None:
            self._server.broadcast("exited", {"id": identity, "pid": process.pid})

    async def _destroy(self, params: Params) -> None:
        self.egress.pop(params["id"], None)
        process = self._processes.pop(params["id"], None)
        handle = params["handle"] if process is None else _handle(process.pid)
        if handle and _stat(handle["pid"]) is not None and _handle(handle["pid"]) == _only_name(handle):
            os.killpg(handle["pid"], signal.SIGKILL)
            await _gone(handle["pid"])

    async def _swept(self, params: Params) -> None:
        await self.sweeping.wait()
        self.swept.append(params["id"])

    async def _pause(self, params: Params) -> None:
        os.kill(params["handle"]["pid"], signal.SIGSTOP)
        while (stat := _stat(params["handle"]["pid"])) is not None and stat[0] != "T":  # noqa: ASYNC110
            # Only a parent is told of a stop, and this one's parent may be a launcher before us.
            await asyncio.sleep(0.001)

    async def _resume(self, params: Params) -> None:
        os.kill(params["handle"]["pid"], signal.SIGCONT)

    async def _usage(self, params: Params) -> Params:
        stat = _stat(params["handle"]["pid"])
        if stat is None:
            raise NotFound("the sandbox has ended")
        return {
            "cpu_seconds": (int(stat[11]) + int(stat[12])) / _TICKS,
            "memory_bytes": int(stat[21]) * _PAGE,
            "processes": 1,
        }

    async def _shutdown(self, _: Params) -> None:
        asyncio.get_running_loop().call_soon(self.ended.set)


def _stat(pid: int) -> list[str] | None:
    """Fields from the third on; None when gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields


def _handle(pid: int) -> Params:
    stat = _stat(pid)
    return {"pid": pid, "start_time": int(stat[19]) if stat else 0}


def _only_name(handle: Params) -> Params:
    return {"pid": handle["pid"], "start_time": handle["start_time"]}


async def _gone(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(pidfd, ended.set)
        await ended.wait()
        loop.remove_reader(pidfd)
        os.close(pidfd)


async def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--socket", "--run", "--installation"):
        parser.add_argument(name, required=True)
    for name in ("--uplink", "--open-ranges", "--egress-rate", "--egress-burst", "--egress-mbit"):
        parser.add_argument(name, default="")
    parser.add_argument("--version", default=VERSION)
    arguments = parser.parse_args()
    launcher = FakeLauncher(arguments.version)
    await launcher.listen(Path(arguments.socket))
    await launcher.ended.wait()
    await launcher.close()
    os._exit(0)  # an orderly end of the loop would end the agents, which a launcher's end must not


if __name__ == "__main__":
    asyncio.run(main())
