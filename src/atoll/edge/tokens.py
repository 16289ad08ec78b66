"""What the server signed for one sandbox or volume, checked here without asking anybody: JWTs of four kinds.

    sandbox token   no `aud`             opens its agent and its ports
    link            `aud` atoll-link     in a URL, for a browser: opens one port, and is exchanged for
    door            `aud` atoll-door     the cookie that the edge makes of a link; it ends when the link does
    volume          `aud` atoll-volume   shows and changes a volume's files

None passes for another: what a token is for has to be said, word for word, and a sandbox token says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jwt
from jwt.types import Options

from atoll.core import access
from atoll.core.ids import is_sandbox_id
from atoll.core.ingress import LAST_PORT, LINK_AUDIENCE, OWN_HOST, VOLUME_AUDIENCE

MAX_REMEMBERED = 4096
MIN_KEY_BYTES = 32  # HS256 with less is guessable (RFC 7518, 3.2)
DOOR_AUDIENCE = "atoll-door"


class TokenInvalid(Exception):
    pass


class TokenExpired(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Claims:
    sandbox_id: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class LinkClaims:
    """Of a link, and of the door that is made of it."""

    sandbox_id: str
    port: int
    """Or `OWN_HOST`: what the sandbox's own host serves."""
    expires_at: float


C = TypeVar("C", Claims, LinkClaims)
Facts = dict[str, Any]  # Any: JSON values
Read = Callable[[Facts], C]

CHECKS: Options = {"require": ["sub", "exp"], "verify_exp": False, "verify_iat": False}
"""Expiry is compared in `verify`, with our clock. A clock that was set back a little must not refuse a fresh token."""
LINK_CHECKS: Options = {**CHECKS, "require": ["sub", "exp", "aud", "port"], "strict_aud": True}
VOLUME_CHECKS: Options = {**CHECKS, "require": ["sub", "exp", "aud"], "strict_aud": True}
CHECKS_OF: dict[str | None, Options] = {
    None: CHECKS,
    LINK_AUDIENCE: LINK_CHECKS,
    DOOR_AUDIENCE: LINK_CHECKS,
    VOLUME_AUDIENCE: VOLUME_CHECKS,
}


def looks_like_token(credential: str) -> bool:
    return credential.count(".") == 2


class TokenVerifier:
    """The key is read when it is first needed: the server may make it after the edge has started."""

    def __init__(self, key_file: Path, clock: Callable[[], float] = time.time) -> None:
        self._key_file = key_file
        self._clock = clock
        self._key: bytes | None = None
        self._tokens: dict[str, Claims] = {}
        self._links: dict[str, LinkClaims] = {}
        self._doors: dict[str, LinkClaims] = {}
        self._access: dict[str, str] = {}
        self._volumes: dict[str, Claims] = {}

    def verify(self, token: str) -> Claims:
        return self._verify(token, self._tokens, None, _token_claims)

    def verify_link(self, token: str) -> LinkClaims:
        return self._verify(token, self._links, LINK_AUDIENCE, _link_claims)

    def verify_door(self, text: str) -> LinkClaims:
        return self._verify(text, self._doors, DOOR_AUDIENCE, _link_claims)

    def verify_volume(self, text: str) -> Claims:
        """Its `sandbox_id` is the volume's."""
        return self._verify(text, self._volumes, VOLUME_AUDIENCE, _volume_claims)

    def access_token(self, sandbox_id: str) -> str:
        """The one that E2B's clients carry, and sign addresses with."""
        token = self._access.get(sandbox_id)
        if token is None:
            if len(self._access) >= MAX_REMEMBERED:
                self._access.clear()
            token = self._access[sandbox_id] = access.access_token(self._read_key(), sandbox_id)
        return token

    def access_subject(self, token: str) -> str | None:
        return access.sandbox_of(self._read_key(), token)

    def make_door(self, claims: LinkClaims) -> str:
        facts = {"aud": DOOR_AUDIENCE, "sub": claims.sandbox_id, "port": claims.port, "exp": claims.expires_at}
        return jwt.encode(facts, self._read_key(), algorithm="HS256")

    def _verify(self, text: str, remembered: dict[str, C], audience: str | None, read: Read[C]) -> C:
        claims = remembered.get(text) or self._check(text, remembered, audience, read)
        if claims.expires_at <= self._clock():
            remembered.pop(text, None)
            raise TokenExpired
        return claims

    def _check(self, text: str, remembered: dict[str, C], audience: str | None, read: Read[C]) -> C:
        checks = CHECKS_OF[audience]
        try:
            claims = read(jwt.decode(text, self._read_key(), algorithms=["HS256"], options=checks, audience=audience))
        except (jwt.InvalidTokenError, TypeError, ValueError) as error:
            raise TokenInvalid from error
        if len(remembered) >= MAX_REMEMBERED:
            remembered.clear()
        remembered[text] = claims
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


def _token_claims(facts: Facts) -> Claims:
    if "aud" in facts:
        raise ValueError("it is for something else")
    return Claims(str(facts["sub"]), float(facts["exp"]))


def _volume_claims(facts: Facts) -> Claims:
    if not is_sandbox_id(facts["sub"]):
        raise ValueError("it names no volume")
    return Claims(facts["sub"], float(facts["exp"]))


def _link_claims(facts: Facts) -> LinkClaims:
    port = facts["port"]
    if type(port) is not int or not OWN_HOST <= port <= LAST_PORT or not is_sandbox_id(facts["sub"]):
        raise ValueError("it names no port of a sandbox")
    return LinkClaims(facts["sub"], port, float(facts["exp"]))
