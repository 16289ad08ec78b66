"""How a sandbox's ports are reached: what may be said of it, and what comes of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from atoll.core.errors import InvalidInput
from atoll.core.ingress import (
    DEFAULT,
    MAX_MASK,
    NETWORK_FIELDS,
    Ingress,
    changes,
    from_wire,
    given_form,
    new_token,
    parse,
    to_wire,
    with_token,
)

GIVEN = {
    "web_port": 3000,
    "auto_resume": True,
    "allow_public_traffic": False,
    "mask_request_host": "localhost:${PORT}",
    "https_ports": [8443, 9443],
}


def test_everything_that_can_be_said() -> None:
    assert parse(GIVEN) == Ingress(3000, True, False, "localhost:${PORT}", (8443, 9443))


def test_absent_null_and_other_fields_are_nothing() -> None:
    assert parse({}) == parse(dict.fromkeys(GIVEN)) == parse({"deny_out": ["0.0.0.0/0"]}) == DEFAULT


def test_only_what_is_given_changes() -> None:
    assert changes({"https_ports": [], "mask_request_host": "", "auto_resume": None}) == {
        "https_ports": (),
        "mask_request_host": "",
    }


def test_ports_come_once_each_in_the_order_given() -> None:
    assert parse({"https_ports": [3, 1, 3]}).https_ports == (3, 1)


@pytest.mark.parametrize("port", [1, 8000, 65535])
def test_every_port_may_be_the_web_port(port: int) -> None:
    assert parse({"web_port": port}).web_port == port


@pytest.mark.parametrize("bad", [0, -1, 65536, True, "8000", 8000.0, [8000]])
def test_what_is_no_port_is_refused(bad: Any) -> None:
    for field, value in (("web_port", bad), ("https_ports", [bad])):
        with pytest.raises(InvalidInput, match=rf"{field} is a number from 1 to 65535"):
            parse({field: value})


@pytest.mark.parametrize("bad", [8443, "8443", {"8443": True}, list(range(1, 102))], ids=lambda it: str(it)[:20])
def test_what_is_no_list_of_ports_or_a_long_one_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidInput, match="https_ports is a list of up to 100 ports"):
        parse({"https_ports": bad})


@pytest.mark.parametrize("field", ["allow_public_traffic", "auto_resume"])
@pytest.mark.parametrize("bad", ["false", 0, 1, []])
def test_yes_and_no_are_true_and_false(field: str, bad: Any) -> None:
    with pytest.raises(InvalidInput, match=f"{field} is true or false"):
        parse({field: bad})


@pytest.mark.parametrize(
    "mask",
    [
        "",
        "localhost",
        "localhost:${PORT}",
        "${PORT}-x.example.com",
        "${PORT}",
        "Under_Score.example.com:8080",
        "10.0.0.1:${PORT}",
        "[::1]:${PORT}",
        "a" * 63 + ".example.com",
    ],
)
def test_a_mask_that_makes_a_host_is_taken_as_it_is(mask: str) -> None:
    assert parse({"mask_request_host": mask}).mask_request_host == mask


@pytest.mark.parametrize(
    "mask",
    [
        "-https://abcd",
        "https://example.com",
        "example.com/path",
        "user@example.com",
        "a b",
        "a\r\nX-Injected: 1",
        "example.com\n",
        "$PORT.example.com",
        "${port}.example.com",
        "${PORT",
        ":${PORT}",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:1${PORT}",
        "example.com:0${PORT}",
        "example..com",
        ".example.com",
        "-a.example.com",
        "a-.example.com",
        "a" * 64,
        "a" * 60 + "${PORT}",
        ".".join(["${PORT}"] * 43),
        "::1",
        "[::1",
        "[localhost]",
        "[::g]",
        "[1:2]",
    ],
)
def test_a_mask_that_makes_none_is_refused_in_the_agreed_words(mask: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse({"mask_request_host": mask})
    assert refused.value.message == f"mask request host is not valid: {mask[:MAX_MASK]}"


@pytest.mark.parametrize("mask", ["münchen.example", "\uff11.example", "\ud800"])
def test_a_mask_beyond_ascii_is_refused_in_the_agreed_words(mask: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse({"mask_request_host": mask})
    assert refused.value.message.endswith("' is not ASCII. Please use ASCII characters only.")
    refused.value.message.encode()


@pytest.mark.parametrize("bad", [1, True, ["localhost"]])
def test_a_mask_is_a_text(bad: Any) -> None:
    with pytest.raises(InvalidInput, match="mask_request_host is a text"):
        parse({"mask_request_host": bad})


# ---- the traffic token


def test_a_token_is_made_where_one_is_needed_and_stays() -> None:
    closed = with_token(parse({"allow_public_traffic": False}), "first")
    assert closed.token_in_force == "first"
    assert closed.traffic_digest == hashlib.sha256(b"first").hexdigest()
    assert with_token(closed, "second") == closed


def test_where_none_is_needed_there_is_none() -> None:
    opened = with_token(DEFAULT, "token")
    assert (opened.traffic_token, opened.token_in_force, opened.traffic_digest) == ("", "", "")


def test_an_opened_sandbox_keeps_its_token_without_using_it() -> None:
    opened = Ingress(allow_public_traffic=True, traffic_token="kept")
    assert (opened.token_in_force, opened.traffic_digest) == ("", "")


def test_tokens_are_long_and_each_is_new() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 43 for token in tokens), "256 bits"


def test_a_token_is_not_shown_by_chance() -> None:
    assert "s3cret" not in repr(Ingress(traffic_token="s3cret"))


# ---- writing it down


@pytest.mark.parametrize("ingress", [DEFAULT, parse(GIVEN), with_token(parse(GIVEN), "token")])
def test_what_was_written_is_read_again(ingress: Ingress) -> None:
    assert from_wire(json.loads(json.dumps(to_wire(ingress)))) == ingress


def test_defaults_take_no_room() -> None:
    assert to_wire(DEFAULT) == given_form(DEFAULT) == {}


def test_what_is_shown_is_what_was_given_in_network() -> None:
    shown = given_form(with_token(parse(GIVEN), "token"))
    assert shown == {name: GIVEN[name] for name in NETWORK_FIELDS}
