"""Sandboxes that do what a test says, in the place of the SDK's."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator
from typing import Any

import pytest

from atoll.sdk import CommandResult, ExecutionResult, Link, NotFoundError, SandboxInfo

JSON = dict[str, Any]


class Cloud:
    """What a server would keep: sandboxes, what was asked of them, and what they are to answer."""

    def __init__(self) -> None:
        self.orders: list[JSON] = []
        self.living: dict[str, str] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {}

    def answer(self, sandbox_id: str, name: str, *asked: Any) -> Any:
        self.asked.append((sandbox_id, name, *asked))
        if sandbox_id not in self.living:
            raise NotFoundError(f"Sandbox {sandbox_id} not found", request_id="req_1")
        answer = self.answers.get(name)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sdk(cloud) -> type:
        class FakeSandbox:
            def __init__(self, sandbox_id: str, **account: Any) -> None:
                self.sandbox_id = sandbox_id
                self.commands = types.SimpleNamespace(run=self._run)
                self.files = types.SimpleNamespace(
                    list=self._named("files.list"),
                    remove=self._named("files.remove"),
                    iter_bytes=self._pieces,
                    write_bytes=self._named("files.write_bytes"),
                )

            @classmethod
            async def create(cls, template: str, **order: Any) -> FakeSandbox:
                await asyncio.sleep(0)  # others have a turn, as with a real server
                if isinstance(failure := cloud.answers.get("create"), Exception):
                    raise failure
                cloud.orders.append({"template": template, **order})
                made = cls(f"sb{len(cloud.orders):020}")
                cloud.living[made.sandbox_id] = "running"
                return made

            def _named(self, name: str) -> Any:
                async def call(*given: Any, **named: Any) -> Any:
                    return cloud.answer(self.sandbox_id, name, *given, *([named] if named else []))

                return call

            async def _pieces(self, path: str) -> AsyncIterator[bytes]:
                for piece in cloud.answer(self.sandbox_id, "files.iter_bytes", path) or ():
                    yield piece

            async def _run(self, command: str, **named: Any) -> CommandResult:
                return cloud.answer(self.sandbox_id, "commands.run", command, named) or CommandResult()

            async def run_code(self, code: str, **named: Any) -> ExecutionResult:
                return cloud.answer(self.sandbox_id, "run_code", code, named) or ExecutionResult()

            async def get_info(self) -> SandboxInfo:
                cloud.answer(self.sandbox_id, "get_info")
                return SandboxInfo(self.sandbox_id, cloud.living[self.sandbox_id], template_name="code-interpreter")

            async def kill(self) -> None:
                cloud.answer(self.sandbox_id, "kill")
                del cloud.living[self.sandbox_id]

            async def pause(self) -> None:
                cloud.answer(self.sandbox_id, "pause")
                cloud.living[self.sandbox_id] = "paused"

            async def resume(self) -> None:
                cloud.answer(self.sandbox_id, "resume")
                cloud.living[self.sandbox_id] = "running"

            async def create_link(self, port: int, *, seconds: int) -> Link:
                return cloud.answer(self.sandbox_id, "create_link", port, seconds)

            async def list_processes(self) -> list[JSON]:
                return cloud.answer(self.sandbox_id, "list_processes")

            async def get_process(self, process_id: str) -> JSON:
                return cloud.answer(self.sandbox_id, "get_process", process_id)

            async def kill_process(self, process_id: str) -> JSON:
                return cloud.answer(self.sandbox_id, "kill_process", process_id)

            async def get_egress_log(self, **named: Any) -> Any:
                return cloud.answer(self.sandbox_id, "get_egress_log", named)

        return FakeSandbox


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()
