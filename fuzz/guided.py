"""One target under libFuzzer, in a process of its own: it leaves by itself when it is done.

python -m fuzz.guided TARGET [libFuzzer's arguments]
"""

from __future__ import annotations

import sys

import atheris

from fuzz.table import PLANTED, TARGETS


def main() -> None:
    target = (TARGETS | {PLANTED.name: PLANTED})[sys.argv[1]]
    with atheris.instrument_imports(include=list(target.modules)):
        for module in target.modules:
            __import__(module)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.load())
    atheris.Fuzz()


if __name__ == "__main__":
    main()
