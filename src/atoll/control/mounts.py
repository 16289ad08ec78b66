"""Volumes mounted into a sandbox that runs, and unmounted."""

from __future__ import annotations

from dataclasses import replace

from atoll.core.audit import Caller
from atoll.core.errors import InvalidInput
from atoll.core.sandbox import Sandbox

from .sandboxes import Sandboxes
from .volumes import Volumes


class Mounts:
    def __init__(self, sandboxes: Sandboxes, volumes: Volumes) -> None:
        self._sandboxes = sandboxes
        self._volumes = volumes

    async def mount(self, caller: Caller, sandbox_id: str, name: str, path: str) -> Sandbox:
        """The same again is no error. `InvalidInput` when nothing can be mounted there, `Conflict` when it does not
        run, `Unavailable` when the volume is on another machine."""
        detail = f"{name[:128]} at {path[:256]}"
        async with self._sandboxes.hold(caller, sandbox_id, "mount", detail) as held:
            held.must_run("a mount")
            there = held.sandbox.volumes
            known = next((each for each in there if (each.name, each.path) == (name, path)), None)
            mount = known or await self._volumes.another(caller, there, name, path)
            await self._volumes.check_node(held.node, [mount])
            await held.node.mount_volume(sandbox_id, held.sandbox.incarnation, mount)
            if known:  # so it was, unless the answer to an unmount was lost
                return held.sandbox
            return await held.commit(replace(held.sandbox, volumes=(*there, mount)))

    async def unmount(self, caller: Caller, sandbox_id: str, path: str, force: bool = False) -> Sandbox:
        """`Conflict` while its files are in use, unless `force`: programs keep what they have open, and nobody comes
        in any more."""
        detail = f"{path[:256]}{' force' if force else ''}"
        async with self._sandboxes.hold(caller, sandbox_id, "unmount", detail) as held:
            held.must_run("an unmount")
            rest = tuple(each for each in held.sandbox.volumes if each.path != path)
            if rest == held.sandbox.volumes:
                raise InvalidInput(f"no volume is mounted at '{path[:256]}'", field="path")
            await held.node.unmount_volume(sandbox_id, held.sandbox.incarnation, path, force)
            return await held.commit(replace(held.sandbox, volumes=rest))
