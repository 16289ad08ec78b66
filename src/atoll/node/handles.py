"""Handles: what the node knows of each sandbox, one file each, written before the effect it announces.

A file holds one line of JSON for each save, the last one counts: to add a line costs a quarter of what a new file in
the place of the old one does, for which the file system starts to write. A line that was cut off is no JSON, and the
one before it holds. A file that has grown is written anew.

A save is atomic (a reader sees the old or the new one) and survives the death of any process. It survives a power cut
only after `sync`, which waits for the disk: after a power cut nothing runs, so a sandbox's handle has to be durable
when its disk is worth something without its processes. That is when it stops, and soon after its birth.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from atoll.core.engine import EngineHandle
from atoll.core.limits import Limits
from atoll.core.template import Template
from atoll.core.volumes import VolumeMount

log = logging.getLogger(__name__)

MOST_BYTES = 64 * 1024


class HandleState(StrEnum):
    CREATING = "creating"
    """Nothing of it is worth keeping until its first answer."""
    STARTING = "starting"
    """On a disk that holds somebody's files."""
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DESTROYING = "destroying"


VISIBLE = {
    HandleState.STARTING: "stopped",
    HandleState.RUNNING: "running",
    HandleState.PAUSED: "paused",
    HandleState.STOPPING: "stopped",
    HandleState.STOPPED: "stopped",
}
"""State on disk → state that `list` reports. The others are not there yet, or not any more; what starts has its
disk in any case."""


@dataclass(frozen=True)
class Handle:
    id: str
    incarnation: int
    state: HandleState
    template: Template
    """As it was at the birth: the disk is the difference to exactly these layers."""
    limits: Limits
    hostname: str
    wrapped_key: str = field(repr=False)
    """The disk's key under the node's master key."""
    wrapped_env: str = field(default="", repr=False)
    """The variables it was created with, likewise: they may be secrets, and `start` needs them again."""
    internet_access: bool = False
    wrapped_policy: str = field(default="", repr=False)
    """`core.policy.to_wire`, likewise; empty when `internet_access` says it all."""
    trust_is_old: bool = False
    """Its header rules were changed, and its trust store was not brought up to date yet."""
    engine: EngineHandle | None = None
    volumes: tuple[VolumeMount, ...] = ()
    unsettled: bool = False
    """A change of its memory or of its mounts was begun: what came of it is to be looked up."""
    keeper: bool = False
    """The node's own: it shows a volume's files to whoever may see them, and is no sandbox of anybody's."""

    @property
    def pid(self) -> int | None:
        return self.engine["pid"] if self.engine else None

    def to_json(self) -> bytes:
        return json.dumps(vars(self), default=vars, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Handle:
        data: dict[str, Any] = json.loads(text)
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        known["state"] = HandleState(known["state"])
        known["limits"] = Limits.from_wire(known["limits"])
        known["template"] = Template.from_wire(known["template"])
        known["volumes"] = tuple(VolumeMount(**mount) for mount in known.get("volumes", ()))
        return cls(**known)


def _doomed(handle: Handle) -> Handle:
    return replace(handle, state=HandleState.DESTROYING, wrapped_key="", wrapped_env="", wrapped_policy="")


class HandleStore:
    """The node is the only writer, so what it wrote is also in memory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.unreadable: set[str] = set()
        """Ids whose file nobody can read: their disks are kept, a person has to look."""
        self._handles = {handle.id: handle for handle in self._load()}

    def __iter__(self) -> Iterator[Handle]:
        return iter(list(self._handles.values()))

    def get(self, sandbox_id: str) -> Handle | None:
        return self._handles.get(sandbox_id)

    def save(self, handle: Handle) -> Handle:
        line = handle.to_json()
        if handle.id not in self._handles or not self._add(handle.id, line):
            self._write(handle.id, line)
        self._handles[handle.id] = handle
        return handle

    def _write(self, sandbox_id: str, line: bytes) -> None:
        final = self._path(sandbox_id)
        staging = final.with_suffix(".new")
        descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(descriptor, line)
        finally:
            os.close(descriptor)
        if written != len(line):  # the older one is worth more
            staging.unlink()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(staging))
        os.rename(staging, final)

    def _add(self, sandbox_id: str, line: bytes) -> bool:
        """False: it has to be written anew."""
        try:
            descriptor = os.open(self._path(sandbox_id), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            if os.fstat(descriptor).st_size > MOST_BYTES:
                return False
            return os.write(descriptor, b"\n" + line) == len(line) + 1
        finally:
            os.close(descriptor)

    def change(self, handle: Handle, state: HandleState, **changes: Any) -> Handle:  # Any: as dataclasses.replace
        return self.save(replace(handle, state=state, **changes))

    def doom(self, handle: Handle) -> Handle:
        """As a save that it is being destroyed, by the file's name alone: nothing is written. Keys and secrets go from
        memory here, and with the file when the rest is swept."""
        with contextlib.suppress(FileNotFoundError):  # it was before
            self._path(handle.id).rename(self._doomed_path(handle.id))
        doomed = _doomed(handle)
        self._handles[handle.id] = doomed
        return doomed

    def remove(self, sandbox_id: str) -> None:
        self._path(sandbox_id).unlink(missing_ok=True)
        self._doomed_path(sandbox_id).unlink(missing_ok=True)
        self._handles.pop(sandbox_id, None)

    def sync(self, *sandbox_ids: str) -> None:
        """Blocks until what was saved last is on the disk. A handle that is gone needs no syncing."""
        for path in (*map(self._path, sandbox_ids), self._directory):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _path(self, sandbox_id: str) -> Path:
        return self._directory / f"{sandbox_id}.json"

    def _doomed_path(self, sandbox_id: str) -> Path:
        return self._directory / f"{sandbox_id}.doomed"

    def _load(self) -> Iterator[Handle]:
        for leftover in self._directory.glob("*.new"):
            leftover.unlink()
        for path in sorted(self._directory.glob("*.doomed")):
            try:
                yield _doomed(_last(path.read_bytes()))
            except (ValueError, KeyError, TypeError):
                path.unlink()  # nothing of it is to be kept, and what nobody has a handle of is removed
        for path in sorted(self._directory.glob("*.json")):
            try:
                yield _last(path.read_bytes())
            except (ValueError, KeyError, TypeError):
                log.exception("the handle %s cannot be read; its disk is kept, the sandbox is not offered", path)
                self.unreadable.add(path.stem)


def _last(text: bytes) -> Handle:
    """Of the lines the last that is whole. After a power cut there can be zeros where one was not written yet."""
    first, *later = text.rstrip(b"\0").split(b"\n")
    for line in reversed(later):
        with contextlib.suppress(ValueError):
            return Handle.from_json(line)
    return Handle.from_json(first)
