"""Local files on their way to and from a sandbox."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO

from .errors import FileOperationError
from .request import PIECE

LocalPath = str | os.PathLike[str]


class Source:
    """A local file that is read piece by piece. `size` in bytes is None for what has none, like a pipe."""

    def __init__(self, path: LocalPath) -> None:
        self._path = os.fspath(path)
        self._file: BinaryIO = open(self._path, "rb", buffering=0)  # noqa: SIM115 – `close` closes it
        found = os.fstat(self._file.fileno())
        self.size = found.st_size if stat.S_ISREG(found.st_mode) else None
        self._read = 0

    def read(self) -> bytes:
        """Empty at the end. A file is as long as it was at the beginning: that much was announced."""
        room = PIECE if self.size is None else min(PIECE, self.size - self._read)
        piece = self._file.read(room) if room else b""
        self._read += len(piece)
        if not piece and self.size is not None and self._read < self.size:
            raise FileOperationError(f"{self._path} became shorter while it was read", "upload")
        return piece

    def close(self) -> None:
        self._file.close()


class Target:
    """A local file in the making: written beside its place, and there when all of it has come.

    What is there already and is no regular file (a pipe, a device) is written to as it is.
    """

    def __init__(self, path: LocalPath) -> None:
        self._path = Path(path)
        replaced = not self._path.exists() or self._path.is_file()
        place = self._path.resolve() if self._path.is_symlink() else self._path
        self._final = place if replaced else None
        self._part = place.with_name(f".{place.name[:200]}.{secrets.token_hex(4)}.part") if replaced else self._path
        self._file: BinaryIO = open(self._part, "xb" if replaced else "wb")  # noqa: SIM115 – `commit` or `discard`

    def write(self, piece: bytes) -> None:
        self._file.write(piece)

    def commit(self) -> None:
        self._file.close()
        if self._final is not None:
            with contextlib.suppress(FileNotFoundError):
                os.chmod(self._part, stat.S_IMODE(self._final.stat().st_mode))
            os.replace(self._part, self._final)

    def discard(self) -> None:
        """Harmless after a commit."""
        self._file.close()
        if self._final is not None:
            self._part.unlink(missing_ok=True)
