from __future__ import annotations

from atoll.agent.rings import Ring


def test_order_of_both_streams_is_kept():
    ring = Ring()
    for kind, data in [(b"O", b"a"), (b"O", b"b"), (b"E", b"x"), (b"O", b"c")]:
        ring.append(kind, data)
    assert list(ring.segments()) == [(b"O", b"ab"), (b"E", b"x"), (b"O", b"c")]
    assert (ring.stdout(), ring.stderr()) == ("abc", "x")


def test_the_oldest_bytes_go_first_and_are_counted():
    ring = Ring(limit=10)
    ring.append(b"E", b"123456")
    ring.append(b"O", b"abcdefg")
    assert (ring.stderr(), ring.stdout(), ring.size, ring.truncated) == ("456", "abcdefg", 10, 3)
    ring.append(b"O", b"x" * 100)
    assert (ring.stderr(), ring.stdout(), ring.truncated) == ("", "x" * 10, 103)


def test_single_bytes_do_not_cost_an_object_each():
    ring = Ring()
    for _ in range(100_000):
        ring.append(b"O", b"x")
    assert len(list(ring.segments())) < 10


def test_clearing_counts_what_is_lost():
    ring = Ring()
    ring.append(b"O", b"abc")
    ring.clear()
    assert (ring.size, ring.truncated, ring.stdout()) == (0, 3, "")


def test_text_that_is_not_utf8_is_replaced():
    ring = Ring()
    ring.append(b"O", b"a\xffb")
    assert ring.stdout() == "a\ufffdb"
