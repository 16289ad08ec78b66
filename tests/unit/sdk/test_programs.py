"""A program's connection, with the server's end scripted."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from atoll import AgentError, AtollError, NetworkError, Program, ProgramOutput, ValidationError
from atoll.sdk._async.programs import AsyncProgram
from atoll.sdk._core import programs
from atoll.sdk._core.programs import PIECE, WINDOW

FIRST = {"argv": ["bash"]}
START = {"type": "start", "id": "p1", "name": "bash"}
END = {"type": "exit", "code": 3, "message": "out of time"}


class Wire:
    """What the server says is put in; what it is told comes out."""

    def __init__(self, *said: Any) -> None:
        self.incoming: queue.Queue[Any] = queue.Queue()
        self.told: queue.Queue[str | bytes] = queue.Queue()
        for each in said:
            self.say(each)

    def say(self, message: Any) -> None:
        self.incoming.put(message if isinstance(message, bytes | None) else json.dumps(message))

    def receive(self) -> str | bytes | None:
        return self.incoming.get(timeout=10)

    def send(self, message: str | bytes) -> None:
        self.told.put(message)

    def close(self) -> None:
        self.say(None)


class AsyncWire(Wire):
    async def receive(self) -> str | bytes | None:
        return await asyncio.to_thread(super().receive)

    async def send(self, message: str | bytes) -> None:
        super().send(message)

    async def close(self) -> None:
        super().close()


def begun(*said: Any) -> Program:
    program = Program(Wire(START, *said))
    program._begin(FIRST)
    return program


def test_output_comes_as_bytes_and_at_last_the_exit_code():
    program = begun(b"O\xff\x00", b"Eerr", END)
    assert (program.process_id, program.exit_code) == ("p1", None)
    assert list(program) == [ProgramOutput(b"\xff\x00"), ProgramOutput(b"err", is_stderr=True)]
    assert (program.exit_code, program.message) == (3, "out of time")


def test_the_first_that_is_told_is_what_to_start():
    wire = Wire(START)
    Program(wire)._begin(FIRST)
    assert json.loads(wire.told.get_nowait()) == FIRST


def test_what_came_before_the_start_is_not_lost():
    """A program that is not there has no start."""
    program = Program(Wire(b"Enonsense: command not found\n", {**END, "code": 127}))
    program._begin(FIRST)
    assert program.exit_code == 127
    assert [piece.is_stderr for piece in program] == [True]


def test_a_loop_that_was_left_is_gone_on_with():
    program = begun(b"Oone", b"Otwo", END)
    assert next(program).data == b"one"
    assert [piece.data for piece in program] == [b"two"]


@pytest.mark.parametrize("code", ["PROCESS_NOT_FOUND", "INVALID_REQUEST", 7])
def test_an_error_is_raised_with_the_servers_words(code):
    with pytest.raises(AgentError, match="why not"):
        Program(Wire({"type": "error", "code": code, "message": "why not"}))._begin(FIRST)


@pytest.mark.parametrize("said", [b"\xff", b"", {"type": "start"}, {}, [], "text"], ids=str)
def test_a_server_that_says_odd_things_is_survived(said):
    program = begun(said, {"type": "exit", "code": "odd"})
    list(program)
    assert program.exit_code == 1


def test_a_connection_that_breaks_is_said():
    with pytest.raises(AtollError, match="broke"):
        list(begun(None))


def test_after_we_have_left_nothing_is_heard_or_written():
    program = begun()
    program.close()
    assert list(program) == []
    assert program.exit_code is None
    with pytest.raises(NetworkError):
        program.write(b"x")


def test_a_broken_connection_is_none_when_we_have_left():
    class Broken(Wire):
        def receive(self) -> str | bytes | None:
            if (message := super().receive()) is None:
                raise NetworkError("closed")
            return message

    program = Program(Broken(START))
    program._begin(FIRST)
    leaving = threading.Timer(0.05, program.close)
    leaving.start()
    assert list(program) == []
    leaving.join()


def test_input_waits_until_there_is_room_for_it():
    wire = Wire()
    program = Program(wire)
    pieces, extra = WINDOW // PIECE, 3
    writing = threading.Thread(target=program.write, args=(bytes(PIECE * (pieces + extra)),))
    writing.start()
    for _ in range(pieces):
        assert len(wire.told.get(timeout=10)) == PIECE
    assert wire.told.empty()
    wire.say({"type": "taken", "bytes": PIECE * extra})
    wire.say(b"Oheard")
    assert next(program).data == b"heard"
    writing.join(10)
    assert not writing.is_alive()
    assert wire.told.qsize() == extra


async def test_input_of_the_async_form_waits_too():
    wire = AsyncWire()
    program = AsyncProgram(wire)
    writing = asyncio.create_task(program.write(bytes(WINDOW + PIECE)))
    for _ in range(WINDOW // PIECE):
        await asyncio.to_thread(wire.told.get, timeout=10)
    assert not writing.done()
    reading = asyncio.create_task(program.__anext__())
    wire.say({"type": "taken", "bytes": PIECE})
    await writing
    wire.say(b"Oheard")
    assert (await reading).data == b"heard"
    assert wire.told.qsize() == 1


@pytest.mark.parametrize("ends", [Program.close, lambda program: list(program)], ids=["left", "ended"])
def test_who_waits_for_room_hears_of_the_end(ends):
    program = Program(Wire(END))
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(program.write, bytes(WINDOW * 2))
        ends(program)
        assert isinstance(writing.exception(10), NetworkError)


def test_more_is_never_taken_than_was_sent():
    """A lying server opens no larger window."""
    wire = Wire({"type": "taken", "bytes": 10**12}, {"type": "taken", "bytes": -(10**12)}, b"O")
    program = Program(wire)
    next(program)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(program.write, bytes(WINDOW * 2))
        for _ in range(WINDOW // PIECE):
            wire.told.get(timeout=10)
        assert wire.told.empty()
        program.close()
        assert isinstance(writing.exception(10), NetworkError)


def test_what_to_start_has_everything_on_the_wire():
    said = programs.order(("ls", "-l"), {"A": "1"}, "/tmp", "root", 5.0, True, (80, 24), True, "name")
    assert said == {
        "argv": ["ls", "-l"],
        "env": {"A": "1"},
        "workdir": "/tmp",
        "user": "root",
        "timeout": 5.0,
        "stdin": True,
        "pty": {"cols": 80, "rows": 24},
        "keep": True,
        "name": "name",
    }


def test_a_line_of_shell_is_no_list_of_words(form, server, account):
    with pytest.raises(ValidationError, match=r"commands\.run"):
        form.run(lambda: form.sandbox("sb1", **account).programs.start("ls -l"))
    assert server.heard == []
