"""Files of a sandbox."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from atoll.sdk._core import agent
from atoll.sdk._core.local import LocalPath, Source
from atoll.sdk._core.models import FileInfo, file_info
from atoll.sdk._core.read import flag, objects, text
from atoll.sdk._sio import blocking

from .client import OPEN_S, Agent, Messages, pieces_of, save

OnProgress = Callable[[int, int | None], object]
"""Called with the bytes that are done, and those of the whole when that is known."""


class Files:
    """`sandbox.files`. Paths are those of the sandbox; relative ones are below its working directory.

    `timeout` is in seconds without an answer, or a byte of it. What is not there is a FileNotFoundError, what the
    sandbox's user may not touch a FileOperationError.

    >>> sandbox.files.write("/workspace/hello.txt", "hello")
    >>> sandbox.files.read("/workspace/hello.txt")
    'hello'
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def read(self, path: str, *, timeout: float | None = None) -> str:
        """Reads a text file (UTF-8, up to 64 MiB; bytes that are none become �).

        >>> sandbox.files.write("/workspace/a.txt", "one")
        >>> sandbox.files.read("/workspace/a.txt")
        'one'
        """
        return text(self._agent.call(agent.read(path, timeout)).get("content"))

    def read_bytes(self, path: str, *, timeout: float | None = None) -> bytes:
        """Reads a file into memory; `iter_bytes` and `download` do not.

        >>> sandbox.files.write_bytes("/workspace/a.bin", bytes([0, 255]))
        >>> sandbox.files.read_bytes("/workspace/a.bin")
        b'\\x00\\xff'
        """
        return self._agent.send(agent.download(path, timeout)).body

    def iter_bytes(self, path: str, *, timeout: float | None = None) -> Generator[bytes, None, None]:
        """Reads a file piece by piece.

        >>> sandbox.files.write("/workspace/a.txt", "one")
        >>> for piece in sandbox.files.iter_bytes("/workspace/a.txt"):
        ...     print(piece)
        b'one'
        """
        incoming = self._agent.open(agent.download(path, timeout))
        try:
            yield from incoming.pieces()
        finally:
            incoming.close()

    def write(self, path: str, content: str, mode: str = "0644", *, timeout: float | None = None) -> None:
        """Writes a text file (UTF-8), with the directories above it. `mode`: octal permissions.

        >>> sandbox.files.write("/workspace/run.sh", "echo done", mode="0755")
        >>> sandbox.commands.run("./run.sh").stdout
        'done\\n'
        """
        self.write_bytes(path, content.encode(), mode, timeout=timeout)

    def write_bytes(self, path: str, content: bytes, mode: str = "0644", *, timeout: float | None = None) -> None:
        """Writes a file, with the directories above it. `mode`: octal permissions.

        >>> sandbox.files.write_bytes("/workspace/deep/a.bin", b"one")
        >>> sandbox.commands.run("cat deep/a.bin").stdout
        'one'
        """
        if len(content) <= agent.AT_ONCE:
            self._agent.call(agent.write(path, content, mode, timeout))
            return
        self.write_stream(path, _one(content), size=len(content), timeout=timeout)
        if mode != agent.DEFAULT_MODE:
            self._agent.call(agent.command(agent.chmod(path, mode), 30, None, "/", background=False))

    def write_stream(
        self,
        path: str,
        pieces: Iterable[bytes],
        *,
        size: int | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Writes a file from pieces as they come, in constant memory; returns its size in bytes.

        `size`: how much will come, where that is known.

        >>> def pieces():
        ...     for number in range(3):
        ...         yield b"%d" % number
        >>> sandbox.files.write_stream("/workspace/numbers", pieces())
        3
        """
        upload, done = agent.upload(path), 0

        def body() -> Iterator[bytes]:
            nonlocal done
            yield upload.prefix
            for piece in pieces:
                yield piece
                done += len(piece)
                if on_progress is not None:
                    on_progress(done, size)
            yield upload.suffix

        self._agent.upload(upload.request(size, timeout), body())
        return done

    def list(self, path: str = "/workspace", *, timeout: float | None = None) -> builtins.list[FileInfo]:
        """Lists a directory.

        >>> sandbox.files.write("/workspace/listed/a.txt", "one")
        >>> [entry.name for entry in sandbox.files.list("/workspace/listed")]
        ['a.txt']
        """
        data = self._agent.call(agent.list_files(path, timeout))
        return [file_info(each) for each in objects(data.get("files"))]

    def upload(
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
        >>> sandbox.files.upload("report.csv", "/workspace/report.csv")
        >>> sandbox.files.read("/workspace/report.csv")
        'a,b'
        """
        source = blocking(Source, local_path)
        try:
            self.write_stream(
                remote_path, pieces_of(source), size=source.size, timeout=timeout, on_progress=on_progress
            )
        finally:
            blocking(source.close)

    def download(
        self,
        remote_path: str,
        local_path: LocalPath,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Copies a file of the sandbox to a local one, in constant memory: whole or not at all.

        >>> sandbox.files.write("/workspace/result.txt", "42")
        >>> sandbox.files.download("/workspace/result.txt", "result.txt")
        >>> Path("result.txt").read_text()
        '42'
        """
        incoming = self._agent.open(agent.download(remote_path, timeout))
        try:
            save(incoming, local_path, on_progress)
        finally:
            incoming.close()

    def exists(self, path: str, *, timeout: float | None = None) -> bool:
        """Whether there is such a file or directory, as far as the sandbox's user can see.

        >>> sandbox.files.exists("/workspace"), sandbox.files.exists("/nowhere")
        (True, False)
        """
        return flag(self._agent.call(agent.exists(path, timeout)).get("exists"))

    def remove(self, path: str, *, timeout: float | None = None) -> None:
        """Removes a file, or a directory with all that is in it.

        >>> sandbox.files.write("/workspace/old/a.txt", "one")
        >>> sandbox.files.remove("/workspace/old")
        >>> sandbox.files.exists("/workspace/old")
        False
        """
        self._agent.call(agent.remove(path, timeout))

    def mkdir(self, path: str, *, timeout: float | None = None) -> None:
        """Makes a directory and those above it; one that is there is all right.

        >>> sandbox.files.mkdir("/workspace/a/b/c")
        >>> sandbox.files.exists("/workspace/a/b")
        True
        """
        self._agent.call(agent.mkdir(path, timeout))

    def watch(
        self, path: str = "/workspace", *, timeout: float | None = None, ready: bool = False
    ) -> Generator[dict[str, Any], None, None]:  # Any: JSON values
        """Changes below a directory as they happen, for ever: leave the loop to end it.

        Each is `{"type": "change", "event": "created"|"modified"|"deleted"|"renamed", "path": …}`. `timeout`: seconds
        for the stream to be opened. `ready`: `{"type": "ready"}` comes first; from then on no change is missed.

        >>> with closing(sandbox.files.watch("/tmp", ready=True)) as changes:
        ...     for change in changes:
        ...         if change["type"] == "ready":
        ...             sandbox.files.write("/tmp/new.txt", "x")
        ...         else:
        ...             print(change["path"])
        ...             break
        /tmp/new.txt
        """
        socket = self._agent.socket("/files/watch", OPEN_S if timeout is None else timeout)
        try:
            socket.send(json.dumps({"action": "watch", "path": path, "ready": ready}))
            yield from Messages(socket, "changes", endless=True)
        finally:
            socket.close()


def _one(content: bytes) -> Iterator[bytes]:
    yield content
