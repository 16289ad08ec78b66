"""Programs of clients keep the status that they say themselves."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import leaving

ASYNC = """
import asyncio, sys, pyqwest

async def main():
    answer = await pyqwest.Client().get(sys.argv[1])
    print(answer.status)

asyncio.run(main())
"""
ATTEMPTS = 5


def run(*words: str, cpus: set[int] | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    before = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
    command = [*leaving.PYTHON, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=before, cwd=cwd)


@pytest.fixture
def server() -> Iterator[str]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_threads_of_a_client_that_call_into_python_late_abort_nothing(server):
    """On one processor the interpreter itself aborts more than nine of ten of these."""
    for _ in range(ATTEMPTS):
        done = run("-c", ASYNC, server, cpus={min(os.sched_getaffinity(0))})
        assert (done.returncode, done.stdout, done.stderr) == (0, "204\n", "")


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("pass", 0, ""),
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("import atexit, sys; atexit.register(print, 'last', file=sys.stderr)", 0, "last\n"),
    ],
)
def test_a_program_ends_as_it_says(code, status, says):
    done = run("-c", code)
    assert (done.returncode, done.stderr) == (status, says)


def test_what_goes_wrong_is_told_and_is_its_status():
    done = run("-c", "print(1, end=''); 1 / 0")
    assert (done.returncode, done.stdout) == (1, "1")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


SEES = "import sys; print(__name__, sys.argv[1:], neighbour.NAME)"


def test_a_file_and_a_module_see_what_they_would_see(tmp_path):
    (tmp_path / "neighbour.py").write_text("NAME = 'next to it'\n")
    (tmp_path / "program.py").write_text(f"import neighbour\n{SEES}\n")
    seen = "__main__ ['a', 'b'] next to it\n"
    assert run(str(tmp_path / "program.py"), "a", "b").stdout == seen
    assert run("-m", "program", "a", "b", cwd=tmp_path).stdout == seen
    assert run("-c", f"import neighbour\n{SEES}", "a", "b", cwd=tmp_path).stdout == seen
