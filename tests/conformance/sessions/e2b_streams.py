"""A hundred streams at once through the `e2b` package: outputs of commands and contents of files, from 1 B to 64 MiB.

What each is to bring is a part of one text that both sides have; each piece is compared with it where it belongs, so
that nothing is kept and nothing can be lost, doubled or come in another order. Prints how many streams there were, how
many bytes came, and by how many KiB the agent inside has grown at most.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

from e2b import AsyncSandbox

MIB = 1024 * 1024
SOURCE = "/tmp/source"
EACH = 50
LARGEST = 64 * MIB
SIZES = [1, *sorted(round(2 ** (22 * at / (EACH - 3))) for at in range(1, EACH - 1)), LARGEST]
"""From 1 B to 4 MiB, and one of 64 MiB."""


class Checked:
    """What has come of one stream, beside what is to come."""

    def __init__(self, expected: memoryview) -> None:
        self.expected = expected
        self.at = 0

    def take(self, piece: bytes | str) -> None:
        data = piece.encode() if isinstance(piece, str) else piece
        assert self.expected[self.at : self.at + len(data)] == data, f"other bytes from {self.at} on"
        self.at += len(data)

    def end(self) -> int:
        assert self.at == len(self.expected), f"{self.at} bytes of {len(self.expected)}"
        return self.at


async def output(box: AsyncSandbox, source: memoryview, start: int, size: int, error: bool) -> int:
    checked = Checked(source[start : start + size])
    command = f"tail -c +{start + 1} {SOURCE} | head -c {size}"
    if error:
        await box.commands.run(f"{{ {command}; }} >&2", on_stderr=checked.take, retain_output=False, timeout=0)
    else:
        await box.commands.run(command, on_stdout=checked.take, retain_output=False, timeout=0)
    return checked.end()


async def content(box: AsyncSandbox, source: memoryview, start: int, size: int) -> int:
    checked = Checked(source[start : start + size])
    pieces: AsyncIterator[bytes] = await box.files.read(f"/tmp/part-{start}-{size}", format="stream")
    async for piece in pieces:
        checked.take(piece)
    return checked.end()


async def peak_kib(box: AsyncSandbox) -> int:
    """The most memory that the sandbox's first process has had."""
    return int((await box.commands.run("grep VmHWM /proc/1/status | tr -dc 0-9")).stdout)


async def main() -> None:
    chance = random.Random(7)
    text = chance.randbytes(LARGEST // 2).hex().encode()
    source = memoryview(text)
    starts = [chance.randrange(LARGEST - size + 1) for size in SIZES]
    box = await AsyncSandbox.create("code-interpreter", timeout=300, retries=0)
    try:
        await box.files.write(SOURCE, text)
        parts = (
            f"tail -c +{start + 1} {SOURCE} | head -c {size} > /tmp/part-{start}-{size}"
            for start, size in zip(starts, SIZES, strict=True)
        )
        await box.commands.run("\n".join(parts))
        before = await peak_kib(box)
        counts = await asyncio.gather(
            *(output(box, source, start, size, size % 2 == 0) for start, size in zip(starts, SIZES, strict=True)),
            *(content(box, source, start, size) for start, size in zip(starts, SIZES, strict=True)),
        )
        print(len(counts), sum(counts), await peak_kib(box) - before)
    finally:
        await box.kill()


asyncio.run(main())
