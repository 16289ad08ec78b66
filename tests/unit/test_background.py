from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from atoll import background, compose
from atoll.core.settings import Places


def child(tmp_path: Path, program: str) -> list[str]:
    return [sys.executable, "-c", program, str(tmp_path / "pid")]


async def told_by(command: list[str]) -> list[str]:
    said: list[str] = []
    await background.run(command, "heavy", said.append)
    return said


async def test_it_says_that_a_template_is_ready(tmp_path: Path):
    assert await told_by(child(tmp_path, "")) == ["heavy: ready."]


async def test_it_says_why_a_template_is_not(tmp_path: Path):
    failing = "import sys; print('first', file=sys.stderr); sys.exit('Error: no more space')"
    assert await told_by(child(tmp_path, failing)) == ["heavy: the build failed (status 1). Error: no more space"]


async def test_a_build_ends_with_its_supervisor_and_its_children_too(tmp_path: Path):
    os.mkfifo(tmp_path / "pid")
    program = "import subprocess, sys; subprocess.run(['sh', '-c', 'echo $$ > \"$0\"; exec sleep 1000', sys.argv[1]])"
    building = asyncio.create_task(told_by(child(tmp_path, program)))
    pid = int(await asyncio.to_thread((tmp_path / "pid").read_text))
    end = os.pidfd_open(pid)
    try:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(end, ended.set)
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building
        await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(end)
        os.close(end)


async def test_what_is_up_to_date_starts_no_build(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(compose, "outdated_templates", lambda places, names: ())
    said: list[str] = []
    await background.build(Places.of(tmp_path), ("base",), said.append)
    assert said == []


async def test_a_name_that_is_none_is_told_and_stops_nothing(tmp_path: Path):
    said: list[str] = []
    await background.build(Places.of(tmp_path), ("no-such",), said.append)
    assert len(said) == 1
    assert said[0].startswith("no-such cannot be built: no such template: no-such; there are base,")
