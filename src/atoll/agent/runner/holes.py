"""In a zygote, before the fork: the holes in its memory are filled.

What a fork makes anew would go into free places between the zygote's objects, a few bytes to a page, and each of these
pages would be copied. With the holes filled it goes to fresh pages, side by side. What fills them is never touched.
Syntax of Python 3.9; standard library only.
"""

from __future__ import annotations

from collections.abc import Callable

POOL = 4096  # of Python's own allocator, or a multiple of it; its blocks are of 16, 32 … 512 bytes
STEP, LARGEST = 16, 512
IN_A_ROW = 8
MAX_OF_A_SIZE = 50_000
BYTES_HEAD = 33
FROM_THE_TOP = 100_000
"""More than the C library has free between its blocks, and less than what it maps for itself."""
LARGE = (*range(65536, 4096, -1024), *range(4096, LARGEST, -STEP))

_kept: list[object] = []


def fill() -> None:
    for size in range(STEP, LARGEST + 1, STEP):
        _fill_small(size, _maker(size))
    top = max(id(bytes(FROM_THE_TOP)) for _ in range(IN_A_ROW))
    for size in LARGE:
        _fill_large(size, top)


def _maker(size: int) -> Callable[[], object]:
    """Of objects of that size."""
    if size == 16:
        return object
    if size == 32:
        return lambda: float("1.5")
    return lambda: bytes(size - BYTES_HEAD)


def _fill_small(size: int, make: Callable[[], object]) -> None:
    """Until some of them lie side by side, as they do in a fresh pool only; these are freed again."""
    run: list[object] = []
    for _ in range(MAX_OF_A_SIZE):
        made = make()
        if run and id(made) - id(run[-1]) != size:
            _kept.extend(run)
            run.clear()
        run.append(made)
        if len(run) == min(IN_A_ROW, POOL // size - 1):
            return


def _fill_large(size: int, top: int) -> None:
    """Until one comes from the end of the heap."""
    for _ in range(MAX_OF_A_SIZE):
        made = bytes(size - BYTES_HEAD)
        if id(made) >= top:
            return
        _kept.append(made)
