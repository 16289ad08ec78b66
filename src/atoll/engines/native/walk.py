"""Directories entered one name at a time, without following a link: what lies there may be a sandbox's own work."""

from __future__ import annotations

import contextlib
import os

from . import syscalls as sc

STRAIGHT = sc.RESOLVE_BENEATH | sc.RESOLVE_NO_SYMLINKS
ONE_MOUNT = STRAIGHT | sc.RESOLVE_NO_XDEV


def make(directory: int, name: str) -> None:
    """Whatever is there already stays."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=directory)


def enter(directory: int, name: str, resolve: int = STRAIGHT) -> int:
    """OSError: ENOTDIR or ELOOP for what is no directory; with `ONE_MOUNT` EXDEV where something is mounted."""
    return sc.openat2(directory, name, os.O_PATH | os.O_DIRECTORY, resolve)
