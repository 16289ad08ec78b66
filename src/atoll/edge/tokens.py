"""Sandbox tokens: JWTs that the server signed for one sandbox. Checked here without asking anybody."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jwt
from jwt.types import Options

MAX_REMEMBERED = 4096
MIN_KEY_BYTES = 32  # HS256 with less is guessable (RFC 7518, 3.2)


class TokenInvalid(Exception):
    pass


class TokenExpired(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Claims:
    sandbox_id: str
    expires_at: float


CHECKS: Options = {"require": ["sub", "exp"], "verify_exp": False, "verify_iat": False}
"""Expiry is compared in `verify`, with our clock. A clock that was set back a little must not refuse a fresh token."""


def looks_like_token(credential: str) -> bool:
    return credential.count(".") == 2


class TokenVerifier:
    """The key is read when it is first needed: the server may make it after the edge has started."""

    def __init__(self, key_file: Path, clock: Callable[[], float] = time.time) -> None:
        self._key_file = key_file
        self._clock = clock
        self._key: bytes | None = None
        self._remembered: dict[str, Claims] = {}

    def verify(self, token: str) -> Claims:
        claims = self._remembered.get(token) or self._check(token)
        if claims.expires_at <= self._clock():
            self._remembered.pop(token, None)
            raise TokenExpired
        return claims

    def _check(self, token: str) -> Claims:
        try:
            data = jwt.decode(token, self._read_key(), algorithms=["HS256"], options=CHECKS)
            claims = Claims(str(data["sub"]), float(data["exp"]))
        except (jwt.InvalidTokenError, TypeError, ValueError) as error:
            raise TokenInvalid from error
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[token] = claims
        return claims

    def _read_key(self) -> bytes:
        if self._key is None:
            try:
                key = bytes.fromhex(self._key_file.read_text().strip())
            except (OSError, ValueError) as error:
                raise TokenInvalid("no usable signing key yet") from error
            if len(key) < MIN_KEY_BYTES:
                raise TokenInvalid("the signing key is too short")
            self._key = key
        return self._key
