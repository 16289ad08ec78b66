from __future__ import annotations

from pathlib import Path

import jwt
import pytest

from atoll.edge.auth import Authenticator, Unauthorized, credential_of
from atoll.edge.tokens import TokenExpired, TokenInvalid, TokenVerifier

KEY = bytes.fromhex("5e" * 32)
A, B = "a" * 20, "b" * 20


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def token(key: bytes = KEY, algorithm: str = "HS256", **claims: object) -> str:
    return jwt.encode({"sub": A, "exp": 2000, **claims}, key, algorithm=algorithm)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "token.key"
    path.write_text(KEY.hex() + "\n")
    return path


def test_good_token_names_its_sandbox(key_file: Path) -> None:
    assert TokenVerifier(key_file, Clock()).verify(token()).sandbox_id == A


def test_remembered_token_still_expires(key_file: Path) -> None:
    clock = Clock()
    verifier = TokenVerifier(key_file, clock)
    verifier.verify(token())
    clock.now = 2000.0
    with pytest.raises(TokenExpired):
        verifier.verify(token())


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "a.b.c",
        token(key=b"x" * 32),
        token(key=KEY * 2, algorithm="HS512"),
        jwt.encode({"sub": A, "exp": 2000}, None, algorithm="none"),
        jwt.encode({"sub": A}, KEY, algorithm="HS256"),
        jwt.encode({"exp": 2000}, KEY, algorithm="HS256"),
    ],
)
def test_forged_or_incomplete_token_is_invalid(bad: str, key_file: Path) -> None:
    with pytest.raises(TokenInvalid):
        TokenVerifier(key_file, Clock()).verify(bad)


def test_key_made_after_the_start_is_found(tmp_path: Path) -> None:
    path = tmp_path / "token.key"
    verifier = TokenVerifier(path, Clock())
    with pytest.raises(TokenInvalid):
        verifier.verify(token())
    path.write_text(KEY.hex())
    assert verifier.verify(token()).sandbox_id == A


@pytest.mark.parametrize("text", ["", "zz", "5e" * 8])
def test_key_that_is_none_or_short_admits_nobody(text: str, tmp_path: Path) -> None:
    path = tmp_path / "token.key"
    path.write_text(text)
    with pytest.raises(TokenInvalid):
        TokenVerifier(path, Clock()).verify(token())


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ({"Authorization": "Bearer x.y.z"}, "x.y.z"),
        ({"Authorization": "bearer  x "}, "x"),
        ({"X-API-Key": "k"}, "k"),
        ({"Authorization": "Bearer t", "X-API-Key": "k"}, "t"),
        ({"Authorization": "Basic abc"}, None),
        ({"Authorization": "Bearer "}, None),
        ({}, None),
    ],
)
def test_credential_comes_from_either_header(headers: dict[str, str], credential: str | None) -> None:
    assert credential_of(headers) == credential


class Asked:
    def __init__(self, allowed: bool) -> None:
        self.allowed = allowed
        self.count = 0

    async def __call__(self, credential: str, sandbox_id: str) -> bool:
        self.count += 1
        return self.allowed


async def test_token_of_another_sandbox_is_refused(key_file: Path) -> None:
    auth = Authenticator(TokenVerifier(key_file, Clock()), Asked(True))
    with pytest.raises(Unauthorized):
        await auth.authorize({"Authorization": f"Bearer {token()}"}, B)


async def test_yes_for_a_key_is_kept_five_seconds_for_that_sandbox_only(key_file: Path) -> None:
    clock, asked = Clock(), Asked(True)
    auth = Authenticator(TokenVerifier(key_file), asked, clock)
    for _ in range(3):
        await auth.authorize({"X-API-Key": "k"}, A)
    assert asked.count == 1
    await auth.authorize({"X-API-Key": "k"}, B)
    clock.now += 5.0
    await auth.authorize({"X-API-Key": "k"}, A)
    assert asked.count == 3


async def test_no_for_a_key_is_not_kept(key_file: Path) -> None:
    asked = Asked(False)
    auth = Authenticator(TokenVerifier(key_file), asked)
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await auth.authorize({"X-API-Key": "k"}, A)
    assert asked.count == 2


# Through the whole edge


async def test_missing_wrong_and_expired_credentials(client, kit, agent) -> None:
    agent.answers("GET", "/env", {"env": {"A": "1"}})
    cases = [
        ("", 401, "INVALID_TOKEN"),
        (kit.token_for(kit.OTHER), 401, "INVALID_TOKEN"),
        (kit.token_for(kit.SANDBOX, key="00" * 32), 401, "INVALID_TOKEN"),
        (kit.token_for(kit.SANDBOX, lifetime_s=-1), 401, "TOKEN_EXPIRED"),
        ("some-key", 401, "INVALID_TOKEN"),
        (kit.API_KEY, 200, None),
        (kit.token_for(kit.SANDBOX), 200, None),
    ]
    for credential, status, code in cases:
        client.token = credential
        got, body = await client.call("GET", "/env")
        assert (got, body.get("code")) == (status, code), credential
        assert isinstance(body.get("error", ""), str)


async def test_api_key_header_opens_a_sandbox(session, origin, kit, agent) -> None:
    agent.answers("GET", "/env", {"env": {"A": "1"}})
    async with session.get(f"{origin}/s/{kit.SANDBOX}/env", headers={"X-API-Key": kit.API_KEY}) as answer:
        assert answer.status == 200


async def test_health_without_a_token_says_one_word(session, origin, kit, agent) -> None:
    agent.answers("GET", "/health", {"status": "ok", "version": "9", "uptime_s": 1.0, "python": True})
    async with session.get(f"{origin}/s/{kit.SANDBOX}/health") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "healthy"})
    async with session.get(f"{origin}/s/{kit.SANDBOX}/info") as answer:
        assert answer.status == 401


async def test_unauthorized_caller_learns_nothing_of_a_sandbox(session, origin, kit) -> None:
    for sandbox in (kit.SANDBOX, kit.OTHER):
        async with session.get(f"{origin}/s/{sandbox}/env") as answer:
            assert answer.status == 401
