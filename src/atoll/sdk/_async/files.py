"""Files of a sandbox."""

from __future__ import annotations

import builtins
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any

from atoll.sdk._aio import blocking
from atoll.sdk._core import agent
from atoll.sdk._core.local import LocalPath, Source
from atoll.sdk._core.models import FileInfo, file_info
from atoll.sdk._core.read import flag, objects, text

from .client import OPEN_S, AsyncAgent, AsyncMessages, pieces_of, save

OnProgress = Callable[[int, int | None], object]
"""Called with the bytes that are done, and those of the whole when that is known."""


class AsyncFiles:
    """`sandbox.files`. Paths are those of the sandbox; relative ones are below its working directory.

    `timeout` is in seconds without an answer, or a byte of it. What is not there is a FileNotFoundError, what the
    sandbox's user may not touch a FileOperationError.

    >>> await sandbox.files.write("/workspace/hello.txt", "hello")
    >>> await sandbox.files.read("/workspace/hello.txt")
    'hello'
    """

    def __init__(self, agent: AsyncAgent) -> None:
        self._agent = agent

    async def read(self, path: str, *, timeout: float | None = None) -> str:
        """Reads a text file (UTF-8, up to 64 MiB; bytes that are none become �).

        >>> await sandbox.files.write("/workspace/a.txt", "one")
        >>> await sandbox.files.read("/workspace/a.txt")
        'one'
        """
        return text((await self._agent.call(agent.read(path, timeout))).get("content"))

    async def read_bytes(self, path: str, *, timeout: float | None = None) -> bytes:
        """Reads a file into memory; `iter_bytes` and `download` do not.

        >>> await sandbox.files.write_bytes("/workspace/a.bin", bytes([0, 255]))
        >>> await sandbox.files.read_bytes("/workspace/a.bin")
        b'\\x00\\xff'
        """
        return (await self._agent.send(agent.download(path, timeout))).body

    async def iter_bytes(self, path: str, *, timeout: float | None = None) -> AsyncGenerator[bytes, None]:
        """Reads a file piece by piece.

        >>> await sandbox.files.write("/workspace/a.txt", "one")
        >>> async for piece in sandbox.files.iter_bytes("/workspace/a.txt"):
        ...     print(piece)
        b'one'
        """
        incoming = await self._agent.open(agent.download(path, timeout))
        try:
            async for piece in incoming.pieces():
                yield piece
        finally:
            await incoming.close()

    async def write(self, path: str, content: str, mode: str = "0644", *, timeout: float | None = None) -> None:
        """Writes a text file (UTF-8), with the directories above it. `mode`: octal permissions.

        >>> await sandbox.files.write("/workspace/run.sh", "echo done", mode="0755")
        >>> (await sandbox.commands.run("./run.sh")).stdout
        'done\\n'
        """
        await self.write_bytes(path, content.encode(), mode, timeout=timeout)

    async def write_bytes(self, path: str, content: bytes, mode: str = "0644", *, timeout: float | None = None) -> None:
        """Writes a file, with the directories above it. `mode`: octal permissions.

        >>> await sandbox.files.write_bytes("/workspace/deep/a.bin", b"one")
        >>> (await sandbox.commands.run("cat deep/a.bin")).stdout
        'one'
        """
        if len(content) <= agent.AT_ONCE:
            await self._agent.call(agent.write(path, content, mode, timeout))
            return
        await self.write_stream(path, _one(content), size=len(content), timeout=timeout)
        if mode != agent.DEFAULT_MODE:
            await self._agent.call(agent.command(agent.chmod(path, mode), 30, None, "/", background=False))

    async def write_stream(
        self,
        path: str,
        pieces: AsyncIterable[bytes],
        *,
        size: int | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Writes a file from pieces as they come, in constant memory; returns its size in bytes.

        `size`: how much will come, where that is known.

        >>> async def pieces():
        ...     for number in range(3):
        ...         yield b"%d" % number
        >>> await sandbox.files.write_stream("/workspace/numbers", pieces())
        3
        """
        upload, done = agent.upload(path), 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal done
            yield upload.prefix
            async for piece in pieces:
                yield piece
                done += len(piece)
                if on_progress is not None:
                    on_progress(done, size)
            yield upload.suffix

        await self._agent.upload(upload.request(size, timeout), body())
        return done

    async def list(self, path: str = "/workspace", *, timeout: float | None = None) -> builtins.list[FileInfo]:
        """Lists a directory.

        >>> await sandbox.files.write("/workspace/listed/a.txt", "one")
        >>> [entry.name for entry in await sandbox.files.list("/workspace/listed")]
        ['a.txt']
        """
        data = await self._agent.call(agent.list_files(path, timeout))
        return [file_info(each) for each in objects(data.get("files"))]

    async def upload(
        self,
        local_path: LocalPath,
        remote_path: str,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Copies a local file into the sandbox, in constant memory. `remote_path` is the file's, not a directory's.

        Local errors are Python's own (OSError).

        >>> _ = Path("report.csv").write_text("a,b")
        >>> await sandbox.files.upload("report.csv", "/workspace/report.csv")
        >>> await sandbox.files.read("/workspace/report.csv")
        'a,b'
        """
        source = await blocking(Source, local_path)
        try:
            await self.write_stream(
                remote_path, pieces_of(source), size=source.size, timeout=timeout, on_progress=on_progress
            )
        finally:
            await blocking(source.close)

    async def download(
        self,
        remote_path: str,
        local_path: LocalPath,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Copies a file of the sandbox to a local one, in constant memory: whole or not at all.

        >>> await sandbox.files.write("/workspace/result.txt", "42")
        >>> await sandbox.files.download("/workspace/result.txt", "result.txt")
        >>> Path("result.txt").read_text()
        '42'
        """
        incoming = await self._agent.open(agent.download(remote_path, timeout))
        try:
            await save(incoming, local_path, on_progress)
        finally:
            await incoming.close()

    async def exists(self, path: str, *, timeout: float | None = None) -> bool:
        """Whether there is such a file or directory, as far as the sandbox's user can see.

        >>> await sandbox.files.exists("/workspace"), await sandbox.files.exists("/nowhere")
        (True, False)
        """
        return flag((await self._agent.call(agent.exists(path, timeout))).get("exists"))

    async def remove(self, path: str, *, timeout: float | None = None) -> None:
        """Removes a file, or a directory with all that is in it.

        >>> await sandbox.files.write("/workspace/old/a.txt", "one")
        >>> await sandbox.files.remove("/workspace/old")
        >>> await sandbox.files.exists("/workspace/old")
        False
        """
        await self._agent.call(agent.remove(path, timeout))

    async def mkdir(self, path: str, *, timeout: float | None = None) -> None:
        """Makes a directory and those above it; one that is there is all right.

        >>> await sandbox.files.mkdir("/workspace/a/b/c")
        >>> await sandbox.files.exists("/workspace/a/b")
        True
        """
        await self._agent.call(agent.mkdir(path, timeout))

    async def watch(
        self, path: str = "/workspace", *, timeout: float | None = None, ready: bool = False
    ) -> AsyncGenerator[dict[str, Any], None]:  # Any: JSON values
        """Changes below a directory as they happen, for ever: leave the loop to end it.

        Each is `{"type": "change", "event": "created"|"modified"|"deleted"|"renamed", "path": …}`. `timeout`: seconds
        for the stream to be opened. `ready`: `{"type": "ready"}` comes first; from then on no change is missed.

        >>> async with aclosing(sandbox.files.watch("/tmp", ready=True)) as changes:
        ...     async for change in changes:
        ...         if change["type"] == "ready":
        ...             await sandbox.files.write("/tmp/new.txt", "x")
        ...         else:
        ...             print(change["path"])
        ...             break
        /tmp/new.txt
        """
        socket = await self._agent.socket("/files/watch", OPEN_S if timeout is None else timeout)
        try:
            await socket.send(json.dumps({"action": "watch", "path": path, "ready": ready}))
            async for change in AsyncMessages(socket, "changes", endless=True):
                yield change
        finally:
            await socket.close()


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content
