"""Templates that are built while Atoll serves already: `atoll template build`, as a child of the supervisor.

A large template must not keep a new machine from its first sandbox. It is in the catalogue when it is ready; until then
a sandbox from it is refused, saying how far the build is (storage/builds.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable

from atoll import compose
from atoll.core.settings import Places
from atoll.node.launcher_process import python_command, python_environment

log = logging.getLogger(__name__)

ASIDE = ("setpriv", "--pdeathsig", "KILL", "nice", "-n", "10")
"""It ends with the supervisor, and sandboxes go first."""


async def build(places: Places, names: tuple[str, ...], tell: Callable[[str], None]) -> None:
    """Builds those of `names` that are not up to date. What goes wrong is told and stops nothing."""
    try:
        if missing := await asyncio.to_thread(compose.outdated_templates, places, names):
            tell(f"Building {', '.join(missing)} beside; `atoll template list` shows how far it is.")
            await run([*ASIDE, *builder(places), *missing], ", ".join(missing), tell)
    except Exception as error:
        log.exception("no template is built beside")
        tell(f"{', '.join(names)} cannot be built: {error}")


def builder(places: Places) -> list[str]:
    return python_command("atoll.cli.main", "template", "build", "--data-dir", str(places.data))


async def run(command: list[str], what: str, tell: Callable[[str], None]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**compose.environment(), **python_environment()},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # nothing half made is ever taken for a layer
        await process.wait()
        raise
    if process.returncode == 0:
        tell(f"{what}: ready.")
    else:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        tell(f"{what}: the build failed (status {process.returncode}). {last}")
