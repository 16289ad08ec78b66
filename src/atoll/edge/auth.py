"""Who may use a sandbox: the bearer of its token, or of an API key that owns it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from atoll.core.keys import digits_of

from .tokens import TokenExpired, TokenInvalid, TokenVerifier, looks_like_token

REMEMBER_S = 5.0  # how long a revoked key may still work
MAX_REMEMBERED = 4096


class Unauthorized(Exception):
    def __init__(self, message: str, *, expired: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.expired = expired


def _may_be_ours(credential: str) -> bool:
    """Nobody is asked about what a program's own users send it."""
    return looks_like_token(credential) or digits_of(credential) is not None


AskServer = Callable[[str, str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Door:
    """How a request for a program in a sandbox may enter."""

    refusal: Unauthorized | None
    """Of the first credential that opens nothing; None: it may enter."""
    spent: frozenset[str]
    """Headers with credentials of ours, in lower case: what is inside must not see them."""


def credential_of(headers: Mapping[str, str]) -> str | None:
    return _bearer(headers) or _api_key(headers)


def _bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    return (value.strip() or None) if scheme.lower() == "bearer" else None


def _api_key(headers: Mapping[str, str]) -> str | None:
    return headers.get("X-API-Key", "").strip() or None


CREDENTIALS = {"x-api-key": _api_key, "authorization": _bearer}


class Authenticator:
    def __init__(self, verifier: TokenVerifier, ask: AskServer, clock: Callable[[], float] = time.monotonic) -> None:
        self._verifier = verifier
        self._ask = ask
        self._clock = clock
        self._allowed_until: dict[tuple[str, str], float] = {}

    def subject(self, headers: Mapping[str, str]) -> str:
        """The sandbox that the token is for."""
        credential = credential_of(headers)
        if credential is None:
            raise Unauthorized("Authentication required: send the sandbox token as a bearer token")
        return self._verify(credential)

    async def authorize(self, headers: Mapping[str, str], sandbox_id: str) -> None:
        credential = credential_of(headers)
        if credential is None:
            raise Unauthorized("Authentication required: send the sandbox token as a bearer token")
        await self._check(credential, sandbox_id)

    async def door(self, headers: Mapping[str, str], sandbox_id: str) -> Door:
        """Both headers are looked at: one may open, and the other be the program's own business."""
        refusal: Unauthorized | None = None
        opened, spent = False, set[str]()
        for name, read in CREDENTIALS.items():
            credential = read(headers)
            if credential is None or not _may_be_ours(credential):
                continue
            try:
                await self._check(credential, sandbox_id)
            except Unauthorized as error:
                refusal = refusal or error
                if self._is_our_token(credential):
                    spent.add(name)
            else:
                opened = True
                spent.add(name)
        if not opened and refusal is None:
            refusal = Unauthorized(
                "Authentication required: send an API key as X-API-Key, or the sandbox token as a bearer token"
            )
        return Door(None if opened else refusal, frozenset(spent))

    def holds_token(self, headers: Mapping[str, str], sandbox_id: str) -> bool:
        credential = _bearer(headers)
        try:
            return credential is not None and looks_like_token(credential) and self._verify(credential) == sandbox_id
        except Unauthorized:
            return False

    async def _check(self, credential: str, sandbox_id: str) -> None:
        if looks_like_token(credential):
            if self._verify(credential) != sandbox_id:
                raise Unauthorized("Invalid token: it is for another sandbox")
        elif not await self._key_allows(credential, sandbox_id):
            raise Unauthorized("Invalid token or API key")

    def _is_our_token(self, credential: str) -> bool:
        """Also one for another sandbox, or one that has ended: this sandbox is to see neither."""
        try:
            self._verify(credential)
        except Unauthorized as error:
            return error.expired
        return True

    def _verify(self, token: str) -> str:
        try:
            return self._verifier.verify(token).sandbox_id
        except TokenExpired as error:
            raise Unauthorized("Token expired", expired=True) from error
        except TokenInvalid as error:
            raise Unauthorized("Invalid token") from error

    async def _key_allows(self, key: str, sandbox_id: str) -> bool:
        """Only a yes is remembered, so a key works from the moment it is made."""
        question = (key, sandbox_id)
        if self._allowed_until.get(question, 0.0) > self._clock():
            return True
        self._allowed_until.pop(question, None)
        if not await self._ask(key, sandbox_id):
            return False
        if len(self._allowed_until) >= MAX_REMEMBERED:
            self._allowed_until.clear()
        self._allowed_until[question] = self._clock() + REMEMBER_S
        return True
