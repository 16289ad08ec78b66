"""Sandbox tokens: JWTs that the edge can check without asking anybody. They end with the sandbox's route."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import jwt

from atoll.core.access import access_token
from atoll.core.ingress import LINK_AUDIENCE, VOLUME_AUDIENCE
from atoll.core.ports import Clock
from atoll.core.secrets import told_placeholder

LIFETIME_S = 24 * 3600.0
VOLUME_LIFETIME_S = 7 * 24 * 3600.0
SMALLEST_STEP_S = 0.001


@dataclass(frozen=True)
class Token:
    text: str
    expires_at: float


class TokenIssuer:
    def __init__(self, key: bytes, clock: Clock, lifetime_s: float = LIFETIME_S) -> None:
        self._key = key
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._last_expiry: dict[str, float] = {}

    def issue(self, sandbox_id: str) -> Token:
        """Each one expires strictly later than the one before; clients compare."""
        now = self._clock.now()
        expires_at = max(now + self._lifetime_s, self._last_expiry.get(sandbox_id, 0.0) + SMALLEST_STEP_S)
        expires_at = round(expires_at, 6)
        self._last_expiry[sandbox_id] = expires_at
        claims = {"sub": sandbox_id, "iat": int(now), "exp": expires_at, "jti": secrets.token_hex(8)}
        return Token(jwt.encode(claims, self._key, algorithm="HS256"), expires_at)

    def link(self, sandbox_id: str, port: int, seconds: int) -> Token:
        """`port`: `core.ingress.link_port`. What it is for is in its audience, so that it is no sandbox token."""
        now = self._clock.now()
        expires_at = round(now + seconds, 6)
        facts = {"aud": LINK_AUDIENCE, "sub": sandbox_id, "port": port, "iat": int(now), "exp": expires_at}
        return Token(jwt.encode({**facts, "jti": secrets.token_hex(8)}, self._key, algorithm="HS256"), expires_at)

    def volume(self, volume_id: str) -> Token:
        """Shows and changes the volume's files."""
        now = self._clock.now()
        expires_at = round(now + VOLUME_LIFETIME_S, 6)
        facts = {"aud": VOLUME_AUDIENCE, "sub": volume_id, "iat": int(now), "exp": expires_at}
        return Token(jwt.encode({**facts, "jti": secrets.token_hex(8)}, self._key, algorithm="HS256"), expires_at)

    def access(self, sandbox_id: str) -> str:
        """`core.access`: the same at any time."""
        return access_token(self._key, sandbox_id)

    def placeholder(self, organization_id: int, secret: str) -> str:
        """`core.secrets.told_placeholder`."""
        return told_placeholder(self._key, organization_id, secret)

    def forget(self, sandbox_id: str) -> None:
        self._last_expiry.pop(sandbox_id, None)


def load_or_make_key(path: Path) -> bytes:
    """A new key is in place whole or not at all: the edge reads it, too."""
    try:
        return bytes.fromhex(path.read_text().strip())
    except FileNotFoundError:
        write_secret(path, secrets.token_hex(32))
        return bytes.fromhex(path.read_text().strip())


def write_secret(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    staging.unlink(missing_ok=True)
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    staging.rename(path)
