"""Envelopes are read in one way however they arrive, and written they are the same again. Whatever a message holds, its
fields are values of the type they are asked for or a ConnectError that names them, and go through JSON unchanged."""

from __future__ import annotations

import json

from atoll.wire import connect, proto_json
from atoll.wire.connect import ConnectError, Envelope, EnvelopeReader, Object
from fuzz.cuts import cut

LIMIT = 200
NAMES = ("a", "aB", "path", "pid")
NUMBERS = {"ONE": 1, "TWO": 2}

Outcome = tuple[list[Envelope], int, str]
"""What came whole, bytes of what did not, and the code of the error that ended it."""


def check(data: bytes) -> None:
    outcome = read([data])
    assert outcome == read(cut(data)), outcome
    envelopes, held, error = outcome
    written = b"".join(connect.envelope(each.payload, each.flags) for each in envelopes)
    assert data.startswith(written)
    assert error or held == len(data) - len(written)
    for each in envelopes:
        assert len(each.payload) <= LIMIT
        look_at(each.payload)
    look_at(data)
    try:
        seconds = connect.deadline_of(data[:20].decode("latin-1"))
        assert seconds is None or 0 < seconds < 10**7  # ten digits of milliseconds
    except ConnectError as refused:
        assert refused.status == 400


def read(pieces: list[bytes]) -> Outcome:
    reader, found = EnvelopeReader(LIMIT), list[Envelope]()
    try:
        for piece in pieces:
            for each in reader.feed(piece):
                found.append(each)
    except ConnectError as error:
        return found, 0, error.code
    assert reader.at_boundary() == (reader.held == 0)
    assert reader.held < LIMIT + connect.HEADER.size
    return found, reader.held, ""


def look_at(raw: bytes) -> None:
    try:
        message = connect.parse(raw)
    except ConnectError as error:
        assert error.status == 400
        return
    for name in NAMES:
        for look in LOOKS:
            try:
                look(message, name)
            except ConnectError as error:
                assert error.status == 400
                assert repr(name) in error.message


def a_text(message: Object, name: str) -> None:
    text = proto_json.text(message, name)
    assert text.encode().decode() == text
    assert text == (proto_json.optional_text(message, name) or "")


def a_number(message: Object, name: str) -> None:
    number = proto_json.whole(message, name)
    assert 0 <= number < 2**32
    assert proto_json.whole({name: str(number)}, name) == number
    for seconds in (number, number * 1e6, -number * 1e6):
        assert proto_json.timestamp(seconds).endswith("Z")
    assert proto_json.without_defaults({name: number}) == ({name: number} if number else {})


def a_blob(message: Object, name: str) -> None:
    data = proto_json.blob(message, name)
    assert proto_json.blob({name: proto_json.base64_bytes(data).decode()}, name) == data


def a_choice(message: Object, name: str) -> None:
    assert isinstance(proto_json.choice(message, name, NUMBERS), int)


def a_map(message: Object, name: str) -> None:
    found = proto_json.text_map(message, name)
    assert json.loads(connect.dump(found)) == found


def texts(message: Object, name: str) -> None:
    assert all(text.encode() is not None for text in proto_json.texts(message, name))


def others(message: Object, name: str) -> None:
    proto_json.boolean(message, name)
    assert proto_json.has(message, name) or proto_json.part(message, name) == {}


LOOKS = (a_text, a_number, a_blob, a_choice, a_map, texts, others)
