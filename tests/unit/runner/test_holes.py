from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc, sys
from atoll.agent.runner import holes
size = int(sys.argv[1])
make = lambda: bytes(size - holes.BYTES_HEAD)
kept = [make() for _ in range(20_000)]
del kept[::2]
gc.collect()
if sys.argv[2] == "filled":
    holes.fill()
new = [make() for _ in range(2_000)]
print(len({id(each) // 4096 for each in new}), -(-2_000 * size // 4096))
"""


def pages_of(size: int, how: str) -> tuple[int, int]:
    """Of 2,000 new objects, and of so many side by side."""
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(size), how], check=True, capture_output=True, text=True
    ).stdout
    spread, dense = map(int, output.split())
    return spread, dense


@pytest.mark.parametrize("size", [48, 64, 160, 512, 1024])
def test_what_is_made_afterwards_lies_side_by_side(size: int) -> None:
    (spread, dense), (as_it_is, _) = pages_of(size, "filled"), pages_of(size, "as it is")
    assert spread <= dense * 1.1 + 4
    assert as_it_is > dense * 1.5
