from __future__ import annotations

import pytest

from atoll.edge.e2b.conditions import Coding, coding, precondition, wanted_range

EARLY, NOW, LATE = (f"Thu, 01 Jan 1970 00:00:0{second} GMT" for second in (1, 5, 9))


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, Coding.IDENTITY),
        ("", Coding.IDENTITY),
        ("gzip", Coding.GZIP),
        ("gzip;q=0.5", Coding.GZIP),
        ("gzip, deflate, br, zstd", Coding.IDENTITY),
        ("gzip, identity", Coding.IDENTITY),
        ("*", Coding.IDENTITY),
        ("gzip, identity;q=0", Coding.GZIP),
        ("gzip, *;q=0", Coding.GZIP),
        ("*;q=0", Coding.NEITHER),
        ("br, identity;q=0", Coding.NEITHER),
        ("br", Coding.IDENTITY),
        ("gzip;q=0, identity;q=0", Coding.NEITHER),
        (";;;,=", Coding.IDENTITY),
    ],
)
def test_how_a_file_is_sent(header, wanted):
    assert coding(header) is wanted


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, None),
        ({"If-Modified-Since": NOW}, 304),
        ({"If-Modified-Since": LATE}, 304),
        ({"If-Modified-Since": EARLY}, None),
        ({"If-Modified-Since": "Thu, 01 Jan 1970 00:00:01 +99999999999999999"}, None),
        ({"If-Modified-Since": "Thu, 01 Jan 99999999999 00:00:01 GMT"}, None),
        ({"If-Unmodified-Since": EARLY}, 412),
        ({"If-Unmodified-Since": NOW}, None),
        ({"If-Modified-Since": "yesterday"}, None),
    ],
)
def test_when_a_file_is_wanted(headers, status):
    assert precondition(headers, NOW) == status
    assert precondition(headers, "") is None


@pytest.mark.parametrize(
    ("headers", "span"),
    [
        ({}, None),
        ({"Range": "bytes=0-1"}, "bytes=0-1"),
        ({"Range": "bytes=0-1", "If-Range": NOW}, "bytes=0-1"),
        ({"Range": "bytes=0-1", "If-Range": EARLY}, None),
        ({"Range": "bytes=0-1", "If-Range": '"tag"'}, None),
    ],
)
def test_which_part_is_wanted(headers, span):
    assert wanted_range(headers, NOW) == span


def test_a_condition_on_a_time_that_is_not_known_does_not_hold():
    assert wanted_range({"Range": "bytes=0-1", "If-Range": NOW}) is None
