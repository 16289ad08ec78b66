from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from .conftest import SOURCE  # type: ignore[import-not-found]

ENV = {**os.environ, "PYTHONPATH": str(SOURCE)}


def test_it_is_interrupted_with_all_that_it_runs():
    code = (
        "import os, sys\n"
        "from atoll.agent.runner.kernel_process import KernelProcess\n"
        "kernel = KernelProcess(['bash', '-c', 'sh -c \"echo; exec sleep 1000\"; echo'], dict(os.environ))\n"
        "sys.stdin.read(1)\n"
        "kernel.interrupt()\n"
        "print(kernel._process.wait())"
    )
    bridge = subprocess.Popen(
        [sys.executable, "-c", code], env=ENV, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert bridge.stdout is not None
    assert bridge.stdout.readline() == "\n"
    output, _ = bridge.communicate("x")
    assert output == f"{-signal.SIGINT}\n"


def test_a_kernel_dies_with_its_bridge():
    code = (
        "import os\n"
        "from atoll.agent.runner.kernel_process import KernelProcess\n"
        "kernel = KernelProcess(['sleep', '1000'], dict(os.environ))\n"
        "os.kill(os.getpid(), 9)"
    )
    bridge = subprocess.Popen([sys.executable, "-c", code], env=ENV, stdout=subprocess.PIPE, text=True)
    assert bridge.stdout is not None
    assert bridge.stdout.read() == ""  # its end is that of both: the kernel has inherited it
    bridge.stdout.close()
    assert bridge.wait() == -signal.SIGKILL


@pytest.mark.parametrize("status", [0, 3, -signal.SIGKILL, -signal.SIGSEGV])
def test_a_bridge_ends_as_its_kernel_has_ended(status):
    code = f"from atoll.agent.runner.kernel_process import end_like; end_like({int(status)})"
    assert subprocess.run([sys.executable, "-c", code], env=ENV).returncode == status
