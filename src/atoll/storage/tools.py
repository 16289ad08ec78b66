"""System tools that storage runs, and what a missing one is called in the distribution."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from atoll.core.errors import InternalError, Unsupported

PACKAGE_OF: dict[str, str] = {
    "mmdebstrap": "mmdebstrap",
    "apt-get": "apt",
    "apt-config": "apt",
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "gcc": "gcc libc6-dev",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
_TAIL_LINES = 15


_SYSTEM_DIRECTORIES = "/usr/sbin:/sbin"  # `su` without a login shell leaves them out
ENGLISH = ("env", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
"""For tools whose output is read. The rest of the environment (proxies, HOME) is the operator's."""


def find(tool: str) -> str | None:
    return shutil.which(tool) or shutil.which(tool, path=_SYSTEM_DIRECTORIES)


def missing(tools: Iterable[str]) -> list[str]:
    """The packages to install so that every tool is there."""
    return sorted({PACKAGE_OF.get(tool, tool) for tool in tools if find(tool) is None})


def require(*tools: str) -> None:
    if packages := missing(tools):
        names = " ".join(packages)
        raise Unsupported(f"this host lacks: {names}. Install with: apt-get install {names}", packages=packages)


def run(argv: Sequence[str], *, what: str, cwd: Path | None = None, good: Collection[int] = (0,)) -> str:
    done = subprocess.run(
        _resolved(argv),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=cwd,
        check=False,
    )
    if done.returncode not in good:
        raise failed(what, done.returncode, (done.stdout + done.stderr).splitlines())
    return done.stdout


def follow(argv: Sequence[str], on_line: Callable[[str], None], *, what: str, cwd: Path | None = None) -> None:
    """Run a long command and hand over each line of its output as it comes."""
    tail: list[str] = []
    with subprocess.Popen(
        _resolved(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=cwd,
    ) as process:
        try:
            for line in process.stdout or ():
                tail = [*tail[-_TAIL_LINES:], line.rstrip()]
                on_line(line.rstrip())
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise failed(what, process.returncode, tail)


def _resolved(argv: Sequence[str]) -> list[str]:
    require(argv[0])
    return [find(argv[0]) or argv[0], *argv[1:]]


def failed(what: str, code: int, output: Sequence[str]) -> InternalError:
    tail = [line for line in output if line.strip()][-_TAIL_LINES:]
    return InternalError(f"{what} failed (exit {code}): " + (tail[-1] if tail else "no output"), output=tail)
