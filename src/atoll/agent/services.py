"""All parts of a running agent, made once at birth and handed to every handler."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .cache import Cache
from .contexts import ContextTable
from .doors import Doors
from .env import Environment
from .files import Files
from .http_server import Counters
from .processes import ProcessTable
from .trust import TrustStore
from .users import Users


@dataclass(frozen=True)
class Config:
    id: str = ""
    env: dict[str, str] = field(default_factory=dict)
    template_env: dict[str, str] = field(default_factory=dict)
    """What of `env` nobody chose for this sandbox."""
    workdir: str = "/workspace"
    python: bool = False
    memory_limit_bytes: int = 0
    vcpus: float = 0
    """These two are for `/stats` and `/system` alone; the kernel enforces them from outside. 0: not known."""
    lineflush: str = "/.atoll/lib/lineflush.so"
    trust: dict[str, str] | None = None
    """An authority for `PUT /trust`, from birth on."""
    trust_root: str | None = "/"
    """Where the lists of authorities lie. None: they are not ours to change."""
    switch_users: bool = False
    """Only a root agent can; `serve` sets it as PID 1."""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Config:
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


@dataclass
class Services:
    config: Config
    users: Users
    environment: Environment
    processes: ProcessTable
    contexts: ContextTable
    files: Files
    cache: Cache
    trust: TrustStore | None
    doors: Doors
    counters: Counters
    started: float = field(default_factory=time.monotonic)
    streams: int = 0
    own_pid: int = field(default_factory=os.getpid)

    @contextmanager
    def open_stream(self) -> Iterator[None]:
        """Counts an attachment as activity."""
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1
