"""Who may use a sandbox: the bearer of its token, or of an API key that owns it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

from .tokens import TokenExpired, TokenInvalid, TokenVerifier, looks_like_token

REMEMBER_S = 5.0  # how long a revoked key may still work
MAX_REMEMBERED = 4096


class Unauthorized(Exception):
    def __init__(self, message: str, *, expired: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.expired = expired


AskServer = Callable[[str, str], Awaitable[bool]]


def credential_of(headers: Mapping[str, str]) -> str | None:
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return headers.get("X-API-Key", "").strip() or None


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
        if looks_like_token(credential):
            if self._verify(credential) != sandbox_id:
                raise Unauthorized("Invalid token: it is for another sandbox")
        elif not await self._key_allows(credential, sandbox_id):
            raise Unauthorized("Invalid token or API key")

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
