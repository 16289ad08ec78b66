from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace

import pytest

from atoll.agent import contexts, kernels
from atoll.agent.errors import AgentError
from atoll.agent.interpreter import Cell
from atoll.agent.users import Users


def test_a_language_is_a_name_and_python_when_nobody_says():
    assert [kernels.language_of(value) for value in (None, "R", " TypeScript ", "c++17")] == [
        "python",
        "r",
        "typescript",
        "c++17",
    ]
    for value in ("", " ", 1, "x" * 65, "a\0b", ["r"]):
        with pytest.raises(AgentError):
            kernels.language_of(value)


def test_kernels_have_longer_than_python_after_an_interrupt():
    assert kernels.interrupt_grace_s("python") < kernels.interrupt_grace_s("bash")


async def test_a_kernel_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(kernels, "START_TIMEOUT_S", 0.01)
    launch = kernels.Launch()
    with pytest.raises(AgentError, match="did not start within"):
        await launch.over()
    assert not launch.pending


async def test_what_the_bridge_says_is_bounded():
    launch = kernels.Launch()
    launch.heard(["ready"])
    launch.heard({"type": "result"})
    assert launch.pending
    launch.heard({"type": "refused", "kind": ["x"], "message": "m" * 100_000})
    with pytest.raises(AgentError) as error:
        await launch.over()
    assert (error.value.kind, len(error.value.message)) == ("internal", kernels.MAX_MESSAGE)


async def test_its_directory_goes_with_all_that_is_in_it():
    users = Users(switching=False)
    path = kernels.make_directory(users, users.lookup())
    os.makedirs(f"{path}/a/b")
    os.symlink("/etc", f"{path}/a/etc")
    await kernels.remove_directory(users, path)
    assert not os.path.lexists(path)
    await kernels.remove_directory(users, path)


async def test_its_directory_goes_while_something_that_ends_still_writes():
    users = Users(switching=False)
    path = kernels.make_directory(users, users.lookup())
    removing = asyncio.create_task(kernels.remove_directory(users, path))

    async def write() -> None:
        for number in range(3):
            os.makedirs(path, exist_ok=True)
            os.close(os.open(f"{path}/{number}", os.O_WRONLY | os.O_CREAT))
            await asyncio.sleep(0)

    await asyncio.gather(removing, write())
    await kernels.remove_directory(users, path)
    assert not os.path.lexists(path)


@pytest.mark.parametrize(("over", "interrupts"), [(False, 2), (True, 1)], ids=["it runs on", "the next one runs"])
async def test_the_second_interrupt_is_for_the_cell_that_was_to_stop(monkeypatch, over, interrupts):
    monkeypatch.setattr(contexts.kernels, "interrupt_grace_s", lambda language: 0.0)
    monkeypatch.setattr(contexts.Context, "kill", lambda self: None)
    heard: list[str] = []
    context = contexts.Context("c", "bash", "/", None, {}, None)
    cell, following = Cell(None, 1), Cell(None, 2)
    context.interpreter = SimpleNamespace(cell=cell, launch=True, interrupt=lambda: heard.append("SIGINT"))
    context.stop(cell)
    if over:
        context.interpreter.cell = following
    passed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.001, passed.set_result, None)
    await passed
    assert len(heard) == interrupts
