"""A reader at a terminal: runs the blocks of one page in order, in one place, and says how it went.

    python terminal.py < blocks.json > outcome.json

In: `[{"place", "language", "text", "title", "prints"}]`. Out: `{"ran": number, "wrong": null or text}`; the first block
that fails or prints something else ends the page. Python blocks share their names and one event loop (`await` works at
the top level); what a shell block exports holds for all later ones; a block with a title is written as a file.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Block = dict[str, Any]
BLOCK_TIMEOUT_S = 60
KEPT_BY_SHELL = frozenset(("_", "PWD", "OLDPWD", "SHLVL"))


class Wrong(Exception):
    """What a reader would stop at."""


class Terminal:
    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._languages: dict[str, Callable[[Block], str]] = {
            "python": self.python,
            "bash": self.bash,
            "console": self.console,
            "js": self.javascript,
        }

    def run(self, block: Block) -> None:
        if block["title"]:
            Path(block["title"]).write_text(block["text"])
            return
        printed = self._languages[block["language"]](block)
        expected = transcript(block["text"]) if block["language"] == "console" else block["prints"]
        if expected is not None and not says(expected, printed):
            raise Wrong(f"the page says that it prints\n{expected}\nand it prints\n{printed}")

    def python(self, block: Block) -> str:
        file, line = block["place"].rsplit(":", 1)
        source = "\n" * int(line) + block["text"]  # so that a traceback names the line of the page
        code = compile(source, file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            if code.co_flags & inspect.CO_COROUTINE:
                self._runner.run(eval(code, self._names))
            else:
                exec(code, self._names)
        return printed.getvalue()

    def bash(self, block: Block) -> str:
        return shell(block["text"])

    def console(self, block: Block) -> str:
        return shell("\n".join(commands(block["text"])))

    def javascript(self, block: Block) -> str:
        with tempfile.NamedTemporaryFile("w", suffix=".mjs", dir=".") as file:
            file.write(block["text"])
            file.flush()
            return finished(["node", file.name])


def shell(script: str) -> str:
    """Whatever it exports, and where it goes, holds for the blocks behind it."""
    with tempfile.NamedTemporaryFile() as left:
        end = f"\nstatus=$?; env -0 > {left.name}; exit $status\n"
        printed = finished(["bash", "-eo", "pipefail", "-c", script + end])
        variables = dict(each.split("=", 1) for each in Path(left.name).read_text().split("\0") if each)
    os.chdir(variables["PWD"])
    os.environ.update({name: value for name, value in variables.items() if name not in KEPT_BY_SHELL})
    return printed


def finished(command: list[str]) -> str:
    """What it printed, both streams in one, as a terminal shows it."""
    run = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BLOCK_TIMEOUT_S,
    )
    if run.returncode:
        raise Wrong(f"it ends with status {run.returncode}:\n{run.stdout}")
    return run.stdout


def commands(text: str) -> list[str]:
    """Lines behind a `$`, and those on which a backslash lets one go on."""
    found: list[str] = []
    goes_on = False
    for line in text.splitlines():
        if line.startswith("$ ") or goes_on:
            found.append(line.removeprefix("$ ") if not goes_on else line)
            goes_on = line.endswith("\\")
    return found


def transcript(text: str) -> str:
    """What a console block says that its commands print."""
    kept: list[str] = []
    goes_on = False
    for line in text.splitlines():
        if line.startswith("$ ") or goes_on:
            goes_on = line.endswith("\\")
        else:
            kept.append(line)
    return "\n".join(kept)


def says(expected: str, printed: str) -> bool:
    """Blanks at the ends of lines and empty lines around do not count; `…` stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in tidy(expected).split("…"))
    return re.fullmatch(pattern, tidy(printed), re.DOTALL) is not None


def tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def main() -> None:
    given: list[Block] = json.load(sys.stdin)
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a block prints behind our back is no answer
    wrong, ran = None, 0
    with asyncio.Runner() as runner:
        terminal = Terminal(runner)
        for block in given:
            try:
                terminal.run(block)
            except Wrong as error:
                wrong = f"{block['place']}: {error}"
            except BaseException:
                wrong = f"{block['place']}:\n{traceback.format_exc()}"
            if wrong:
                break
            ran += 1
    with answer:
        json.dump({"ran": ran, "wrong": wrong}, answer)


if __name__ == "__main__":
    main()
