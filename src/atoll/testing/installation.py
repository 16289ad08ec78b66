"""A whole Atoll for tests, benchmarks and demos: `atoll up` as a child process, with the means to hurt it.

with Installation(Path("/var/tmp/mine")) as atoll:
    requests.post(atoll.url + "/v1/sandboxes", headers={"X-API-Key": atoll.api_key}, …)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import atoll
from atoll.core.settings import Places

STOP_TIMEOUT_S = 120
READY = 4
SERVING = "serves on"
MODULES = {"launcher": "atoll.engines.native.launcher", "egress": "atoll.egress.main"}
"""What runs beside the roles."""


class InstallationFailed(RuntimeError):
    pass


class Installation:
    def __init__(self, data_dir: Path, *flags: str, show: bool = False) -> None:
        """`show` passes the output of `atoll up` on, for those who want to see the templates being built. Sandboxes
        have no way out unless a flag gives them one: tests do not reach the internet. Nothing is built beside, and few
        are kept ready."""
        self.places = Places.of(data_dir)
        self.flags = flags
        self.url = ""
        self.api_key = ""
        self.output: list[str] = []
        self._show = show
        self._process: subprocess.Popen[str] | None = None
        self._drain: threading.Thread | None = None

    def __enter__(self) -> Installation:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it serves. Output of the process is kept in `output`."""
        self.output.clear()
        env_file = self.places.data.parent / f".{self.places.data.name}.env"
        command = [sys.executable, "-m", "atoll.cli.main", "up", "--data-dir", str(self.places.data)]
        command += ["--listen", "127.0.0.1:0", "--print-env", str(env_file), "--uplink", "none"]
        command += ["--background-templates", "", "--ready", str(READY), *self.flags]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=_environ(),
        )
        try:
            for line in self._lines():
                if SERVING in line:
                    break
            else:
                raise InstallationFailed("atoll up ended early:\n" + "".join(self.output[-40:]))
            values = dict(line.split("=", 1) for line in env_file.read_text().splitlines())
        except BaseException:
            self.stop()
            raise
        finally:
            env_file.unlink(missing_ok=True)
        self.url, self.api_key = values["ATOLL_BASE_URL"], values["ATOLL_API_KEY"]
        self._drain = threading.Thread(target=lambda: list(self._lines()), daemon=True)
        self._drain.start()

    def _lines(self) -> Iterator[str]:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output.append(line)
            if self._show:
                print(line, end="", flush=True)
            yield line

    def stop(self) -> int:
        """SIGTERM; returns the exit status. Nothing of it is left then."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9 of the supervisor; the roles end with it, launcher and sandboxes stay."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        status = process.wait(STOP_TIMEOUT_S)
        if self._drain:
            self._drain.join(STOP_TIMEOUT_S)
            self._drain = None
        if process.stdout:
            process.stdout.close()
        self._process = None
        return status

    def pids(self, role: str) -> list[int]:
        """Processes of `role` (node, server, edge, launcher or egress) that belong to this installation, without those
        that they have forked for some milliseconds."""
        wanted = MODULES.get(role, f"atoll.compose {role}")
        marks = (str(self.places.data), self.places.installation)
        found = {
            pid: parent
            for pid, parent, command, environment in _processes()
            if wanted in command and any(mark in environment + command for mark in marks)
        }
        return [pid for pid, parent in found.items() if parent not in found]


def _environ() -> dict[str, str]:
    package = Path(next(iter(atoll.__path__))).parent
    return {**os.environ, "PYTHONPATH": str(package)}


def _processes() -> Iterator[tuple[int, int, str, str]]:
    """Number, its parent's, command and environment."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                yield int(entry.name), parent, command, (entry / "environ").read_bytes().decode(errors="replace")


def borrow_templates(source: Path, target: Path) -> None:
    """A fresh data directory that uses what another one has built and nobody changes: layers, runtime, empty images."""
    (target / "node").mkdir(parents=True, exist_ok=True)
    for name in ("node/templates", "node/images", "runtime"):
        (target / name).symlink_to(source / name)
