"""What is dropped is dropped for good, so each test does it in a child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from atoll import confinement

DROP = """
from pathlib import Path
from atoll import confinement
confinement.drop({kept})
print(Path("/proc/self/status").read_text())
"""


def status_after_drop(kept: str) -> dict[str, str]:
    done = subprocess.run([sys.executable, "-c", DROP.format(kept=kept)], capture_output=True, text=True, check=True)
    return dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)


def test_nothing_is_left_and_nothing_comes_back() -> None:
    status = status_after_drop("()")
    assert [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")] == [0, 0, 0, 0]
    assert status["NoNewPrivs"] == "1"


@pytest.mark.root
def test_reading_files_may_be_kept() -> None:
    status = status_after_drop("[confinement.CAP_DAC_READ_SEARCH]")
    kept = 1 << confinement.CAP_DAC_READ_SEARCH
    assert [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")] == [kept, kept, kept]


WRITE = """
import sys
from pathlib import Path
from atoll import confinement
confinement.drop()
confinement.write_only_below(Path(sys.argv[1]))
for name in sys.argv[2:]:
    try:
        Path(name).write_text("x")
        print("written")
    except PermissionError:
        print("refused")
"""


def private_directory() -> Path:
    """Somewhere we may write and not everybody: a home can lie below /tmp."""
    shared = [Path(path) for path in ("/tmp", "/var/tmp", "/dev")]
    places = (Path.home(), Path.cwd(), Path("/run"))
    return next(p for p in places if os.access(p, os.W_OK) and not any(s in p.resolve().parents for s in shared))


@pytest.mark.skipif(confinement.landlock_version() < 1, reason="this kernel has no Landlock")
def test_files_are_written_in_the_named_place_only() -> None:
    with tempfile.TemporaryDirectory(dir=private_directory()) as own:
        inside, outside = Path(own) / "inside", Path(own) / "outside"
        inside.mkdir()
        outside.write_text("there already")
        names = [inside / "new", outside, Path(own) / "new", Path("/dev/null")]
        command = [sys.executable, "-c", WRITE, inside, *names]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["written", "refused", "refused", "written"]


def test_only_a_private_directory_of_somebody_else_needs_it(tmp_path: Path) -> None:
    assert confinement.needed_for(Path("/usr/bin/env"), tmp_path / "x") == frozenset()


def test_a_child_ends_with_its_parent() -> None:
    """The middle process starts a child, which reports and waits; the pipe closes only when the child is gone too."""
    child = (
        "import os, signal, sys; from atoll import confinement; confinement.end_with_parent(int(sys.argv[1]));"
        "print(os.getpid(), flush=True); signal.pause()"
    )
    middle = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, str(os.getpid())])"
    with subprocess.Popen([sys.executable, "-c", middle], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        process.send_signal(signal.SIGKILL)
        assert process.stdout.read() == ""


def test_a_parent_that_is_gone_already_is_noticed() -> None:
    code = "from atoll import confinement; confinement.end_with_parent(1 << 21)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGTERM
