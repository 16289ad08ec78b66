"""`atoll exec`: a command in a sandbox, with its standard streams and its exit code."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, TextIO

import click

from .api import Account, api_options, sandbox_argument
from .env import env_option
from .failures import FAILED, INTERRUPTED
from .render import plain

if TYPE_CHECKING:
    from atoll.sdk import Program

PIECE = 64 * 1024


class WithCommand(click.Command):
    """Up to `--` options may stand anywhere; without one, everything after SANDBOX belongs to the command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_interspersed_args = "--" in args
        return super().parse_args(ctx, args)


@click.command(name="exec", cls=WithCommand)
@sandbox_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@env_option
@click.option("--workdir", "-w", default="", help="Directory to run it in.")
@click.option("--user", default="", help="Who runs it inside: user, root, or a name of the sandbox.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="End it after so many seconds, with code 124.")
@click.option("--stdin/--no-stdin", default=True, show_default=True, help="Give it our standard input.")
@click.option("--detach", "-d", is_flag=True, help="Let it run on its own, and print its id for `atoll logs`.")
@api_options
def exec_(
    account: Account,
    sandbox: str,
    command: tuple[str, ...],
    env: dict[str, str],
    workdir: str,
    user: str,
    timeout: float | None,
    stdin: bool,
    detach: bool,
) -> None:
    """Run COMMAND in SANDBOX, and end with its exit code.

    \b
        atoll exec abcd -- ls -l
        echo hello | atoll exec abcd -- cat
    """
    feeds = stdin and not detach and has_descriptor(sys.stdin)
    program = account.sandbox(sandbox).programs.start(
        command,
        env=env,
        working_dir=workdir,
        user=user,
        timeout=timeout,
        stdin=feeds,
        keep=detach,
        name=" ".join(command)[:200],
    )
    with program:
        if detach:
            click.echo(program.process_id)
            return
        if feeds:
            threading.Thread(target=feed, args=(program, sys.stdin.fileno()), daemon=True).start()
        sys.exit(show(program))


def has_descriptor(stream: TextIO | None) -> bool:
    """Not where it was closed before we came."""
    try:
        return stream is not None and stream.fileno() >= 0
    except (OSError, ValueError):
        return False


def feed(program: Program, fd: int) -> None:
    """Our standard input, until it or the program ends."""
    from atoll.sdk import NetworkError

    try:
        while data := os.read(fd, PIECE):
            program.write(data)
        program.end_input()
    except (NetworkError, OSError):
        return


def show(program: Program) -> int:
    """What it prints, as it comes; its exit code. The first Ctrl-C is the program's, the second ends us."""
    try:
        return pour(program)
    except KeyboardInterrupt:
        program.signal("SIGINT")
    try:
        return pour(program)
    except KeyboardInterrupt:
        return INTERRUPTED


def pour(program: Program) -> int:
    """What it prints, as it comes; its exit code. A Ctrl-C is a KeyboardInterrupt, and none of the program's."""
    for piece in program:
        write(sys.stderr if piece.is_stderr else sys.stdout, piece.data)
    if program.message:
        click.echo(plain(program.message), err=True)
    return FAILED if program.exit_code is None else program.exit_code


def write(stream: TextIO, data: bytes) -> None:
    stream.buffer.write(data)
    stream.buffer.flush()
