"""Programs in a sandbox, byte for byte."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from atoll.sdk._core import agent, programs
from atoll.sdk._core.errors import NetworkError
from atoll.sdk._core.models import ProgramOutput
from atoll.sdk._core.read import Json
from atoll.sdk._sio import Condition

from .client import OPEN_S, Agent

if TYPE_CHECKING:
    from atoll.sdk._sio_sockets import Socket


class Program:
    """A program in a sandbox: its input, its output as it comes, and its exit code.

    Leaving it ends the program, unless it was started to be kept. `process_id` is what `attach` knows it by;
    `exit_code` is None until it has ended, and `message` what else there is to say of its end.

    >>> with sandbox.programs.start(["sh", "-c", "tr a-z A-Z; exit 3"], stdin=True) as program:
    ...     program.write(b"hello")
    ...     program.end_input()
    ...     print(b"".join([piece.data for piece in program]))
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

    def write(self, data: bytes) -> None:
        """Writes to its standard input, and waits until all of it is on its way.

        Beyond 1 MiB that it has not read, this waits for it, and somebody else (a task, a thread) has to read its
        output meanwhile. Raises NetworkError when it has ended.

        >>> with sandbox.programs.start(["head", "-c", "2"], stdin=True) as program:
        ...     program.write(b"hello")
        ...     print([piece.data for piece in program])
        [b'he']
        """
        for at in range(0, len(data), programs.PIECE):
            piece = data[at : at + programs.PIECE]
            self._take_room(len(piece))
            self._socket.send(piece)

    def _take_room(self, needed: int) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._is_over or self._room >= needed)
            if self._is_over:
                raise NetworkError("The program has ended, or was left")
            self._room -= needed

    @property
    def _is_over(self) -> bool:
        return self._left or self.exit_code is not None

    def end_input(self) -> None:
        """Says that there is no more input.

        >>> with sandbox.programs.start(["cat"], stdin=True) as program:
        ...     program.end_input()
        ...     print([piece for piece in program], program.exit_code)
        [] 0
        """
        self._tell({"type": "eof"})

    def resize(self, cols: int, rows: int) -> None:
        """Says how many columns and rows its terminal has now.

        >>> with sandbox.programs.start(["bash"], terminal=(80, 24), stdin=True) as program:
        ...     program.resize(100, 30)
        ...     program.write(b"stty size; exit\\n")
        ...     print(b"30 100" in b"".join([piece.data for piece in program]))
        True
        """
        self._tell({"type": "resize", **programs.size(cols, rows)})

    def signal(self, name: str) -> None:
        """Sends a signal to it and to what it has started.

        >>> with sandbox.programs.start(["sleep", "60"]) as program:
        ...     program.signal("SIGTERM")
        ...     print([piece for piece in program], program.exit_code)
        [] 143
        """
        self._tell({"type": "signal", "signal": name})

    def _tell(self, message: Json) -> None:
        self._socket.send(json.dumps(message))

    # ---- out

    def __iter__(self) -> Program:
        """Its output as it comes, until it ends or is left. A loop over it can be left and gone on with."""
        return self

    def __next__(self) -> ProgramOutput:
        if self._early:
            return self._early.popleft()
        while not self._is_over:
            if (piece := self._next()) is not None:
                return piece
        raise StopIteration

    def _begin(self, first: Json) -> None:
        """Waits until it is known whether it runs. One that is not there says so in its output, and exits."""
        self._tell(first)
        while not (self.process_id or self._is_over):
            if (piece := self._next()) is not None:
                self._early.append(piece)

    def _next(self) -> ProgramOutput | None:
        """None for what only this class minds."""
        raw = self._receive()
        if isinstance(raw, bytes):
            return programs.output(raw)
        message = (None if raw is None else agent.message(raw)) or {}
        match message.get("type"):
            case "start":
                self.process_id = programs.started_id(message)
            case "taken":
                with self._turn:
                    self._room = min(programs.WINDOW, self._room + programs.taken(message))
                    self._turn.notify_all()
            case "exit":
                with self._turn:
                    self.exit_code, self.message = programs.ending(message)
                    self._turn.notify_all()
        return None

    def _receive(self) -> str | bytes | None:
        """None when it was left meanwhile."""
        try:
            raw = self._socket.receive()
        except NetworkError:
            if self._left:
                return None
            raise
        if raw is None and not self._left:
            raise agent.broke_off("the program")
        return raw

    # ---- leaving

    def close(self) -> None:
        """Leaves it: it ends, unless it is kept. May be called from elsewhere while it is read or written.

        >>> program = sandbox.programs.start(["sleep", "60"])
        >>> program.close()
        """
        with self._turn:
            self._left = True
            self._turn.notify_all()
        self._socket.close()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Programs:
    """`sandbox.programs`: programs with their standard streams as bytes, and terminals that can be left.

    >>> with sandbox.programs.start(["printf", r"\\377"]) as program:
    ...     print([piece.data for piece in program])
    [b'\\xff']
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def start(
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
    ) -> Program:
        """Starts a program; no shell reads its words. One that is not there has the exit code 127.

        `user`: `user`, `root`, or a name of the sandbox. `timeout` (seconds): then it is ended, and the exit code is
        124. `stdin`: it reads what is written; else there is nothing to read. `terminal`: columns and rows of one that
        it runs in. `keep`: it goes on when it is left, and `attach` comes back to it.

        >>> with sandbox.programs.start(["sh", "-c", "echo out; echo err >&2"], user="root") as program:
        ...     for piece in sorted([piece for piece in program], key=lambda piece: piece.is_stderr):
        ...         print(piece.data, piece.is_stderr)
        b'out\\n' False
        b'err\\n' True
        """
        first = programs.order(argv, env, working_dir, user, timeout, stdin, terminal, keep, name)
        return self._open(first)

    def attach(self, process_id: str) -> Program:
        """Comes back to a program that was started with `keep`: the last MiB of its output first, then what follows.

        Raises AgentError when it is not there.

        >>> with sandbox.programs.start(["sh", "-c", "echo on; sleep 60"], keep=True) as program:
        ...     pass
        >>> with sandbox.programs.attach(program.process_id) as again:
        ...     for piece in again:
        ...         print(piece.data)
        ...         again.signal("SIGKILL")
        b'on\\n'
        """
        return self._open({"id": process_id})

    def _open(self, first: Json) -> Program:
        program = Program(self._agent.socket(programs.PATH, OPEN_S))
        try:
            program._begin(first)
        except BaseException:
            program.close()
            raise
        return program
