"""What the server signed: a sandbox token, a link and a door are three things, and none passes for another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jwt
import pytest

from atoll.control.tokens import TokenIssuer
from atoll.edge.tokens import LinkClaims, TokenExpired, TokenInvalid, TokenVerifier
from atoll.testing.clock import FakeClock

KEY = bytes.fromhex("5e" * 32)
A = "a" * 20
LINK = {"aud": "atoll-link", "sub": A, "port": 8000, "exp": 2_000_000_000}
Check = Callable[[TokenVerifier, str], object]
CHECKS: dict[str, Check] = {
    "token": TokenVerifier.verify,
    "link": TokenVerifier.verify_link,
    "door": TokenVerifier.verify_door,
}


def signed(key: bytes = KEY, algorithm: str = "HS256", **claims: object) -> str:
    return jwt.encode({name: value for name, value in (LINK | claims).items() if value is not ...}, key, algorithm)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def verifier(tmp_path: Path, clock: FakeClock) -> TokenVerifier:
    path = tmp_path / "token.key"
    path.write_text(KEY.hex())
    return TokenVerifier(path, clock.now)


@pytest.fixture
def issuer(clock: FakeClock) -> TokenIssuer:
    return TokenIssuer(KEY, clock)


def test_a_link_says_what_it_is_for_and_until_when(verifier: TokenVerifier, issuer: TokenIssuer, clock: FakeClock):
    link = issuer.link(A, 8000, 60)
    assert verifier.verify_link(link.text) == LinkClaims(A, 8000, link.expires_at)
    assert link.expires_at == clock.now() + 60


def test_a_door_is_worth_what_its_link_was(verifier: TokenVerifier, issuer: TokenIssuer):
    for port in (0, 1, 65535):
        claims = verifier.verify_link(issuer.link(A, port, 60).text)
        assert verifier.verify_door(verifier.make_door(claims)) == claims


def test_two_links_for_the_same_are_two(issuer: TokenIssuer):
    assert issuer.link(A, 8000, 60).text != issuer.link(A, 8000, 60).text


@pytest.mark.parametrize("made", CHECKS)
@pytest.mark.parametrize("read", CHECKS)
def test_none_passes_for_another(verifier: TokenVerifier, issuer: TokenIssuer, made: str, read: str):
    link = issuer.link(A, 8000, 60)
    door = verifier.make_door(verifier.verify_link(link.text))
    text = {"token": issuer.issue(A).text, "link": link.text, "door": door}[made]
    CHECKS[made](verifier, text)  # remembered as what it is
    if made == read:
        CHECKS[read](verifier, text)
    else:
        with pytest.raises(TokenInvalid):
            CHECKS[read](verifier, text)


@pytest.mark.parametrize("aud", ["", "atoll-link", "other", [], ["atoll-link"], None, 0])
def test_a_sandbox_token_has_no_audience_whatever_it_says(verifier: TokenVerifier, aud: object):
    with pytest.raises(TokenInvalid):
        verifier.verify(jwt.encode({"sub": A, "exp": 2_000_000_000, "aud": aud}, KEY))


@pytest.mark.parametrize("read", ["link", "door"])
@pytest.mark.parametrize(
    "claims",
    [
        {"key": b"x" * 32},
        {"key": KEY * 2, "algorithm": "HS512"},
        {"aud": ...},
        {"aud": None},
        {"aud": []},
        {"aud": ["atoll-link", "atoll-door"]},
        {"aud": "ATOLL-LINK"},
        {"aud": "atoll-link "},
        {"sub": ...},
        {"sub": "../x"},
        {"sub": ""},
        {"exp": ...},
        {"exp": "soon"},
        {"port": ...},
        {"port": -1},
        {"port": 65536},
        {"port": "8000"},
        {"port": 8000.0},
        {"port": True},
        {"port": None},
    ],
    ids=str,
)
def test_what_is_forged_or_incomplete_opens_nothing(verifier: TokenVerifier, read: str, claims: dict):
    text = signed(**({"aud": f"atoll-{read}"} | claims))
    with pytest.raises(TokenInvalid):
        CHECKS[read](verifier, text)


@pytest.mark.parametrize("read", ["link", "door"])
@pytest.mark.parametrize("text", ["", "a.b.c", "ü.ü.ü", "\ud800.a.b", jwt.encode(LINK, None, "none")])
def test_what_is_no_jwt_of_ours_opens_nothing(verifier: TokenVerifier, read: str, text: str):
    with pytest.raises(TokenInvalid):
        CHECKS[read](verifier, text)


def test_link_and_door_end_together_also_when_remembered(
    verifier: TokenVerifier, issuer: TokenIssuer, clock: FakeClock
):
    link = issuer.link(A, 8000, 60)
    door = verifier.make_door(verifier.verify_link(link.text))
    clock.advance(59)
    verifier.verify_door(door)
    clock.advance(1)
    for check, text in ((verifier.verify_link, link.text), (verifier.verify_door, door)):
        with pytest.raises(TokenExpired):
            check(text)


def test_without_the_key_no_door_is_made(tmp_path: Path):
    with pytest.raises(TokenInvalid):
        TokenVerifier(tmp_path / "none").make_door(LinkClaims(A, 8000, 2_000_000_000))
