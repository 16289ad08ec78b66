"""Cells with `%`, `%%`, `!` and `?`: IPython's own when the template has it, else the small table below.

Either way a cell becomes plain Python that calls `get_ipython().run_line_magic(…)`, and runs like any other.
The table's transformer changes only lines that Python itself rejects, one at a time, so a `%` or `!` at the
start of a line inside a string or a bracket is left alone.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import timeit
from collections.abc import Callable
from types import ModuleType
from typing import Any

from . import display

CANDIDATE = re.compile(r"^[ \t]*[%!?]|^[^#'\"]*=\s*[%!]|\?[ \t]*$", re.MULTILINE)
ASSIGNED = re.compile(r"^(\s*)([\w.\[\], ]+?)\s*=\s*([%!])(.*)$")
STATEMENT = re.compile(r"^(\s*)(%|!!?)\s*(.*)$")
HELP = re.compile(r"^(\s*)(\?{0,2})([\w.]+?)(\?{0,2})\s*$")
MAX_REWRITES = 2000
TREE = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


class UsageError(Exception):
    """A magic that does not exist, or not used as it must be."""


def may_have(source: str) -> bool:
    return CANDIDATE.search(source) is not None


def transform(source: str, shell: Callable[[], Any]) -> str | None:
    """The cell as plain Python, or None when there is nothing to change."""
    changed = shell().transform_cell(source)
    return None if changed == source else str(changed)


def make_shell(main: ModuleType) -> Any:
    with contextlib.suppress(ImportError):
        return importlib.import_module(f"{__package__}.ipython").make_shell(main)
    return Shell(main)


def run_command(command: str) -> int:
    """Runs on our descriptors, so its output streams. An interrupt ends the whole pipeline."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    shell = shell if os.access(shell, os.X_OK) else "/bin/sh"
    child = subprocess.Popen([shell, "-c", command], preexec_fn=os.setpgrp)
    try:
        return child.wait()
    except BaseException:
        _end_group(child)
        raise


def _end_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.3)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def config_line(line: str) -> bool:
    """Settings of Jupyter's inline figures, which are fixed here."""
    return line.strip().startswith("InlineBackend")


# --- the table, for templates without IPython ---


