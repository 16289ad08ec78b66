"""Which installation of this machine uses which range of user ids: a link per generation, named by its number and
leading to the installation's id. Links appear whole, vanish with a reboot (as every sandbox does), and need no lock."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

from . import ids


class Claims:
    def __init__(self, directory: Path, installation: str) -> None:
        self._directory = directory
        self._installation = installation
        self._taken: set[int] = set()
        """By this launcher: several generations begin at once, and each is in use from here on."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def take(self, in_use: Collection[int]) -> int | None:
        """A generation that nobody has. One that an earlier launcher of ours claimed is ours, unless it is in use."""
        taken = self._taken | {*in_use}
        found = next((n for n in range(ids.GENERATIONS) if n not in taken and self._claim(n)), None)
        if found is not None:
            self._taken.add(found)
        return found

    def release(self, generation: int) -> None:
        self._taken.discard(generation)
        if self._owner(generation) == self._installation:
            self._path(generation).unlink()

    def release_all(self) -> None:
        for generation in range(ids.GENERATIONS):
            self.release(generation)

    def _claim(self, generation: int) -> bool:
        try:
            os.symlink(self._installation, self._path(generation))
        except FileExistsError:
            return self._owner(generation) == self._installation
        return True

    def _owner(self, generation: int) -> str | None:
        with contextlib.suppress(FileNotFoundError):
            return os.readlink(self._path(generation))
        return None

    def _path(self, generation: int) -> Path:
        return self._directory / str(generation)
