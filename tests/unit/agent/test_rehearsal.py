from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, os, signal
from atoll.agent import rehearsal
before = set(os.listdir("/proc/self/fd"))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
assert rehearsal.rehearse() == (), rehearsal.rehearse()
assert set(os.listdir("/proc/self/fd")) == before
assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
assert signal.set_wakeup_fd(-1) == -1
assert len(os.listdir("/proc/self/task")) == 1
"""


def test_it_plays_to_the_end_and_leaves_nothing_open():
    run = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""


def test_a_cell_that_does_not_end_is_told(monkeypatch):
    from atoll.agent import rehearsal

    monkeypatch.setattr(rehearsal, "OUTCOME", b"")
    monkeypatch.setattr(rehearsal, "PATIENCE_S", 0.2)
    (failure,) = rehearsal.rehearse()
    assert failure.startswith("rehearsal of the agent: TimeoutError")
