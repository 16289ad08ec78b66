"""The bytes of RFC 1928 and RFC 1929."""

from __future__ import annotations

import pytest

from atoll.wire import socks5
from atoll.wire.socks5 import MEANING, Kind, Reply, SocksError


def test_a_greeting_offers_one_method():
    assert socks5.greeting(password=False) == b"\x05\x01\x00"
    assert socks5.greeting(password=True) == b"\x05\x01\x02"


def test_credentials_are_two_fields_with_their_lengths():
    assert socks5.credentials("ann", "pass") == b"\x01\x03ann\x04pass"
    assert socks5.credentials("token", "") == b"\x01\x05token\x00"
    assert socks5.credentials("é", "p") == b"\x01\x02\xc3\xa9\x01p"


@pytest.mark.parametrize(("username", "password"), [("", "p"), ("a" * 256, "p"), ("a", "s3cret" * 50)])
def test_credentials_that_do_not_fit_are_refused_and_not_said(username, password):
    with pytest.raises(SocksError) as error:
        socks5.credentials(username, password)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("host", "raw"),
    [
        ("203.0.113.7", b"\x01\xcb\x00\x71\x07"),
        ("2001:db8::1", b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01"),
        ("example.com", b"\x03\x0bexample.com"),
    ],
)
def test_a_request_has_an_address_or_a_name(host, raw):
    encoded = socks5.connect_request(host, 443)
    assert encoded == b"\x05\x01\x00" + raw + b"\x01\xbb"
    kind, rest = encoded[3], encoded[4:]
    assert len(rest) == 1 + socks5.address_length(kind, rest[0])
    assert socks5.decode_address(kind, rest) == (host, 443)


def test_a_name_of_more_than_255_bytes_is_refused():
    with pytest.raises(SocksError):
        socks5.connect_request("a" * 256, 80)


@pytest.mark.parametrize(
    ("raw", "password", "why"),
    [
        (b"\x05\xff", False, "wants a username"),
        (b"\x05\xff", True, "takes no username"),
        (b"\x04\x00", False, "not speak SOCKS5"),
        (b"HT", False, "not speak SOCKS5"),
        (b"\x05\x02", False, "not offered"),
        (b"\x05\x00", True, "not offered"),
        (b"\x05\x01", True, "not offered"),
    ],
)
def test_another_method_than_the_one_offered_is_an_error(raw, password, why):
    with pytest.raises(SocksError, match=why):
        socks5.chosen_method(raw, password)


def test_the_method_that_was_offered_is_taken():
    socks5.chosen_method(b"\x05\x00", password=False)
    socks5.chosen_method(b"\x05\x02", password=True)


def test_a_password_is_right_only_with_zero():
    socks5.password_verdict(b"\x01\x00")
    for raw in (b"\x01\x01", b"\x01\xff", b"\x05\x00"):
        with pytest.raises(SocksError):
            socks5.password_verdict(raw)


@pytest.mark.parametrize("code", range(256))
def test_every_reply_but_zero_is_an_error_that_says_what_it_means(code):
    head = bytes((5, code, 0, Kind.IPV4))
    if code == 0:
        return socks5.reply_verdict(head)
    with pytest.raises(SocksError) as error:
        socks5.reply_verdict(head)
    known = {reply.value: text for reply, text in MEANING.items()}
    assert str(error.value) == known.get(code, f"an unknown failure, {code}")
    return None


def test_every_failure_has_a_meaning():
    assert MEANING.keys() == set(Reply) - {Reply.DONE}


@pytest.mark.parametrize("head", [b"\x04\x00\x00\x01", b"\x05\x00\x01\x01", b"HTTP"])
def test_a_reply_of_another_protocol_is_an_error(head):
    with pytest.raises(SocksError, match="not speak SOCKS5"):
        socks5.reply_verdict(head)


def test_a_reply_says_how_long_it_is():
    for host in ("1.2.3.4", "2001:db8::1", "a.example", "a" * 255):
        raw = socks5.reply(Reply.DONE, host, 1080)
        assert len(raw) == 5 + socks5.address_length(raw[3], raw[4])
    with pytest.raises(SocksError):
        socks5.address_length(2, 0)
