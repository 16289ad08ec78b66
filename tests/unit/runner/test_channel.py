import json
import os
import socket

import pytest

from atoll.agent.runner import channel as module
from atoll.agent.runner.channel import Channel, clean, encode_bundle, encode_value, shorten
from atoll.agent.runner.interrupts import Interrupts
from atoll.wire import frames


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours, Interrupts()), theirs


def sent(sock: socket.socket) -> list[dict]:
    sock.setblocking(False)
    try:
        data = sock.recv(1 << 20)
    except BlockingIOError:
        return []
    return [frame.json() for frame in frames.FrameDecoder().feed(data)]


def test_requests_in_one_packet_come_one_by_one(pair):
    channel, theirs = pair
    theirs.sendall(frames.encode_json({"n": 1}) + frames.encode_json({"n": 2}))
    assert channel.receive() == {"n": 1}
    assert channel.has_request()
    assert channel.receive() == {"n": 2}


def test_request_split_anywhere_is_whole(pair):
    channel, theirs = pair
    data = frames.encode_json({"code": "1+1"})
    theirs.sendall(data[:7])
    pid = os.fork()
    if pid == 0:
        theirs.sendall(data[7:])
        os._exit(0)
    assert channel.receive() == {"code": "1+1"}
    os.waitpid(pid, 0)


@pytest.mark.parametrize("data", [b"", b"X\0\0\0\0", frames.encode(frames.JSON, b"{")])
def test_end_and_nonsense_are_the_end(pair, data):
    channel, theirs = pair
    theirs.sendall(data)
    theirs.shutdown(socket.SHUT_WR)
    assert channel.receive() is None


def test_nothing_is_published_outside_a_cell(pair):
    channel, theirs = pair
    assert not channel.publish("display", {"text/plain": "early"})
    channel.begin()
    assert channel.publish("display", {"text/plain": "in"})
    channel.end("ok", 1)
    assert not channel.publish("display", {"text/plain": "late"})
    assert [one["type"] for one in sent(theirs)] == ["display", "end"]


def test_bundle_of_more_values_than_the_edge_reads_loses_those_above(monkeypatch):
    monkeypatch.setattr(module, "MAX_VALUES", 100)
    data = {"a/json": [1] * 60, "text/html": "[1]," * 100, "b/json": {"x": [2] * 60}, "c/json": [3] * 30}
    found = json.loads(encode_bundle("display", data, {}))
    assert found["data"].pop("text/plain") == "[b/json left out: 127 bytes, above the limit]"
    assert found["data"] == {name: data[name] for name in ("a/json", "text/html", "c/json")}


def test_bundle_above_the_total_loses_what_does_not_fit(monkeypatch):
    monkeypatch.setattr(module, "MAX_BUNDLE", 100)
    found = json.loads(encode_bundle("display", {"text/html": "x" * 60, "text/latex": "y" * 60}, {}))
    assert found["data"] == {"text/html": "x" * 60, "text/plain": "[text/latex left out: 62 bytes, above the limit]"}


def test_large_metadata_is_dropped():
    assert json.loads(encode_bundle("display", {}, {"x": "y" * 100_000}))["metadata"] == {}


def test_value_nested_without_end_is_named():
    loop: list = []
    loop.append(loop)
    assert json.loads(encode_value(loop))


@pytest.mark.parametrize(("value", "expected"), [(float("inf"), None), ({1, 2} - {2}, "{1}"), (b"x", "b'x'")])
def test_values_that_json_does_not_know(value, expected):
    assert json.loads(encode_value(value)) == expected


def test_clean_leaves_good_text_alone():
    assert clean("é €") == "é €"
    assert clean("a\ud800") == "a\\ud800"


def test_shorten_says_how_much_there_was():
    assert shorten("abc", 3) == "abc"
    assert shorten("abcd", 3) == "abc\n… [cut: 4 characters in all]"
