"""Volumes: directories that outlive sandboxes and that several of them may have mounted at the same time. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import InvalidInput

DEFAULT_MIB = 10 * 1024
MIN_MIB = 64
MAX_MIB = 1024 * 1024
INODES_PER_MIB = 128
"""Unless somebody says otherwise: one for 8 KiB, as disks have them."""
MIN_INODES, MAX_INODES_PER_MIB = 100, 256
GROUP_MIB = 128
"""ext4 has its inodes by groups of so much room, in each the same number."""
MAX_MOUNTS = 16
"""Of one sandbox; each is a mount and, when it is the first of its volume, a loop device."""
MAX_PATH_BYTES = 1024

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_COMPONENT = re.compile(r"[^/\0]+")
MAX_COMPONENT_BYTES = 255

KEEPER_ROOT = "/volume"
"""Where the node's own sandbox, which shows a volume's files to those outside, has it."""
OWNER = 1000
"""Whose a volume is inside: `user` of every template (`agent/users.py`)."""
MAX_VOLUMES = 1000
"""Of one organization."""

TAKEN = ("dev", "proc", "sys", ".atoll")
"""What the sandbox's tree has of its own, at its root."""


@dataclass(frozen=True)
class Volume:
    id: str
    name: str
    organization_id: int
    node_id: str
    """The machine that has its image; sandboxes that mount it live there."""
    size_mib: int
    """What it may hold."""
    created_at: float
    inodes: int
    """Files and directories that it has room for, at least."""


@dataclass(frozen=True)
class VolumeMount:
    volume_id: str
    path: str
    name: str = ""
    """The volume's; for who made the sandbox."""

    def to_wire(self) -> dict[str, str]:
        return {"volume": self.volume_id, "path": self.path, "name": self.name}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> VolumeMount:  # Any: JSON values
        return cls(str(data["volume"]), str(data["path"]), str(data.get("name", "")))


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput("a volume's name has 1 to 128 letters, digits, '-' and '_'", field="name")


def check_size(size_mib: int) -> None:
    if not MIN_MIB <= size_mib <= MAX_MIB:
        raise InvalidInput(f"a volume has {MIN_MIB} to {MAX_MIB} MiB, not {size_mib}", field="size_mib")


def check_inodes(inodes: int, size_mib: int) -> None:
    most = size_mib * MAX_INODES_PER_MIB
    if not MIN_INODES <= inodes <= most:
        raise InvalidInput(
            f"a volume of {size_mib} MiB has {MIN_INODES} to {most} inodes, not {inodes}", field="inodes"
        )


def grown(volume: Volume, size_mib: int | None, inodes: int | None) -> Volume:
    """It, with that size and at least so many inodes. How many a group has is settled when a volume is made."""
    size_mib = volume.size_mib if size_mib is None else size_mib
    check_size(size_mib)
    if size_mib < volume.size_mib:
        raise InvalidInput(
            f"the volume has {volume.size_mib} MiB and cannot be made smaller: make another, and copy what it holds",
            field="size_mib",
            minimum=volume.size_mib,
        )
    groups, more = -(-volume.size_mib // GROUP_MIB), size_mib // GROUP_MIB
    has = max(volume.inodes, volume.inodes * more // groups)
    if inodes is not None and inodes > has:
        raise InvalidInput(
            f"with {size_mib} MiB the volume has room for {has} inodes, not {inodes}: their number grows with its size "
            "alone. Ask for a larger size, or make another volume.",
            field="inodes",
            maximum=has,
        )
    return replace(volume, size_mib=size_mib, inodes=has)


def path_error(path: str, others: Sequence[str] = ()) -> str | None:
    """Why no volume can be mounted there, beside those at `others`; None when one can."""
    parts = path.split("/")[1:]
    if path == "/":
        return "path '/' is the sandbox's own disk"
    if not path.startswith("/") or not all(_is_clean(part) for part in parts):
        return f"path '{path[:256]}' is not absolute and clean: /a/b, without '..', '//' or a '/' at its end"
    if len(path.encode("utf-8", "replace")) > MAX_PATH_BYTES or not path.isprintable():
        return "the path is too long, or has characters that cannot be shown"
    if parts[0] in TAKEN:
        return f"path '{path}' belongs to the sandbox itself"
    for other in others:
        if path == other:
            return f"path '{path}' is used twice"
        if f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/"):
            return f"path '{path}' and path '{other}' are inside one another"
    return None


def check_mounts(mounts: Sequence[VolumeMount]) -> None:
    if len(mounts) > MAX_MOUNTS:
        raise InvalidInput(f"more than {MAX_MOUNTS} volumes", field="volumes")
    for number, mount in enumerate(mounts):
        why = path_error(mount.path, [earlier.path for earlier in mounts[:number]])
        if why is not None:
            raise InvalidInput(why, field="volumes")


def _is_clean(component: str) -> bool:
    length = len(component.encode("utf-8", "replace"))
    return (
        _COMPONENT.fullmatch(component) is not None and length <= MAX_COMPONENT_BYTES and component not in (".", "..")
    )
