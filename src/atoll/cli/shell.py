"""`atoll shell`: a terminal in a sandbox that can be left and come back to."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from atoll import compose
from atoll.core.errors import InvalidInput, NotFound

from .api import Account, api_options, complete_sandbox, template_option
from .ending import orderly_end
from .exec import write
from .ids import resolve
from .network import Reach, network_options
from .terminal import CALM, DETACH_KEYS, Keys, Wakes, feed_keys, parse_keys, raw, size_of

if TYPE_CHECKING:
    from atoll.sdk import Program, Sandbox

SHELL = ("bash", "-l")
NAME = "terminal"
ONLY = "-"
"""`--attach` without a value."""


@click.command()
@click.argument("sandbox", required=False, shell_complete=complete_sandbox)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--attach", is_flag=False, flag_value=ONLY, metavar="TERMINAL", help="Come back to a terminal, by its id or alone."
)
@click.option(
    "--detach-keys", default=DETACH_KEYS, show_default=True, metavar="KEYS", help="What leaves the terminal running."
)
@click.option("--user", default="", help="Who runs it inside: user, root, or a name of the sandbox.")
@click.option("--keep", is_flag=True, help="Keep the sandbox that was made for it.")
@template_option
@network_options
@api_options
def shell(
    account: Account,
    sandbox: str | None,
    command: tuple[str, ...],
    attach: str | None,
    detach_keys: str,
    user: str,
    keep: bool,
    template: str,
    reach: Reach,
) -> None:
    """Open a terminal in SANDBOX, or in a new one that is deleted afterwards. COMMAND runs in the place of a shell.

    A terminal that is left by its keys, or whose connection breaks, goes on: `atoll shell SANDBOX --attach`.
    """
    keys = Keys(parse_keys(detach_keys))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidInput("this is no terminal; `atoll exec` runs commands without one")
    if sandbox is None and attach is not None:
        raise InvalidInput("--attach needs the SANDBOX of the terminal")
    with orderly_end():
        place, ours = (account.sandbox(sandbox), False) if sandbox else (account.create(template, reach), True)
        sys.exit(_use(place, ours and not keep, command or SHELL, attach, user, keys, detach_keys))


def _use(
    place: Sandbox,
    ours: bool,
    command: Sequence[str],
    attach: str | None,
    user: str,
    keys: Keys,
    detach_keys: str,
) -> int:
    """The exit code of the terminal. A sandbox of ours ends with it, unless it goes on."""
    goes_on, terminal = False, ""
    try:
        with _open(place, command, attach, user) as program:
            terminal = program.process_id
            goes_on = bool(terminal)  # without an id it could not be started, and says why
            if goes_on:
                click.echo(f"Terminal {terminal} in {place.sandbox_id}. {detach_keys} leaves it running.", err=True)
            code, goes_on = interact(program, keys, again=attach is not None)
            return code
    finally:
        if goes_on:
            click.echo(f"It goes on. Come back with: atoll shell {place.sandbox_id} --attach {terminal}", err=True)
        elif ours:
            place.kill()


def _open(place: Sandbox, command: Sequence[str], attach: str | None, user: str) -> Program:
    if attach is not None:
        return place.programs.attach(choose(attach, place.list_system_processes()))
    term = compose.environment().get("TERM", "")
    env = {"TERM": term} if term.isprintable() and term else {}
    size = size_of(sys.stdin.fileno())
    return place.programs.start(command, env=env, user=user, stdin=True, terminal=size, keep=True, name=NAME)


def choose(wanted: str, processes: Sequence[Mapping[str, Any]]) -> str:  # Any: JSON values
    """The id of the terminal that is meant: the only one, or the one whose id begins so."""
    ids = [str(each["process_id"]) for each in processes if each.get("terminal") is True]
    if wanted != ONLY:
        return resolve(wanted, ids, "terminal")
    if not ids:
        raise NotFound("no terminal runs there")
    if len(ids) > 1:
        raise InvalidInput(f"there are several terminals: --attach one of {', '.join(ids)}")
    return ids[0]


def interact(program: Program, keys: Keys, again: bool) -> tuple[int, bool]:
    """Until the program ends or the person leaves: its exit code, and whether it was left."""
    fd, over, left = sys.stdin.fileno(), threading.Event(), threading.Event()
    wakes = Wakes()

    def type_in() -> None:
        if feed_keys(program, fd, wakes, keys, over.is_set):
            left.set()
            program.close()

    with raw(fd):
        typing = threading.Thread(target=type_in, daemon=True)
        typing.start()
        try:
            if again:
                _redraw(program, fd)
            for piece in program:
                write(sys.stdout, piece.data)
            return program.exit_code or 0, left.is_set()
        finally:
            over.set()
            wakes.wake()
            typing.join()
            wakes.close()
            if left.is_set():
                write(sys.stdout, CALM + b"\r\n")


def _redraw(program: Program, fd: int) -> None:
    """A full-screen program draws itself anew when its size changes, so it changes twice."""
    cols, rows = size_of(fd)
    program.resize(cols, rows + 1)
    program.resize(cols, rows)
