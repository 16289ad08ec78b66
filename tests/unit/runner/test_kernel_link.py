from __future__ import annotations

import ipaddress
import json
from types import SimpleNamespace

import pytest

from atoll.agent.runner import kernel_link
from atoll.agent.runner.kernel_link import DELIMITER, Message

KEY = b"key"
PARTS = [
    json.dumps(part).encode() for part in ({"msg_type": "status"}, {"msg_id": "1"}, {}, {"execution_state": "idle"})
]


def signed(parts: list[bytes], key: bytes = KEY) -> list[bytes]:
    return [b"topic", DELIMITER, kernel_link.sign(key, parts), *parts]


def test_a_signed_message_is_read_whatever_follows_it():
    expected = Message("status", "1", {"execution_state": "idle"})
    assert kernel_link.parse(KEY, signed(PARTS)) == expected
    assert kernel_link.parse(KEY, [*signed(PARTS), b"a buffer"]) == expected


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"topic"],
        [DELIMITER],
        [DELIMITER, b"x"],
        signed(PARTS, b"another key"),
        signed([*PARTS[:3], b"{"]),
        signed([*PARTS[:3], b"[1]"]),
        signed([b"{}", *PARTS[1:]]),
        signed([PARTS[0], b"[]", *PARTS[2:]]),
        signed([*PARTS[:3], b"[" * 100_000]),
        [*signed(PARTS)[:-1], b"{}"],
    ],
)
def test_what_is_not_signed_or_no_message_is_passed_over(frames):
    assert kernel_link.parse(KEY, frames) is None


def test_each_kernel_has_an_address_of_its_own_that_no_service_has():
    one, other = kernel_link.new_connection(), kernel_link.new_connection()
    assert one.ip != other.ip
    assert one.key != other.key
    assert all(ipaddress.ip_address(each.ip) in ipaddress.ip_network("127.64.0.0/10") for each in (one, other))
    assert len(set(one.ports.values())) == 5
    assert one.content("x")["transport"] == "tcp"
    assert one.address("shell_port") == f"tcp://{one.ip}:{one.ports['shell_port']}"


def test_a_kernel_that_publishes_without_end_leaves_the_others_their_turn():
    class Endless:
        def recv_multipart(self, _flags: int) -> list[bytes]:
            return signed(PARTS)

    link = object.__new__(kernel_link.Link)
    link._zmq, link._key = SimpleNamespace(NOBLOCK=1, Again=BlockingIOError), KEY
    assert len(list(link.received(Endless()))) == kernel_link.AT_ONCE
