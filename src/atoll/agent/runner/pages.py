"""A zygote's memory in a file, and what its forks copied without changing it given back: see `agent/native/pages.c`.

Syntax of Python 3.9; standard library only, for the zygotes load this file with the template's interpreter. Where the
library or the kernel's help is missing nothing happens, and the memory is only not shared.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Sequence
from typing import Any

LIBRARY = "/.atoll/lib/pages.so"
NAME = "atoll-zygote"
QUIET_S = 8.0
"""After it nobody waits for the process, and what it does next may take a little longer."""
F_ADD_SEALS, F_SEALS = 1033, 0x1 | 0x2 | 0x4 | 0x10  # no more seals, no shrinking, growing, writing from now on
PAGE = 4096

_loaded: Any = None
_shared = False
_pagemap = -1


def prepare(library: str = LIBRARY) -> None:
    """In a zygote, before anybody looks where its memory lies: nothing may be mapped between the look and `share`."""
    global _loaded
    if os.sysconf("SC_PAGE_SIZE") != PAGE or not os.path.exists(library):
        return
    _loaded = ctypes.CDLL(library)
    _loaded.atoll_share.restype = _loaded.atoll_open.restype = _loaded.atoll_give_back.restype = ctypes.c_long


def share(regions: Sequence[Sequence[int]]) -> int:
    """In a zygote, once and last. `regions`: where its writable private memory begins and ends, without its stack.
    Returns how many bytes lie in the file now."""
    global _shared
    regions = [(start, end) for start, end in regions if start % PAGE == end % PAGE == 0 and start < end]
    if _loaded is None or not regions or not _is_alone():
        return 0
    size = sum(end - start for start, end in regions)
    table = (ctypes.c_ulong * (2 * len(regions)))(*(bound for region in regions for bound in region))
    fd = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        shared = int(_loaded.atoll_share(table, ctypes.c_long(len(regions)), ctypes.c_int(fd)))
        fcntl.fcntl(fd, F_ADD_SEALS, F_SEALS)
        _shared = _loaded.atoll_open(ctypes.c_int(fd), ctypes.c_ulong(size)) == 0
    finally:
        os.close(fd)
    return shared


def look_ahead() -> None:
    """In a fork, while it may still read about its own pages: before it becomes somebody else."""
    global _pagemap
    if _shared:
        try:
            _pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            _pagemap = -1


def forget() -> None:
    """In a fork of such a fork: what was opened tells of another process's pages."""
    global _pagemap
    _pagemap = -1


def give_back() -> int:
    """In a fork that has nothing to do. Returns how many pages are shared again."""
    if not _shared or not _is_alone():
        return 0
    return max(0, int(_loaded.atoll_give_back(ctypes.c_int(_pagemap))))


def _is_alone() -> bool:
    """Whether this process is one thread; another could write while pages are compared."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:  # an interpreter zygote has no /proc; it forks, so it is one
        return not _shared
