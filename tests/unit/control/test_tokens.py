import stat
from pathlib import Path

import jwt

from atoll.control.tokens import TokenIssuer, load_or_make_key
from atoll.dialects.hopx import render
from atoll.edge.tokens import TokenVerifier
from atoll.testing.clock import FakeClock


def test_the_edge_accepts_what_the_server_issues(tmp_path: Path):
    clock = FakeClock()
    path = tmp_path / "server" / "token.key"
    token = TokenIssuer(load_or_make_key(path), clock).issue("a" * 20)
    claims = TokenVerifier(path, clock.now).verify(token.text)
    assert (claims.sandbox_id, claims.expires_at) == ("a" * 20, token.expires_at)


def test_a_token_says_what_was_agreed():
    clock = FakeClock()
    token = TokenIssuer(b"k" * 32, clock).issue("a" * 20)
    claims = jwt.decode(token.text, b"k" * 32, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False})
    assert claims["sub"] == "a" * 20
    assert claims["iat"] == clock.now()
    assert claims["exp"] == clock.now() + 24 * 3600
    assert claims["jti"]


def test_the_key_is_made_once_and_private(tmp_path: Path):
    path = tmp_path / "token.key"
    key = load_or_make_key(path)
    assert len(key) == 32
    assert load_or_make_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().strip()) == 64


def test_refreshes_in_the_same_moment_expire_strictly_later_also_as_they_are_shown():
    issuer, clock = TokenIssuer(b"k" * 32, FakeClock()), FakeClock()
    shown = [render.token(issuer.issue("a" * 20))["token_expires_at"] for _ in range(50)]
    assert shown == sorted(set(shown))
    assert issuer.issue("b" * 20).expires_at == clock.now() + 24 * 3600, "each sandbox counts for itself"


def test_a_clock_that_was_set_back_does_not_make_a_refresh_earlier():
    clock = FakeClock()
    issuer = TokenIssuer(b"k" * 32, clock)
    first = issuer.issue("a" * 20)
    clock.advance(-3600)
    assert issuer.issue("a" * 20).expires_at > first.expires_at


def test_no_two_tokens_are_the_same():
    issuer = TokenIssuer(b"k" * 32, FakeClock())
    assert len({issuer.issue("a" * 20).text for _ in range(10)}) == 10
