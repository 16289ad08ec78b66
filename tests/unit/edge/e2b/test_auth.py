"""Signed addresses of files, paths and users: pure."""

from __future__ import annotations

import base64
import hashlib

import pytest

from atoll.edge.auth import Unauthorized
from atoll.edge.e2b.auth import Admission, Shown, admit, check_signature, signature, signed_by
from atoll.edge.e2b.call import basic_user, resolve
from atoll.wire.connect import ConnectError

TOKEN, NOW = "atoll_at_x", 1_700_000_000.0


def signed(path="/a b", operation="read", username="user", **more):
    return {"path": path, "username": username, "signature": signature(path, operation, username, TOKEN), **more}


def shown(method="GET", path="/files", query=None, *tokens):
    return Shown(method, path, query or {}, tokens)


def asked(given):
    return admit(given, lambda text: text == TOKEN, TOKEN, NOW)


def test_a_signature_is_what_the_packages_compute():
    text = "/home/user/ä:write:user:atoll_at_x:1700000100"
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    assert signature("/home/user/ä", "write", "user", TOKEN, "1700000100") == f"v1_{digest}"


def test_a_signed_address_opens_its_file_and_nothing_else():
    assert asked(shown(query=signed())) is Admission.HOLDER
    assert asked(shown("HEAD", query=signed())) is Admission.HOLDER
    assert asked(shown("POST", query=signed(operation="write"))) is Admission.HOLDER
    for wrong in (
        shown("POST", query=signed()),
        shown(query=signed() | {"path": "/other"}),
        shown(query=signed() | {"username": "root"}),
        shown(query=signed() | {"signature_expiration": "1800000000"}),
        shown(query=signed() | {"signature": "v1_ä"}),
    ):
        with pytest.raises(Unauthorized, match=r"^invalid signature$"):
            asked(wrong)


def test_a_plus_that_nobody_escaped_is_one():
    query = next(each for i in range(1000) if "+" in (each := signed(path=f"/{i}"))["signature"])
    assert asked(shown(query=query | {"signature": query["signature"].replace("+", " ")})) is Admission.HOLDER


@pytest.mark.parametrize(("until", "fails"), [("1700000000", False), ("1699999999", True), ("soon", True), ("", True)])
def test_a_signature_ends(until, fails):
    query = {"path": "/a", "signature_expiration": until, "signature": signature("/a", "read", "", TOKEN, until)}
    if not fails:
        check_signature(query, "read", TOKEN, NOW)
        return
    with pytest.raises(Unauthorized, match=r"^signature is already expired$"):
        check_signature(query, "read", TOKEN, NOW)


def test_a_signature_names_the_sandbox_whose_token_made_it():
    tokens = [("a", "atoll_at_a"), ("b", TOKEN), ("c", "atoll_at_c")]
    until = signed(signature_expiration="1700000100")
    until |= {"signature": signature("/a b", "read", "user", TOKEN, "1700000100")}
    for query in (signed(), until):
        assert signed_by(query, "read", tokens, NOW) == "b"
        with pytest.raises(Unauthorized, match=r"^invalid signature$"):
            signed_by(query, "write", tokens, NOW)
        with pytest.raises(Unauthorized, match=r"^invalid signature$"):
            signed_by(query, "read", [("a", "atoll_at_a")], NOW)
    with pytest.raises(Unauthorized, match=r"^signature is already expired$"):
        signed_by(until, "read", tokens, NOW + 1000)


@pytest.mark.parametrize("given", ["", "v1_", "v1_" + "A" * 42, "v1_" + "A" * 44, "v1_" + "ä" * 43, "v2_" + "A" * 43])
def test_what_has_not_the_form_of_a_signature_is_compared_with_nobodys(given):
    def tokens():
        pytest.fail("somebody's token was looked at")
        yield "", ""

    with pytest.raises(Unauthorized, match=r"^invalid signature$"):
        signed_by({"path": "/a", "signature": given}, "read", tokens(), NOW)


def test_a_signature_has_one_spelling():
    """The last letter of 43 has two bits that mean nothing."""
    query = signed()
    last = query["signature"][-1]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = query | {"signature": query["signature"][:-1] + letters[letters.index(last) ^ 1]}
    with pytest.raises(Unauthorized, match=r"^invalid signature$"):
        signed_by(other, "read", [("b", TOKEN)], NOW)


def test_the_words_for_what_is_missing_or_wrong():
    with pytest.raises(Unauthorized, match=r"^missing signature query parameter$"):
        asked(shown())
    with pytest.raises(Unauthorized, match=r"^access token present in header but does not match$"):
        asked(shown("GET", "/files", signed(), "other"))
    with pytest.raises(Unauthorized, match=r"^unauthorized access"):
        asked(shown("POST", "/files/compose", signed()))


def test_the_token_opens_everything_and_health_is_open():
    for path in ("/files", "/envs", "/process.Process/List"):
        assert asked(shown("POST", path, {}, TOKEN)) is Admission.HOLDER
    assert asked(shown("GET", "/health")) is Admission.ANYBODY
    assert asked(shown("GET", "/health", {}, "wrong")) is Admission.ANYBODY
    assert asked(shown("GET", "/health", {}, TOKEN)) is Admission.HOLDER


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/a/../b", "/a/../b"),
        ("a", "~/a"),
        ("./~", "~/./~"),
        ("", "~"),
        ("~", "~"),
        ("~/x", "~/x"),
        ("..", "~/.."),
    ],
)
def test_paths_begin_at_home(given, path):
    assert resolve(given, "~") == path


@pytest.mark.parametrize("given", ["a\0b", "~root/x", "x" * 4097])
def test_what_is_no_path(given):
    with pytest.raises(ConnectError):
        resolve(given, "~")


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("Basic dXNlcjo=", "user"),
        ("basic cm9vdDpwYXNz", "root"),
        ("Basic cm9vdA==", "root"),
        ("Basic ?", ""),
        ("Basic /w==", ""),
        ("Bearer cm9vdDo=", ""),
        ("", ""),
    ],
)
def test_users(sent, name):
    assert basic_user(sent) == name
