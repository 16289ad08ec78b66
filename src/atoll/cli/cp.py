"""`atoll cp`: trees as tar over a program's standard streams, so no size needs memory or a second copy on a disk."""

from __future__ import annotations

import contextlib
import posixpath
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll.core.errors import AtollError, InvalidInput, NotFound, Unavailable

from . import archive
from .api import Account, api_options, complete_sandbox
from .failures import FAILED
from .render import amount, plain

if TYPE_CHECKING:
    from atoll.sdk import Program, Sandbox

GIB = 2**30
MAX_STDERR = 64 * 1024
MAX_NAMED = 10
MAX_DIGITS = 16
MAX_LOOK = 16 * 1024
"""A word, a size and a path."""
HOME = "/workspace"
NO_SHELL = "the sandbox's shell does not answer as one does"
# $1 is the path. Links are followed here, so that what they lead to is copied. A file's size is for the progress.
LOOK = """
if [ -d "$1" ]; then echo directory
elif [ -f "$1" ]; then echo file $(stat -L -c %s -- "$1" 2>/dev/null)
elif [ -e "$1" ]; then echo other
else echo missing; fi
readlink -f "$1"
"""
GIVE = 'cd "$1" && exec tar -cf - "$2"'
TAKE = 'mkdir -p "$1" && cd "$1" && exec tar -xpf -'


class Kind(StrEnum):
    DIRECTORY = "directory"
    FILE = "file"
    OTHER = "other"
    MISSING = "missing"


@dataclass(frozen=True)
class Place:
    """One end of a copy; without a sandbox it is here."""

    sandbox: str | None
    path: str


def parse_place(text: str) -> Place:
    """`ID:PATH` is in a sandbox; what has a slash before its colon is a path of ours.

    >>> parse_place("abcd:/tmp/a"), parse_place("./a:b")
    (Place(sandbox='abcd', path='/tmp/a'), Place(sandbox=None, path='./a:b'))
    """
    name, colon, path = text.partition(":")
    if not colon or "/" in name or not name or name in (".", ".."):
        return Place(None, text)
    return Place(name, absolute(path))


def absolute(path: str) -> str:
    return posixpath.join(HOME, path)


def landing(kind: Kind, target: str, name: str) -> str:
    """Where a copy called `name` goes: into a directory that is there, else it is `target` itself.

    >>> [landing(Kind.MISSING, target, "a") for target in ("/tmp/b", "/tmp/b/")]
    ['/tmp/b', '/tmp/b/a']
    """
    if (kind is Kind.DIRECTORY or target.endswith("/")) and name not in ("", ".", ".."):
        return posixpath.join(target, name)
    return target.rstrip("/") or "/"


@click.command()
@click.argument("source", shell_complete=complete_sandbox)
@click.argument("target", shell_complete=complete_sandbox)
@click.option("--user", default="", help="Whose files they become, and who reads them, inside: user, root …")
@click.option(
    "--max-size",
    type=click.FloatRange(0, min_open=True),
    default=16.0,
    show_default=True,
    metavar="GIB",
    help="Out of a sandbox, end after so much.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress, no summary.")
@api_options
def cp(account: Account, source: str, target: str, user: str, max_size: float, quiet: bool) -> None:
    """Copy files and directories, with their modes, into a sandbox or out of it.

    One of SOURCE and TARGET is SANDBOX:PATH, where PATH is below /workspace unless it begins with a slash.
    A target that is a directory gets the copy into it.

    \b
        atoll cp ./project abcd:/workspace
        atoll cp abcd:results.csv .

    Links that lead out of the copy, devices and the like are left out, and the exit code is 1 then.
    """
    origin, goal = parse_place(source), parse_place(target)
    match origin, goal:
        case Place(None, path), Place(str(sandbox), there):
            report = Copy(account.sandbox(sandbox), user, quiet).into(Path(path), there)
        case Place(str(sandbox), there), Place(None, path):
            report = Copy(account.sandbox(sandbox), user, quiet).out(there, path, int(max_size * GIB))
        case _:
            raise InvalidInput("one of the two is SANDBOX:PATH, the other a path of this machine")
    if not quiet:
        click.echo(f"{report.files} file{'' if report.files == 1 else 's'}, {amount(report.bytes)}", err=True)
    for name, why in list(report.left_out.items())[:MAX_NAMED]:
        click.echo(f"Left out: {plain(name)}: {why}", err=True)
    if len(report.left_out) > MAX_NAMED:
        click.echo(f"Left out: {len(report.left_out) - MAX_NAMED} more", err=True)
    sys.exit(FAILED if report.left_out else 0)


@dataclass(frozen=True)
class Found:
    """What there is in the sandbox, as the sandbox says."""

    kind: Kind
    real: str
    """Where links lead."""
    size: int | None = None


def parse_found(answer: str, path: str) -> Found | None:
    """What LOOK says of `path`; None where it is not what LOOK says.

    >>> parse_found("file 7\\n/tmp/real\\n", "/tmp/link")
    Found(kind=<Kind.FILE: 'file'>, real='/tmp/real', size=7)
    """
    first, _, rest = answer.partition("\n")
    kind, _, size = first.partition(" ")
    if kind not in set(Kind):
        return None
    real = rest.removesuffix("\n")
    is_size = size.isascii() and size.isdigit() and len(size) < MAX_DIGITS
    return Found(Kind(kind), real if real.startswith("/") else path, int(size) if is_size else None)


