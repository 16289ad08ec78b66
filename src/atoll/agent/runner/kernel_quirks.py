"""What kernels of some languages need besides, by language."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from typing import Any

TEMPORARY: dict[str, str] = {"r": "TMPDIR"}
"""It leaves its temporary directory behind when it is killed: the variable that says where that is."""

_DENO_PRINT = "Deno[Deno.internal].core.print(%s, false)"
MARKS: dict[str, str] = {"javascript": _DENO_PRINT, "typescript": _DENO_PRINT}
"""It tells a cell's end before all that the cell has printed: code that prints a mark, which comes last."""


BY_MESSAGE = ("deno",)
"""Programs that end at a SIGINT but can be asked to interrupt, whatever their kernelspec says."""


def marking(language: str, mark: str) -> str:
    """Empty: what is printed comes before the end by itself."""
    code = MARKS.get(language, "")
    return code % json.dumps(mark) if code else ""


READERS: dict[str, tuple[str, ...]] = {"deno": ("fmt", "--no-config", "--ext", "ts", "-")}
"""Programs whose kernel fails without a word about code that it cannot parse, and how they say it after all: they read
the code, and print what is wrong with it on their error output."""
WORDLESS = ("Error", "Execution failed")
READ_S = 5.0
_COMPLAINT = re.compile(r"error: (\w*Error): (.+?)\s*", re.DOTALL)
_PLACE = re.compile(r"file://\S*_stdin\.ts")


def explained(error: Mapping[str, Any], argv: list[str], env: Mapping[str, str], code: str) -> Mapping[str, Any]:
    """The error of a cell, with what the kernel did not say about it."""
    arguments = READERS.get(os.path.basename(argv[0]))
    if arguments is None or (error.get("ename"), error.get("evalue")) != WORDLESS or error.get("traceback"):
        return error
    try:
        read = subprocess.run(
            [argv[0], *arguments],
            input=code.encode("utf-8", "replace"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**env, "NO_COLOR": "1"},
            timeout=READ_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return error
    return complaint(read.stderr.decode("utf-8", "replace")) or error


def complaint(printed: str) -> dict[str, Any] | None:
    """None: there is none."""
    found = _COMPLAINT.fullmatch(_PLACE.sub("<anonymous>", printed))
    if found is None:
        return None
    name, said = found.groups()
    lines = said.split("\n")
    return {"ename": name, "evalue": lines[0], "traceback": [f"{name}: {lines[0]}", *lines[1:]]}
