"""Runs a Python program as `python` does (a file, `-c` or `-m`), and leaves without the interpreter's own end.

The newer versions of the `e2b` package bring pyqwest, whose threads call into Python of their own accord. Before Python
3.14 the interpreter's end ends every thread that does so, and from Rust that aborts the process (python/cpython#87135,
curioswitch/pyqwest#164): a program of `asyncio` that has done all it should then has status -6 now and then, whatever
server it has spoken to. Here a program has the status that it says itself.

    subprocess.run([*leaving.PYTHON, "-c", "print('here')"])
"""

from __future__ import annotations

import atexit
import os
import runpy
import sys
import traceback
from typing import Final

PYTHON: Final = (sys.executable, __file__)
"""What stands where `python` would."""


def status(words: list[str]) -> int:
    """Runs what stands behind `python`, and says how it ends."""
    try:
        _run(words)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _run(words: list[str]) -> None:
    match words:
        case ["-c", code, *rest]:
            sys.argv, sys.path[0] = ["-c", *rest], ""
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        case ["-m", module, *rest]:
            sys.argv, sys.path[0] = [module, *rest], os.getcwd()
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case [path, *_]:
            sys.argv, sys.path[0] = words, os.path.dirname(os.path.abspath(path))
            runpy.run_path(path, run_name="__main__")


if __name__ == "__main__":
    ended = status(sys.argv[1:])
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended)
