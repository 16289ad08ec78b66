from __future__ import annotations

import random
import time

import pytest

from atoll.edge.multipart import MAX_PART_HEAD, MAX_PARTS, Data, Mark, Multipart, MultipartError, PartHead

TYPE = 'multipart/form-data; boundary="x-y"'


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--x-y\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


END = b"--x-y--\r\n"


def parse(raw: bytes, step: int, content_type: str = TYPE) -> list[tuple[str, bytes]]:
    parser, parts = Multipart(content_type), []
    for at in range(0, len(raw), step):
        piece = raw[at : at + step]
        while piece:
            room = parser.room()
            count = min(len(room), len(piece))
            room[:count], piece = piece[:count], piece[count:]
            parser.filled(count)
            while not isinstance(event := parser.next_event(), Mark):
                match event:
                    case PartHead(name):
                        parts.append((name, b""))
                    case Data(data):
                        parts[-1] = (parts[-1][0], parts[-1][1] + bytes(data))
    assert parser.ended
    return parts


CONTENTS = [
    b"",
    b"x",
    b"\r\n",
    b"\r",
    b"\r\n--x-",
    b"\r\n--x-z\r\n",
    b"--x-y--",
    b"\r\r\n--x\r\n\r\n-y",
    bytes(range(256)) * 3,
]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("step", [1, 2, 7, 10**6])
def test_content_comes_out_as_it_went_in_however_it_arrives(content, step) -> None:
    raw = part("path", b"/a") + part("file", content, '; filename="f"') + END
    assert parse(raw, step) == [("path", b"/a"), ("file", content)]


def test_content_made_of_pieces_of_the_boundary() -> None:
    chance = random.Random(5)
    pieces = [b"\r", b"\n", b"-", b"x", b"y", b"\r\n", b"\r\n--", b"\r\n--x-", b"--x-y"]
    for _ in range(200):
        content = b"".join(chance.choices(pieces, k=chance.randrange(40))).replace(b"\r\n--x-y", b"")
        if b"\r\n--x-y" in b"\r\n" + content:
            continue
        assert parse(part("file", content) + END, chance.randrange(1, 9)) == [("file", content)]


def test_content_larger_than_the_buffer() -> None:
    content = random.Random(1).randbytes(1_500_000)
    assert parse(part("file", content) + END, 100_000) == [("file", content)]


@pytest.mark.parametrize("around", [(b"preamble\r\n", b""), (b"", b"epilogue"), (b"--x-\r\n", b"\r\n--x-y\r\n")])
def test_what_is_around_the_parts_is_dropped(around) -> None:
    before, after = around
    assert parse(before + part("a", b"1") + END + after, 3) == [("a", b"1")]


def test_a_part_without_headers_has_no_name_and_padding_is_skipped() -> None:
    assert parse(b"--x-y \t\r\n\r\nbody\r\n--x-y--", 1) == [("", b"body")]


def test_no_parts_at_all() -> None:
    assert parse(END, 1) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"--x-yz\r\n",
        b"--x-y" + b" " * 500 + b"\r\n",
        b"--x-y\r\nno colon\r\n\r\n",
        b"--x-y\r\nContent-Transfer-Encoding: base64\r\n\r\n",
        b"--x-y\r\nA: " + b"a" * (MAX_PART_HEAD + 10),
        part("a", b"") * (MAX_PARTS + 1),
    ],
)
@pytest.mark.parametrize("step", [1, 10**6])
def test_what_is_malformed_is_refused(raw, step) -> None:
    with pytest.raises(MultipartError):
        parse(raw, step)


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=é", "x; boundary=" + "b" * 300]
)
def test_a_boundary_is_required(content_type) -> None:
    with pytest.raises(MultipartError):
        Multipart(content_type)


@pytest.mark.parametrize(
    ("more", "filename"),
    [
        ('; filename="a;b.txt"', "a;b.txt"),
        (r'; filename="a\"b\\c"', 'a"b\\c'),
        (r'; filename="C:\dir\f"', r"C:\dir\f"),
        ("; filename=a b.txt ", "a b.txt"),
        (" ; FileName = one; filename=two", "one"),
        ("; filename*=UTF-8''%c3%a9%20x", "é x"),
        ("; filename*=UTF-8''other; filename=plain", "plain"),
        ('; x="; filename=hidden"', ""),
        ('; filename="open', ""),
        ("", ""),
    ],
)
def test_names_of_files(more, filename) -> None:
    parser, raw = Multipart(TYPE), part("file", b"x", more) + END
    parser.room()[: len(raw)] = raw
    parser.filled(len(raw))
    assert parser.next_event() == PartHead("file", filename)


@pytest.mark.parametrize("filler", [";", ' x="', r';x="\"', ";x", "; ", ";x=y"])
def test_heads_are_read_in_time_that_grows_with_their_length_alone(filler) -> None:
    """Sixty of them were a minute of everybody's."""
    head = part("other", b"z", '; x="' + filler * (15_000 // len(filler)))
    began = time.process_time()
    assert len(parse(head * 60 + END, 512 * 1024)) == 60
    assert time.process_time() - began < 5
