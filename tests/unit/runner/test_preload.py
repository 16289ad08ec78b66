import os
import subprocess
import sys

from .conftest import SOURCE  # type: ignore[import-not-found]

PROBE = """
import os, sys
from atoll.agent.runner.preload import preload
before = dict(os.environ)
done = preload({modules!r})
print(done.failed, done.threads, dict(os.environ) == before, {extra})
"""


def probe(modules: list[str], extra: str) -> str:
    """preload() changes its process for good, so it runs in a Python of its own."""
    code = PROBE.format(modules=modules, extra=extra)
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)
    assert done.stderr == ""
    return done.stdout.strip()


def test_stack_is_warm_single_threaded_and_leaves_nothing_behind():
    left = "sys.modules['matplotlib.pyplot'].get_fignums()"
    assert probe(["numpy", "pandas", "matplotlib.pyplot"], left) == "() 1 True []"


def test_no_file_stays_open():
    """A fork closes it, and what opens at that descriptor next would be closed or read in its place."""
    files = "[fd for fd in range(3, 100) if os.path.isfile(f'/proc/self/fd/{fd}')]"
    assert probe(["numpy", "pandas", "matplotlib.pyplot"], files) == "() 1 True []"


def test_module_that_fails_is_told_and_does_not_stop_the_rest():
    found = probe(["no_such_module", "json"], "'json' in sys.modules")
    assert found == "(\"import no_such_module: ModuleNotFoundError: No module named 'no_such_module'\",) 1 True True"
