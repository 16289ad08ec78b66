"""The one directory of this machine that uploads are read from and downloads are written to.

A model asks for the names, and a model can be talked into things; so a name leads nowhere else, through no link either.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from mcp.server.mcpserver.exceptions import ToolError

MAX_BYTES = 64 * 1024 * 1024


def inside(root: Path, name: str) -> Path:
    """`name` below `root`, relative or absolute, its links followed.

    Raises ToolError when it leads outside.
    """
    if "\0" in name:
        raise ToolError("a file name has no NUL character")
    real_root = root.resolve()
    path = (real_root / name).resolve()
    if path == real_root or not path.is_relative_to(real_root):
        raise ToolError(
            f"{name[:256]!r} is not below {real_root}, the only directory that files are copied from and to"
        )
    return path


def read(root: Path, name: str) -> bytes:
    """An ordinary file of at most `MAX_BYTES`."""
    path = inside(root, name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ToolError(f"{path} is not an ordinary file")
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ToolError(f"{path} is larger than {MAX_BYTES:,} bytes; use `atoll cp` for it")
    return data


def write(root: Path, name: str, data: bytes) -> Path:
    """A whole new file, or none: it never writes through a link, and never over a file that is there."""
    path = inside(root, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".download-") as file:
            file.write(data)
            file.flush()
            os.link(file.name, path)
    except FileExistsError as error:
        raise ToolError(f"{path} is there already: choose another name") from error
    except OSError as error:
        raise ToolError(f"{path} cannot be written: {error.strerror}") from error
    return path
