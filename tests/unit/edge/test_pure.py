"""The decisions that need no socket: outputs, paths, base64, languages, the error table."""

from __future__ import annotations

import base64
import json
import random

import pytest

from atoll.edge.hopx import languages, outcome
from atoll.edge.hopx.base64_guard import CanonicalCheck, Encoder, encoded_size
from atoll.edge.hopx.call import absolute, dump, path_argument
from atoll.edge.hopx.errors import FROM_AGENT, FROM_CORE, TABLE, Kind, SurfaceError
from atoll.edge.hopx.surface import ROUTES, find


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("path=%2Fworkspace%2Fa+b%2Bc%26d%25.txt", "/workspace/a b+c&d%.txt"),
        ("path=/workspace/a%20b+c&d%.txt", "/workspace/a b+c&d%.txt"),
        ("path=/a&timeout=3", "/a"),
        ("path=/a&b&timeout=3", "/a&b"),
        ("x=1&path=%2Fa", "/a"),
        ("path=a%2Bb", "a+b"),
        ("path=", ""),
        ("", ""),
        ("nopath=/a", ""),
        ("path=/%C3%A9", "/é"),
        ("path=/a=b", "/a=b"),
    ],
)
def test_path_of_escaping_and_of_careless_clients(query: str, path: str) -> None:
    assert path_argument(query) == path


def test_absolute_path() -> None:
    assert absolute("/a", "/w") == "/a"
    assert absolute("a", "/w") == "/w/a"
    for bad in ("/a\0", "/" + "a" * 4096):
        with pytest.raises(SurfaceError):
            absolute(bad, "/w")


def canonical(data: bytes) -> bool:
    try:
        return bool(data) and base64.b64encode(base64.b64decode(data, validate=True)) == data
    except ValueError:
        return False


def cases() -> list[bytes]:
    rng = random.Random(1)
    exact = [base64.b64encode(rng.randbytes(n)) for n in range(1, 40)]
    broken = [data[:at] + bytes([rng.choice(b"=\n-AB ")]) + data[at + 1 :] for data in exact for at in range(len(data))]
    return [b"", b"=", b"====", b"A===", b"AB==", b"AA==", b"AA=A", *exact, *broken]


@pytest.mark.parametrize("step", [1, 3, 4, 5, 1000])
def test_check_agrees_with_what_the_client_does(step: int) -> None:
    for data in cases():
        check = CanonicalCheck(len(data))
        for at in range(0, len(data), step):
            check.feed(data[at : at + step])
        assert check.possible == canonical(data), data


def test_file_longer_than_said_is_not_canonical() -> None:
    check = CanonicalCheck(4)
    check.feed(b"AAAAAAAA")
    assert not check.possible


def test_encoder_in_pieces_is_the_encoding_of_the_whole() -> None:
    data = bytes(range(256))
    for step in (1, 2, 3, 7, 300):
        encoder = Encoder()
        pieces = [piece for at in range(0, 256, step) for piece in encoder.feed(data[at : at + step])]
        encoded = b"".join([*pieces, *encoder.feed(b"", final=True)])
        assert encoded == base64.b64encode(data)
        assert len(encoded) == encoded_size(256)


def test_capture_replaces_bad_bytes_and_cuts_between_characters() -> None:
    capture = outcome.Capture(limit=5)
    capture.feed(b"ab" + b"\xff")
    assert capture.text() == "ab\ufffd"
    capture.feed("éé".encode())
    assert capture.text() == "ab\ufffdé\n[output truncated: 2 more bytes]\n"
    cut = outcome.Capture(limit=3)
    cut.feed("éé".encode())
    assert cut.text() == "é\n[output truncated: 1 more bytes]\n"


def test_chunks_never_split_a_character() -> None:
    text = "aé€😀" * 50
    for limit in (1, 2, 3, 5, 1000):
        chunks = outcome.Chunks(limit)
        assert "".join([*chunks.feed(text.encode()), *chunks.feed(b"", final=True)]) == text


def test_worst_chunk_fits_a_message() -> None:
    (piece,) = outcome.Chunks().feed(b"\x01" * outcome.MAX_CHUNK)
    assert len(dump({"type": "stdout", "data": piece, "timestamp": "x" * 40})) < 1024 * 1024


def test_answer_is_json_for_everybody() -> None:
    assert json.loads(dump({"x": [float("inf"), 1.5, {"y": float("nan")}], "s": "\ud800"})) == {
        "x": [None, 1.5, {"y": None}],
        "s": "\ud800",
    }


def test_every_kind_has_a_cell_and_nobody_else_a_kind() -> None:
    assert TABLE.keys() == set(Kind)
    assert set(FROM_AGENT.values()) <= set(Kind)
    from atoll.core.errors import ErrorKind

    assert FROM_CORE.keys() == set(ErrorKind)


def test_only_what_may_pass_is_a_status_that_clients_repeat() -> None:
    repeated = {kind for kind, cell in TABLE.items() if cell.status in (429, 500, 502, 503, 504)}
    assert repeated == {Kind.TOO_MANY, Kind.UNAVAILABLE, Kind.INTERNAL}


def test_codes_that_crash_the_async_client_are_only_where_unavoidable() -> None:
    crash = {"PATH_NOT_ALLOWED", "PERMISSION_DENIED", "EXECUTION_FAILED", "EXECUTION_TIMEOUT", "COMMAND_FAILED"}
    assert {cell.code for cell in TABLE.values()} & crash == {"PATH_NOT_ALLOWED"}


@pytest.mark.parametrize(
    "name", ["python", "python3", "node", "nodejs", "javascript", "js", "bash", "sh", "shell", "go"]
)
def test_contract_languages_are_known(name: str) -> None:
    assert languages.find(name)


@pytest.mark.parametrize(
    ("argv", "language"),
    [
        (["/usr/bin/python3", "-u"], "python"),
        (["sh", "x"], "bash"),
        (["{dir}/main"], "go"),
        (["/bin/main"], ""),
        (["nginx"], ""),
        ([], ""),
    ],
)
def test_language_of_a_running_process(argv: list[str], language: str) -> None:
    assert languages.language_of(argv) == language


def test_route_patterns() -> None:
    assert find("/execute/kill/p1") == ("/execute/kill/*", ("p1",))
    assert find("/processes/p1/kill") == ("/processes/*/kill", ("p1",))
    assert find("/processes/p1/kill/x") is None
    assert find("/execute") == ("/execute", ())
    assert all(find(path.replace("*", "x")) for path in ROUTES)
