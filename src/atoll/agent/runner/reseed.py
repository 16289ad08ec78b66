"""What a fork of the zygote would share with its siblings, and how each gets its own: one table.

Not in it: what asks the kernel at each use (`secrets`, `uuid4`, `default_rng`), and `random`, which Python reseeds at
every os.fork. `tempfile`, `SemLock` and OpenSSL notice a fork by a changed pid; a context's can be the number that its
zygote has where Atoll itself runs in a container, so they are told.
`hash(str)` and the layout of the address space cannot be renewed; so zygotes are (`engines/native/rotation.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

ORIGIN = os.getpid()  # the zygote's, which imports this


def reseed() -> None:
    """Modules that are imported later start with seeds of their own."""
    for name, renew in RESEEDERS.items():
        module = sys.modules.get(name)
        if module is not None:
            renew(module)


def _numpy(module: Any) -> None:
    module.seed(int.from_bytes(os.urandom(4), "big"))  # seed() alone costs 0.5 ms of copied pages


def _tempfile(module: Any) -> None:
    module._name_sequence = None


def _semaphores(module: Any) -> None:
    module.SemLock._rand = sys.modules["tempfile"]._RandomNameSequence()


def _authentication(module: Any) -> None:
    """Whoever has it runs code in the servers and managers that listen with it."""
    module.current_process().authkey = os.urandom(32)


def _openssl(module: Any) -> None:
    if os.getpid() == ORIGIN:  # else it sees by itself; told, it copies 0.1 MB
        module.RAND_add(os.urandom(32), 32.0)


def _torch(module: Any) -> None:
    module.seed()


RESEEDERS: dict[str, Callable[[Any], None]] = {
    "numpy.random": _numpy,
    "tempfile": _tempfile,
    "multiprocessing.synchronize": _semaphores,
    "multiprocessing.process": _authentication,
    "_ssl": _openssl,
    "torch": _torch,
}
