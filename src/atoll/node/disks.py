"""The disks of this node's sandboxes: an image file each, and a key each, kept wrapped in the sandbox's handle."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atoll.storage import disks, keys


class SealedDisks:
    def __init__(self, directory: Path, master: bytes) -> None:
        self._images = directory / "images"
        self._disks = directory / "disks"
        self._disks.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._master = master

    def fresh_key(self) -> bytes:
        return keys.new_disk_key()

    def wrap(self, key: bytes, sandbox_id: str) -> str:
        return keys.wrap(self._master, key, sandbox_id)

    def unwrap(self, wrapped: str, sandbox_id: str) -> bytes:
        return keys.unwrap(self._master, wrapped, sandbox_id)

    def wrap_env(self, env: Mapping[str, str], sandbox_id: str) -> str:
        return keys.wrap(self._master, json.dumps(dict(env)).encode(), f"{sandbox_id} env")

    def unwrap_env(self, wrapped: str, sandbox_id: str) -> dict[str, str]:
        return dict(json.loads(keys.unwrap(self._master, wrapped, f"{sandbox_id} env")))

    def wrap_policy(self, policy: Mapping[str, Any], sandbox_id: str) -> str:  # Any: JSON values
        return keys.wrap(self._master, json.dumps(dict(policy)).encode(), f"{sandbox_id} policy")

    def unwrap_policy(self, wrapped: str, sandbox_id: str) -> dict[str, Any]:  # Any: JSON values
        return dict(json.loads(keys.unwrap(self._master, wrapped, f"{sandbox_id} policy")))

    def make(self, sandbox_id: str, size_mib: int) -> None:
        """Some tenths of a millisecond, unless the size was never asked for before: then mkfs runs once."""
        base = disks.base_path(self._images, size_mib)
        if not base.exists():
            base = disks.base_image(self._images, size_mib)
        disks.copy_image(base, self.path(sandbox_id))

    def rename(self, name: str, sandbox_id: str) -> None:
        """Of an image that may be in use: what is attached is the file, not its name."""
        self.path(name).rename(self.path(sandbox_id))

    def path(self, sandbox_id: str) -> Path:
        return self._disks / f"{sandbox_id}.img"

    def sync(self, sandbox_id: str) -> None:
        """Blocks until what a stopped sandbox wrote is on the host's disk."""
        with contextlib.suppress(FileNotFoundError), self.path(sandbox_id).open("rb") as image:
            os.fsync(image.fileno())

    def remove(self, sandbox_id: str) -> None:
        self.path(sandbox_id).unlink(missing_ok=True)

    def used_bytes(self, sandbox_id: str) -> int:
        """Blocks that it takes on the host, which is what fills the host; the size of the file is its limit."""
        try:
            return self.path(sandbox_id).stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    def ids(self) -> set[str]:
        return {path.stem for path in self._disks.glob("*.img")}
