"""`atoll run`: a file or a piece of code in a sandbox, as if it ran here."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

from atoll import compose
from atoll.core.errors import InvalidInput

from . import figures
from .api import Account, api_options, complete_sandbox, template_option
from .ending import orderly_end
from .env import env_option
from .exec import write
from .failures import FAILED, INTERRUPTED
from .network import Reach, network_options
from .render import amount, plain

if TYPE_CHECKING:
    from atoll.sdk import Sandbox

LANGUAGES = {".py": "python", ".js": "javascript", ".cjs": "javascript", ".sh": "bash", ".bash": "bash", ".go": "go"}
NAMES = tuple(dict.fromkeys(LANGUAGES.values()))
DEFAULT = "python"
MAX_CODE = 8 * 1024 * 1024

Json = Mapping[str, Any]  # Any: JSON values


@click.command()
@click.argument("file", required=False, type=click.Path())
@click.option("--code", "-c", help="The code itself, in the place of a FILE.")
@click.option("--language", "-l", type=click.Choice(NAMES), help="Else the suffix of FILE says it; else python.")
@template_option
@click.option("--sandbox", "-s", shell_complete=complete_sandbox, help="Run it in this one, which keeps its variables.")
@click.option("--keep", is_flag=True, help="Keep the sandbox that was made for it, and say its id.")
@env_option
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True, help="In seconds.")
@click.option("--workdir", "-w", help="Directory to run it in.")
@click.option("--save", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write figures there.")
@click.option("--json", "as_json", is_flag=True, help="Print what comes as JSON, a message a line.")
@network_options
@api_options
def run(
    account: Account,
    file: str | None,
    code: str | None,
    language: str | None,
    template: str,
    sandbox: str | None,
    keep: bool,
    env: dict[str, str],
    timeout: float,
    workdir: str | None,
    save: Path | None,
    as_json: bool,
    reach: Reach,
) -> None:
    """Run FILE, or the code of -c, in a sandbox: a new one that is deleted afterwards, unless --sandbox names one.

    What it prints is shown as it comes, and its exit code is ours. FILE may be `-` for standard input.
    Figures are drawn on terminals that can (kitty, iTerm2, WezTerm, Ghostty), or written to --save.

    \b
        atoll run script.py
        atoll run -c 'print(6 * 7)' --network-off
    """
    text = read_code(file, code)
    named = language or language_of(file)
    if sandbox and (reach != Reach() or keep):
        raise InvalidInput("--sandbox is there already: see `atoll network` for what it may reach")
    display = Display(figures.drawing_of(compose.environment(), sys.stdout.isatty()), save)
    with orderly_end():
        place = account.sandbox(sandbox) if sandbox else account.create(template, reach)
        try:
            more = {} if workdir is None else {"working_dir": workdir}
            found = place.run_code_stream(text, language=named, timeout=timeout, env=env or None, **more)
            sys.exit(pass_on(found) if as_json else show(found, display))
        except KeyboardInterrupt:  # leaving the stream ends the program
            sys.exit(INTERRUPTED)
        finally:
            _leave(place, ours=sandbox is None, keep=keep)


def _leave(place: Sandbox, ours: bool, keep: bool) -> None:
    if not ours:
        return
    if keep:
        click.echo(f"Kept: {place.sandbox_id}", err=True)
    else:
        place.kill()


def read_code(file: str | None, code: str | None) -> str:
    if (file is None) == (code is None):
        raise InvalidInput("say a FILE or -c CODE, one of them")
    if code is not None:
        return code
    assert file is not None
    with contextlib.nullcontext(sys.stdin.buffer) if file == "-" else open(file, "rb") as source:
        raw = source.read(MAX_CODE + 1)
    if len(raw) > MAX_CODE:
        raise InvalidInput(f"more than {MAX_CODE} bytes of code: copy them with `atoll cp`, and run them there")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is no text in UTF-8") from error


def language_of(file: str | None) -> str:
    """
    >>> language_of("a/b.go"), language_of(None)
    ('go', 'python')
    """
    if file in (None, "-"):
        return DEFAULT
    suffix = PurePath(str(file)).suffix.lower()
    if suffix not in LANGUAGES:
        raise InvalidInput(f"the suffix of {file} says no language: --language is one of {', '.join(NAMES)}")
    return LANGUAGES[suffix]


# ---- what comes back


@dataclass
class Display:
    """What becomes of results. Those with one time are one result in several forms: a picture's text is left out, and a
    table's is shown in the place of its HTML."""

    drawing: figures.Drawing
    save: Path | None
    _at: str = ""
    _pictured: bool = False
    _text: str | None = None
    _notes: list[str] = field(default_factory=list)

    def take(self, message: Json) -> None:
        at, mime, data = str(message.get("timestamp")), str(message.get("mime", ""))[:128], message.get("data")
        if at != self._at:
            self.flush()
            self._at = at
        if mime == "text/plain":
            self._text = str(data)
        elif (contents := figures.contents(mime, data)) is None:
            self._notes.append(f"[a result of type {plain(mime)} that is not what it says]")
        else:
            self._show(mime, contents)

    def flush(self) -> None:
        """What was held back, because a picture might have followed."""
        if self._text is not None and not self._pictured:
            click.echo(self._text)
        for note in self._notes if self._text is None or self._pictured else ():
            click.echo(note, err=True)
        self._text, self._pictured = None, False
        self._notes.clear()

    def _show(self, mime: str, contents: bytes) -> None:
        drawn = figures.draw(contents, self.drawing) if figures.is_png(contents) else ""
        self._pictured = self._pictured or mime.startswith("image/")
        click.echo(drawn, nl=False)
        if self.save is not None:
            click.echo(f"[{plain(mime)}: {figures.save(self.save, mime, contents)}]", err=True)
        elif not drawn:
            self._notes.append(f"[{plain(mime)}, {amount(len(contents))}: --save DIR writes it to a file]")


def show(messages: Iterable[Json], display: Display) -> int:
    """Until the end; the exit code of the program."""
    status = FAILED
    for message in messages:
        if message.get("type") == "display":
            display.take(message)
            continue
        display.flush()
        match message.get("type"):
            case "stdout":
                write(sys.stdout, _text(message))
            case "stderr":
                write(sys.stderr, _text(message))
            case "result" if isinstance(code := message.get("exit_code"), int):
                status = code
    display.flush()
    return status


def pass_on(messages: Iterable[Json]) -> int:
    """For programs; the exit code of the one that ran."""
    status = FAILED
    for message in messages:
        click.echo(json.dumps(message))
        if message.get("type") == "result" and isinstance(code := message.get("exit_code"), int):
            status = code
    return status


def _text(message: Json) -> bytes:
    return str(message.get("data", "")).encode("utf-8", "surrogateescape")