@dataclass(frozen=True)
class Copy:
    sandbox: Sandbox
    user: str
    quiet: bool

    def into(self, source: Path, target: str) -> archive.Report:
        if not source.exists():
            raise NotFound(f"there is no file or directory {source}")
        source = source.resolve()
        found = self._look(target)
        kind, real = found.kind, found.real
        if kind is Kind.OTHER or (kind is Kind.FILE and source.is_dir()):
            raise InvalidInput(f"{plain(target)} is no directory in the sandbox")
        goal = landing(kind, real if kind is Kind.DIRECTORY else target, source.name)
        directory, name = (goal, ".") if source.is_dir() else posixpath.split(goal)
        with self._start(TAKE, directory, stdin=True) as program, self._progress(archive.size_of(source)) as on_bytes:
            return self._send(program, lambda: archive.pack(source, name, program, on_bytes))

    def _send(self, program: Program, pack: Callable[[], archive.Report]) -> archive.Report:
        """Packs in a thread of its own, as what the program says has to be read meanwhile."""
        from atoll.sdk import NetworkError

        done: list[archive.Report | OSError] = []

        def work() -> None:
            try:
                done.append(pack())
                program.end_input()
            except NetworkError:
                return  # the program has ended before; it says why
            except OSError as error:
                done.append(error)
                program.close()

        packing = threading.Thread(target=work, daemon=True)
        packing.start()
        try:
            said = _Said()
            for _ in said.of(program):
                pass
        finally:
            program.close()
            packing.join()
        outcome = done[0] if done else None
        if isinstance(outcome, OSError):
            raise outcome
        said.check(0 if outcome else FAILED)
        assert outcome is not None
        return outcome

    def out(self, source: str, target: str, max_bytes: int) -> archive.Report:
        found = self._look(source)
        kind, real = found.kind, found.real
        if kind is Kind.MISSING:
            raise NotFound(f"there is no {plain(source)} in the sandbox")
        if kind is Kind.OTHER:
            raise InvalidInput(f"{plain(source)} is no file and no directory")
        directory, name = (real, ".") if kind is Kind.DIRECTORY else posixpath.split(real)
        goal = Path(landing(kind_here(Path(target)), target, posixpath.basename(source.rstrip("/"))))
        if not goal.parent.is_dir():
            raise NotFound(f"there is no directory {goal.parent}")
        if kind is Kind.DIRECTORY and goal.exists() and not goal.is_dir():
            raise InvalidInput(f"{goal} is there and is no directory")
        unpack = archive.unpack if kind is Kind.DIRECTORY else archive.unpack_file
        with (
            self._start(GIVE, directory, name if name == "." else f"./{name}") as program,
            self._progress(found.size) as on_bytes,
        ):
            said = _Said()
            try:
                report = unpack(_Reader(said.of(program)), goal, max_bytes, on_bytes)
            except archive.UnsafeArchive as error:
                said.check(said.code or 0)
                raise Unavailable(f"what the sandbox sent was not unpacked further: {plain(str(error))}") from error
            for _ in said.of(program) if said.code is None else ():
                pass
            said.check(0)
            return report

    def _look(self, path: str) -> Found:
        with self._start(LOOK, path) as program:
            said = _Said()
            answer = _short(said.of(program))
        found = parse_found(answer.decode("utf-8", "surrogateescape"), path)
        said.check(0, despite=found is not None and found.kind is Kind.MISSING)
        if found is None:
            raise Unavailable(NO_SHELL)
        return found

    def _start(self, script: str, *arguments: str, stdin: bool = False) -> Program:
        argv = ("sh", "-c", script, "atoll-cp", *arguments)
        return self.sandbox.programs.start(argv, stdin=stdin, user=self.user, working_dir="/")

    @contextlib.contextmanager
    def _progress(self, total: int | None) -> Iterator[Callable[[int], object]]:
        from .progress import transfer

        with transfer(total, self.quiet) as on_bytes:
            yield on_bytes


def _short(pieces: Iterator[bytes]) -> bytes:
    """The sandbox's shell may be any program, and go on for ever."""
    answer = b""
    for piece in pieces:
        answer += piece
        if len(answer) > MAX_LOOK:
            raise Unavailable(NO_SHELL)
    return answer


def kind_here(path: Path) -> Kind:
    if path.is_dir():
        return Kind.DIRECTORY
    return Kind.FILE if path.exists() else Kind.MISSING


class _Said:
    """What a program says beside its output: the end of standard error, and how it ended."""

    def __init__(self) -> None:
        self.code: int | None = None
        self._stderr = bytearray()

    def of(self, program: Program) -> Iterator[bytes]:
        for piece in program:
            if piece.is_stderr:
                self._stderr += piece.data[: MAX_STDERR - len(self._stderr)]
            else:
                yield piece.data
        self.code = program.exit_code

    def check(self, ours: int, despite: bool = False) -> None:
        if (self.code or ours) and not despite:
            text = self._stderr.decode("utf-8", "replace").strip()
            lines = "; ".join(plain(line) for line in text.splitlines()[-5:])
            raise _CopyFailed(f"in the sandbox: {lines or f'the copying program ended with {self.code}'}")


class _CopyFailed(AtollError):
    pass


class _Reader:
    """Pieces as they come, as a file to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def read(self, size: int = -1) -> bytes:
        parts, there = [self._held], len(self._held)
        while size < 0 or there < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            parts.append(piece)
            there += len(piece)
        data = b"".join(parts)
        if size < 0:
            size = len(data)
        self._held = data[size:]
        return data[:size]
