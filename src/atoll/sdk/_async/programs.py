"""Programs in a sandbox, byte for byte."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from atoll.sdk._aio import Condition
from atoll.sdk._core import agent, programs
from atoll.sdk._core.errors import NetworkError
from atoll.sdk._core.models import ProgramOutput
from atoll.sdk._core.read import Json

from .client import OPEN_S, AsyncAgent

if TYPE_CHECKING:
    from atoll.sdk._aio_sockets import Socket


class AsyncProgram:
    """A program in a sandbox: its input, its output as it comes, and its exit code.

    Leaving it ends the program, unless it was started to be kept. `process_id` is what `attach` knows it by;
    `exit_code` is None until it has ended, and `message` what else there is to say of its end.

    >>> async with await sandbox.programs.start(["sh", "-c", "tr a-z A-Z; exit 3"], stdin=True) as program:
    ...     await program.write(b"hello")
    ...     await program.end_input()
    ...     print(b"".join([piece.data async for piece in program]))
    ...     print(program.exit_code)
    b'HELLO'
    3
    """

    def __init__(self, socket: Socket) -> None:
        self.process_id = ""
        self.exit_code: int | None = None
        self.message = ""
        self._socket = socket
        self._room = programs.WINDOW
        self._left = False
        self._early: deque[ProgramOutput] = deque()
        self._turn = Condition()

    # ---- in

    async def write(self, data: bytes) -> None:
        """Writes to its standard input, and waits until all of it is on its way.

        Beyond 1 MiB that it has not read, this waits for it, and somebody else (a task, a thread) has to read its
        output meanwhile. Raises NetworkError when it has ended.

        >>> async with await sandbox.programs.start(["head", "-c", "2"], stdin=True) as program:
        ...     await program.write(b"hello")
        ...     print([piece.data async for piece in program])
        [b'he']
        """
        for at in range(0, len(data), programs.PIECE):
            piece = data[at : at + programs.PIECE]
            await self._take_room(len(piece))
            await self._socket.send(piece)

    async def _take_room(self, needed: int) -> None:
        async with self._turn:
            await self._turn.wait_for(lambda: self._is_over or self._room >= needed)
            if self._is_over:
                raise NetworkError("The program has ended, or was left")
            self._room -= needed

    @property
    def _is_over(self) -> bool:
        return self._left or self.exit_code is not None

    async def end_input(self) -> None:
        """Says that there is no more input.

        >>> async with await sandbox.programs.start(["cat"], stdin=True) as program:
        ...     await program.end_input()
        ...     print([piece async for piece in program], program.exit_code)
        [] 0
        """
        await self._tell({"type": "eof"})

    async def resize(self, cols: int, rows: int) -> None:
        """Says how many columns and rows its terminal has now.

        >>> async with await sandbox.programs.start(["bash"], terminal=(80, 24), stdin=True) as program:
        ...     await program.resize(100, 30)
        ...     await program.write(b"stty size; exit\\n")
        ...     print(b"30 100" in b"".join([piece.data async for piece in program]))
        True
        """
        await self._tell({"type": "resize", **programs.size(cols, rows)})

    async def signal(self, name: str) -> None:
        """Sends a signal to it and to what it has started.

        >>> async with await sandbox.programs.start(["sleep", "60"]) as program:
        ...     await program.signal("SIGTERM")
        ...     print([piece async for piece in program], program.exit_code)
        [] 143
        """
        await self._tell({"type": "signal", "signal": name})

    async def _tell(self, message: Json) -> None:
        await self._socket.send(json.dumps(message))

    # ---- out

    def __aiter__(self) -> AsyncProgram:
        """Its output as it comes, until it ends or is left. A loop over it can be left and gone on with."""
        return self

    async def __anext__(self) -> ProgramOutput:
        if self._early:
            return self._early.popleft()
        while not self._is_over:
            if (piece := await self._next()) is not None:
                return piece
        raise StopAsyncIteration

    async def _begin(self, first: Json) -> None:
        """Waits until it is known whether it runs. One that is not there says so in its output, and exits."""
        await self._tell(first)
        while not (self.process_id or self._is_over):
            if (piece := await self._next()) is not None:
                self._early.append(piece)

    async def _next(self) -> ProgramOutput | None:
        """None for what only this class minds."""
        raw = await self._receive()
        if isinstance(raw, bytes):
            return programs.output(raw)
        message = (None if raw is None else agent.message(raw)) or {}
        match message.get("type"):
            case "start":
                self.process_id = programs.started_id(message)
            case "taken":
                async with self._turn:
                    self._room = min(programs.WINDOW, self._room + programs.taken(message))
                    self._turn.notify_all()
            case "exit":
                async with self._turn:
                    self.exit_code, self.message = programs.ending(message)
                    self._turn.notify_all()
        return None

    async def _receive(self) -> str | bytes | None:
        """None when it was left meanwhile."""
        try:
            raw = await self._socket.receive()
        except NetworkError:
            if self._left:
                return None
            raise
        if raw is None and not self._left:
            raise agent.broke_off("the program")
        return raw

    # ---- leaving

    async def close(self) -> None:
        """Leaves it: it ends, unless it is kept. May be called from elsewhere while it is read or written.

        >>> program = await sandbox.programs.start(["sleep", "60"])
        >>> await program.close()
        """
        async with self._turn:
            self._left = True
            self._turn.notify_all()
        await self._socket.close()

    async def __aenter__(self) -> AsyncProgram:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncPrograms:
    """`sandbox.programs`: programs with their standard streams as bytes, and terminals that can be left.

    >>> async with await sandbox.programs.start(["printf", r"\\377"]) as program:
    ...     print([piece.data async for piece in program])
    [b'\\xff']
    """

    def __init__(self, agent: AsyncAgent) -> None:
        self._agent = agent

    async def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        working_dir: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        stdin: bool = False,
        terminal: tuple[int, int] | None = None,
        keep: bool = False,
        name: str | None = None,
    ) -> AsyncProgram:
        """Starts a program; no shell reads its words. One that is not there has the exit code 127.

        `user`: `user`, `root`, or a name of the sandbox. `timeout` (seconds): then it is ended, and the exit code is
        124. `stdin`: it reads what is written; else there is nothing to read. `terminal`: columns and rows of one that
        it runs in. `keep`: it goes on when it is left, and `attach` comes back to it.

        >>> async with await sandbox.programs.start(["sh", "-c", "echo out; echo err >&2"], user="root") as program:
        ...     for piece in sorted([piece async for piece in program], key=lambda piece: piece.is_stderr):
        ...         print(piece.data, piece.is_stderr)
        b'out\\n' False
        b'err\\n' True
        """
        first = programs.order(argv, env, working_dir, user, timeout, stdin, terminal, keep, name)
        return await self._open(first)

    async def attach(self, process_id: str) -> AsyncProgram:
        """Comes back to a program that was started with `keep`: the last MiB of its output first, then what follows.

        Raises AgentError when it is not there.

        >>> async with await sandbox.programs.start(["sh", "-c", "echo on; sleep 60"], keep=True) as program:
        ...     pass
        >>> async with await sandbox.programs.attach(program.process_id) as again:
        ...     async for piece in again:
        ...         print(piece.data)
        ...         await again.signal("SIGKILL")
        b'on\\n'
        """
        return await self._open({"id": process_id})

    async def _open(self, first: Json) -> AsyncProgram:
        program = AsyncProgram(await self._agent.socket(programs.PATH, OPEN_S))
        try:
            await program._begin(first)
        except BaseException:
            await program.close()
            raise
        return program