class Shell:
    """As much of IPython's InteractiveShell as the table needs."""

    def __init__(self, main: ModuleType) -> None:
        self.user_module = main
        self.user_ns = main.__dict__
        self._previous = os.getcwd()

    def transform_cell(self, source: str) -> str:
        first, _, body = source.lstrip("\n").partition("\n")
        if first.startswith("%%"):
            name, _, line = first[2:].partition(" ")
            return f"get_ipython().run_cell_magic({name!r}, {line.strip()!r}, {body!r})\n"
        return _transform_lines(source)

    def raise_failure(self) -> None:
        """Errors of the table's magics are raised where they happen."""

    def run_line_magic(self, name: str, line: str) -> Any:
        return _look_up(LINE_MAGICS, name, "%")(self, line)

    def run_cell_magic(self, name: str, line: str, cell: str) -> Any:
        return _look_up(CELL_MAGICS, name, "%%")(self, line, cell)

    def system(self, command: str) -> None:
        self.user_ns["_exit_code"] = run_command(self._expanded(command))

    def getoutput(self, command: str) -> list[str]:
        done = subprocess.run(
            ["/bin/sh", "-c", self._expanded(command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.stdout.splitlines()

    def _expanded(self, command: str) -> str:
        """`{expression}` and `$name` of the namespace; anything else is for the shell."""
        text = re.sub(r"\{([^{}]+)\}", self._expression, command)
        return re.sub(r"\$(\w+)", lambda found: str(self.user_ns.get(found[1], found[0])), text)

    def _expression(self, found: re.Match[str]) -> str:
        try:
            return str(eval(found[1], self.user_ns))  # noqa: S307  # the cell's own text in its own namespace
        except Exception:
            return found[0]

    def execute(self, code: str) -> Any:
        """Run the body of a magic: its last expression is its value."""
        tree = ast.parse(code, "<magic>")
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "<magic>", "exec", dont_inherit=True), self.user_ns)  # noqa: S102  # the cell's own code
        if not isinstance(last, ast.Expr):
            return None
        return eval(compile(ast.Expression(last.value), "<magic>", "eval", dont_inherit=True), self.user_ns)  # noqa: S307

    def change_directory(self, line: str) -> None:
        target = self._expanded(line.strip()).strip("'\"") or "~"
        previous = os.getcwd()
        os.chdir(os.path.expanduser(self._previous if target == "-" else target))
        self._previous = previous
        print(os.getcwd())


def _look_up(table: dict[str, Any], name: str, sign: str) -> Any:
    try:
        return table[name]
    except KeyError:
        raise UsageError(f"magic `{sign}{name}` not found; this template has no IPython") from None


def _transform_lines(source: str) -> str:
    lines = source.split("\n")
    for _ in range(MAX_REWRITES):
        text = "\n".join(lines)
        try:
            compile(text, "<cell>", "exec", TREE, dont_inherit=True)
        except SyntaxError as error:
            if not _rewrite(lines, (error.lineno or 0) - 1):
                return text
        except ValueError:
            return text
        else:
            return text
    return "\n".join(lines)


def _rewrite(lines: list[str], number: int) -> bool:
    if not 0 <= number < len(lines):
        return False
    last = number
    if STATEMENT.match(lines[number]) or ASSIGNED.match(lines[number]):
        while lines[last].endswith("\\") and last + 1 < len(lines):
            last += 1
    line = "\n".join(lines[number : last + 1])
    changed = rewritten(line.replace("\\\n", " "))
    if changed is None:
        return False
    lines[number : last + 1] = [changed] + [""] * (last - number)  # line numbers stay
    return True


def rewritten(line: str) -> str | None:
    """One line with a magic as Python, or None. Decided by the line alone."""
    found = STATEMENT.match(line)
    if found:
        indent, sign, rest = found.groups()
        return indent + _call(sign, rest)
    found = ASSIGNED.match(line)
    if found:
        indent, target, sign, rest = found.groups()
        call = f"get_ipython().getoutput({rest.strip()!r})" if sign == "!" else _call(sign, rest)
        return f"{indent}{target} = {call}"
    found = HELP.match(line)
    if found and (found[2] or found[4]):
        return f"{found[1]}help({found[3]})"
    return None


def _call(sign: str, rest: str) -> str:
    if sign == "!":
        return f"get_ipython().system({rest!r})"
    if sign == "!!":
        return f"get_ipython().getoutput({rest!r})"
    name, _, line = rest.partition(" ")
    return f"get_ipython().run_line_magic({name!r}, {line.strip()!r})"


def _pwd(_shell: Shell, _line: str) -> str:
    return os.getcwd()


def _cd(shell: Shell, line: str) -> None:
    shell.change_directory(line)


def _env(_shell: Shell, line: str) -> Any:
    if not line:
        return dict(os.environ)
    name, separator, value = line.partition("=") if "=" in line else line.partition(" ")
    if not separator:
        return os.environ[line]
    os.environ[name.strip()] = value.strip()
    print(f"env: {name.strip()}={value.strip()}")
    return None


def _pip(_shell: Shell, line: str) -> None:
    run_command(f"{shlex.quote(sys.executable)} -m pip {line}")
    importlib.invalidate_caches()


def _nothing(_shell: Shell, _line: str) -> None:
    pass


def _time(shell: Shell, line: str, cell: str = "") -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        return shell.execute(f"{line}\n{cell}" if line else cell)
    finally:
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(f"CPU times: total: {_duration(cpu)}\nWall time: {_duration(wall)}")


def _timeit(shell: Shell, line: str, cell: str | None = None) -> None:
    words = line.split()
    options = {"-n": 0, "-r": 7}
    while words and words[0][:2] in options:
        flag, value = words[0][:2], words[0][2:]
        words.pop(0)
        options[flag] = int(value or words.pop(0))
    code = " ".join(words)
    statement, setup = (code, "pass") if cell is None else (cell, code or "pass")
    timer = timeit.Timer(statement, setup, globals=shell.user_ns)
    loops = options["-n"] or timer.autorange()[0]
    runs = [total / loops for total in timer.repeat(options["-r"], loops)]
    mean = sum(runs) / len(runs)
    spread = (sum((run - mean) ** 2 for run in runs) / len(runs)) ** 0.5
    count = f"mean ± std. dev. of {len(runs)} runs, {loops:,} loops each"
    print(f"{_duration(mean)} ± {_duration(spread)} per loop ({count})")


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _script(interpreter: str) -> Callable[[Shell, str, str], None]:
    def run(_shell: Shell, line: str, cell: str) -> None:
        child = subprocess.Popen(
            [interpreter, *shlex.split(line)], stdin=subprocess.PIPE, text=True, preexec_fn=os.setpgrp
        )
        try:
            child.communicate(cell)
        except BaseException:
            _end_group(child)  # type: ignore[arg-type]  # text or bytes makes no difference to ending it
            raise
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, interpreter)

    return run


def _writefile(_shell: Shell, line: str, cell: str) -> None:
    words = shlex.split(line)
    append = "-a" in words[:-1]
    path = os.path.expanduser(words[-1])
    print(f"{'Appending to' if append else 'Overwriting' if os.path.exists(path) else 'Writing'} {path}")
    with open(path, "a" if append else "w", encoding="utf-8") as file:
        file.write(cell)


def _rich(mime: str) -> Callable[[Shell, str, str], None]:
    return lambda _shell, _line, cell: display.emit_display({mime: cell, "text/plain": cell})


LINE_MAGICS: dict[str, Callable[..., Any]] = {
    "autoreload": _nothing,
    "cd": _cd,
    "config": _nothing,
    "env": _env,
    "load_ext": _nothing,
    "matplotlib": _nothing,
    "pip": _pip,
    "pwd": _pwd,
    "set_env": _env,
    "time": _time,
    "timeit": _timeit,
}

CELL_MAGICS: dict[str, Callable[..., Any]] = {
    "bash": _script("bash"),
    "html": _rich("text/html"),
    "markdown": _rich("text/markdown"),
    "sh": _script("sh"),
    "time": _time,
    "timeit": _timeit,
    "writefile": _writefile,
}
