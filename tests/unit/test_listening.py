from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from atoll.core.errors import Unavailable
from atoll.listening import wait_listening
from atoll.rpc import listening_socket


async def test_returns_when_the_socket_appears(tmp_path: Path) -> None:
    waiting = asyncio.create_task(wait_listening(tmp_path / "s", 20))
    await asyncio.sleep(0)
    assert not waiting.done()
    with listening_socket(tmp_path / "s"):
        await waiting


async def test_a_name_left_over_by_a_dead_process_is_not_enough(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    with pytest.raises(Unavailable):
        await wait_listening(tmp_path / "s", 0.02)


async def test_a_socket_bound_before_it_listens_is_found(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as late:
        late.bind(str(tmp_path / "s"))
        waiting = asyncio.create_task(wait_listening(tmp_path / "s", 20))
        await asyncio.sleep(0)
        late.listen()
        await waiting
