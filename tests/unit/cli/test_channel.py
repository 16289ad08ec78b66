"""A program's connection, with the edge's end scripted."""

from __future__ import annotations

import json
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedOK

from atoll.cli.channel import PIECE, WINDOW, Exit, Left, Order, Output, Program
from atoll.core.errors import InvalidInput, NotFound, Unavailable


class Wire:
    """What the edge says is put in; what it is told comes out."""

    def __init__(self, *said: Any) -> None:
        self.incoming: queue.Queue[Any] = queue.Queue()
        self.told: queue.Queue[str | bytes] = queue.Queue()
        for each in said:
            self.say(each)

    def say(self, message: Any) -> None:
        self.incoming.put(message if isinstance(message, bytes | None) else json.dumps(message))

    def recv(self) -> str | bytes:
        message = self.incoming.get(timeout=10)
        if message is None:
            raise ConnectionClosedOK(None, None)
        return message

    def send(self, message: str | bytes) -> None:
        self.told.put(message)

    def close(self) -> None:
        self.say(None)


START = {"type": "start", "id": "p1", "name": "bash"}
END = {"type": "exit", "code": 3, "message": ""}


def test_output_comes_as_bytes_and_at_last_the_exit_code() -> None:
    program = Program(Wire(START, b"O\xff\x00", b"Eerr", END))
    program.started()
    assert program.id == "p1"
    assert list(program.events()) == [Output(b"O", b"\xff\x00"), Output(b"E", b"err"), Exit(3, "")]


def test_what_came_before_the_start_is_not_lost() -> None:
    """A program that is not there has no start."""
    program = Program(Wire(b"Enonsense: command not found\n", {**END, "code": 127}))
    program.started()
    assert [type(each) for each in program.events()] == [Output, Exit]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("PROCESS_NOT_FOUND", NotFound),
        ("INVALID_REQUEST", InvalidInput),
        ("AGENT_TIMEOUT", Unavailable),
        (7, Unavailable),
    ],
)
def test_an_error_is_raised_with_the_edges_words(code: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="why not"):
        Program(Wire({"type": "error", "code": code, "message": "why not"})).started()


@pytest.mark.parametrize("said", [b"\xff", {"type": "start"}, {}, [], "text"], ids=str)
def test_an_edge_that_says_odd_things_is_survived(said: Any) -> None:
    program = Program(Wire(said, {"type": "exit", "code": "odd"}))
    assert list(program.events())[-1] == Exit(1, "")


def test_a_connection_that_breaks_is_said() -> None:
    with pytest.raises(Unavailable, match="broke"):
        list(Program(Wire(START, None)).events())


def test_after_we_have_left_nothing_is_heard_or_told() -> None:
    program = Program(Wire())
    program.close()
    with pytest.raises(Left):
        list(program.events())
    with pytest.raises(Left):
        program.write(b"x")


def test_input_waits_until_there_is_room_for_it() -> None:
    wire = Wire()
    program = Program(wire)
    pieces, extra = WINDOW // PIECE, 3
    writing = threading.Thread(target=program.write, args=(bytes(PIECE * (pieces + extra)),))
    writing.start()
    for _ in range(pieces):
        assert len(wire.told.get(timeout=10)) == PIECE
    assert wire.told.empty()
    wire.say({"type": "taken", "bytes": PIECE * extra})
    wire.say(END)
    assert list(program.events()) == [Exit(3, "")]
    writing.join(10)
    assert not writing.is_alive()
    assert wire.told.qsize() == extra


def test_who_waits_for_room_hears_of_the_end() -> None:
    program = Program(Wire())
    heard = threading.Event()

    def write() -> None:
        try:
            program.write(bytes(WINDOW * 2))
        except Left:
            heard.set()

    writing = threading.Thread(target=write)
    writing.start()
    program.close()
    assert heard.wait(10)
    writing.join()


def test_more_is_never_taken_than_was_sent() -> None:
    """A lying edge opens no larger window."""
    wire = Wire({"type": "taken", "bytes": 10**12}, {"type": "taken", "bytes": "x"}, END)
    program = Program(wire)
    list(program.events())
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(program.write, bytes(WINDOW * 2))
        for _ in range(WINDOW // PIECE):
            wire.told.get(timeout=10)
        assert wire.told.empty()
        program.close()
        assert isinstance(writing.exception(10), Left)


def test_an_order_has_everything_on_the_wire() -> None:
    order = Order(("ls", "-l"), {"A": "1"}, "/tmp", "root", 5.0, True, (80, 24), True, "name")
    assert order.to_wire() == {
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
