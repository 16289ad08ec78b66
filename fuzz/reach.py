"""What the kept inputs reach: every branch that they take, and the fewest of them that take all."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from hashlib import sha256
from importlib import import_module
from types import FrameType
from typing import Any

from fuzz.table import Target

Step = tuple[str, int, int]
"""File, from line, to line."""


def inputs(target: Target) -> list[bytes]:
    return [path.read_bytes() for path in sorted(target.corpus.glob("*"))]


def replay(target: Target) -> int:
    """Raises what the target raises."""
    check, kept = target.load(), inputs(target)
    for data in kept:
        check(data)
    return len(kept)


def steps(target: Target, data: bytes) -> set[Step]:
    """Of the target's modules, while it looks at this input."""
    files = {str(import_module(name).__file__) for name in target.modules}
    check = target.load()
    found: set[Step] = set()

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:  # Any: the tracer's own type
        file = frame.f_code.co_filename
        if file not in files:
            return None
        last = frame.f_lineno

        def local(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last
            line = -frame.f_code.co_firstlineno if event == "return" else frame.f_lineno
            found.add((file, last, line))
            last = frame.f_lineno
            return local

        return local

    sys.settrace(trace)
    try:
        check(data)
    finally:
        sys.settrace(None)
    return found


def fewest(target: Target, candidates: Iterable[bytes]) -> list[bytes]:
    """The shortest that together take every step; the shorter ones first, so that they are preferred."""
    taken: set[Step] = set()
    kept = []
    for data in sorted(set(candidates), key=lambda each: (len(each), each)):
        new = steps(target, data) - taken
        if new:
            taken |= new
            kept.append(data)
    return kept


def keep(target: Target, found: Iterable[bytes]) -> None:
    """They join the corpus, and what the others make superfluous leaves it."""
    kept = fewest(target, [*inputs(target), *found])
    names = {sha256(data).hexdigest()[:16]: data for data in kept}
    target.corpus.mkdir(parents=True, exist_ok=True)
    for path in target.corpus.iterdir():
        if path.name not in names:
            path.unlink()
    for name, data in names.items():
        (target.corpus / name).write_bytes(data)
