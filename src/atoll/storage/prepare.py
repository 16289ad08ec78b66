"""Everything that must be on this machine before its first sandbox; quick when it is there already."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from atoll.core.errors import Unsupported
from atoll.core.template import Template

from . import disks, runtime, templates, tools
from .keys import master_key
from .progress import Progress, silent

TOOLS = ("mmdebstrap", "apt-get", "apt-config", "mkfs.ext4", "gcc", "unshare", "setpriv")


def prepare(data_dir: Path, progress: Progress = silent, only: Iterable[str] | None = None) -> list[Template]:
    """Runtime, stock templates (`only` these), empty disk images, master key. Two at a time wait for each other."""
    if os.geteuid() != 0:
        raise Unsupported("building templates and running sandboxes needs root: start it with sudo")
    tools.require(*TOOLS)
    specs = list(templates.stock_specs())
    wanted = None if only is None else list(only)
    templates.check_names(wanted or (), [spec.name for spec in specs])  # before the first thing that takes time
    data = data_dir.resolve()
    node = data / "node"
    for directory in (data, node):
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    with _alone(data / ".prepare.lock", progress):
        master_key(node / "master.key")
        _runtime(data, progress)
        built = templates.build_templates(data, specs, progress, wanted)
        for size_mib in sorted({template.limits.disk_mib for template in built}):
            disks.base_image(node / "images", size_mib)
    return built


def _runtime(data: Path, progress: Progress) -> None:
    if runtime.is_built(data):
        return
    progress("agent runtime", 0.0)
    runtime.build(data)
    progress("agent runtime", 1.0)


@contextmanager
def _alone(path: Path, progress: Progress) -> Iterator[None]:
    # The kernel drops the lock with its holder, however that ends.
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another preparation of this data directory", 0.0)
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
