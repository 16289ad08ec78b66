"""Who may use a sandbox: the bearer of its token, or of an API key that owns it."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from atoll.core.keys import digits_of

from .tokens import TokenExpired, TokenInvalid, TokenVerifier, looks_like_token

REMEMBER_S = 4.0  # a revoked key may still work so long, and a second more where the gate has let it in
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
class Credentials:
    """What a request for a program shows at the door, as it was sent."""

    api_key: str = ""
    authorization: str = ""
    cookie: str = ""
    """Of a browser that came by a signed link."""
    traffic: str = ""
    """E2B's token for the ports of one sandbox."""
    access: str = ""
    """E2B's token for its agent: it opens no port, but no program is to see it."""


API_KEY = b"x-api-key"
AUTHORIZATION = b"authorization"
TRAFFIC = b"e2b-traffic-access-token"
ACCESS = b"x-access-token"


@dataclass(frozen=True, slots=True)
class Place:
    """What is to be entered, and what the route says of it."""

    sandbox_id: str
    port: int
    """0: the sandbox's web port."""
    public: bool
    traffic_digest: str


@dataclass(frozen=True, slots=True)
class Door:
    """How a request for a program in a sandbox may enter."""

    refusal: Unauthorized | None
    """None: it may enter."""
    spent: frozenset[bytes]
    """Fields with credentials of ours, in lower case: what is inside must not see them."""


class TrafficRefused(Unauthorized):
    """E2B's own words for it."""


def credential_of(headers: Mapping[str, str]) -> str | None:
    return _bearer(headers) or _api_key(headers)


def _bearer(headers: Mapping[str, str]) -> str | None:
    return _bearer_of(headers.get("Authorization", "")) or None


def _bearer_of(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _api_key(headers: Mapping[str, str]) -> str | None:
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
        await self._check(credential, sandbox_id)

    async def door(self, shown: Credentials, place: Place) -> Door:
        asked: dict[str, bool] = {}
        while not isinstance(found := self.door_now(shown, place, asked), Door):
            asked[found] = await self._key_allows(found, place.sandbox_id)
        return found

    def door_now(self, shown: Credentials, place: Place, asked: Mapping[str, bool] | None = None) -> Door | str:
        """A string: a key that the server has to be asked about. Each credential is looked at: one may open, and
        another be the program's own business."""
        spent, refusal, opened = set[bytes](), None, place.public
        for name, credential in ((API_KEY, shown.api_key.strip()), (AUTHORIZATION, _bearer_of(shown.authorization))):
            if not credential or not _may_be_ours(credential):
                continue
            opens: bool | None = False
            try:
                opens = place.public or self._opens(credential, place.sandbox_id, asked or {})
            except Unauthorized as error:
                refusal = refusal or error
            if opens is None:
                return credential
            opened = opened or opens
            if self._is_ours(credential):
                spent.add(name)
        if shown.traffic:
            spent.add(TRAFFIC)
        if shown.access and self._is_access_token(shown.access):
            spent.add(ACCESS)
        if not opened:
            opened = self._cookie_opens(shown.cookie, place) or is_digest_of(shown.traffic, place.traffic_digest)
        return Door(None if opened else refusal or _why_not(shown, place), frozenset(spent))

    def _opens(self, credential: str, sandbox_id: str, asked: Mapping[str, bool]) -> bool | None:
        """None: not known yet."""
        if looks_like_token(credential):
            if self._verify(credential) != sandbox_id:
                raise Unauthorized("Invalid token: it is for another sandbox")
            return True
        allowed = asked.get(credential, True if self._remembers(credential, sandbox_id) else None)
        if allowed is False:
            raise Unauthorized("Invalid token or API key")
        return allowed

    def _cookie_opens(self, cookie: str, place: Place) -> bool:
        try:
            claims = self._verifier.verify_door(cookie) if cookie else None
        except (TokenInvalid, TokenExpired):
            return False
        return claims is not None and (claims.sandbox_id, claims.port) == (place.sandbox_id, place.port)

    def redeem(self, link: str, place: Place) -> tuple[str, float]:
        """The cookie that a signed link is worth, and when it ends."""
        try:
            claims = self._verifier.verify_link(link)
        except TokenExpired as error:
            raise Unauthorized("This link has expired: ask for a new one", expired=True) from error
        except TokenInvalid as error:
            raise Unauthorized("This link is not valid: ask for a new one") from error
        if (claims.sandbox_id, claims.port) != (place.sandbox_id, place.port):
            raise Unauthorized("This link is for another address")
        return self._verifier.make_door(claims), claims.expires_at

    def access_token(self, sandbox_id: str) -> str:
        """As E2B's clients carry it."""
        try:
            return self._verifier.access_token(sandbox_id)
        except TokenInvalid as error:
            raise Unauthorized("Invalid token") from error

    def holder_of(self, token: str) -> str:
        """The sandbox that an X-Access-Token is for: one of E2B's kind, or the sandbox's own."""
        try:
            return self._verifier.access_subject(token) or self._verify(token)
        except TokenInvalid as error:
            raise Unauthorized("Invalid token") from error

    def is_for(self, token: str, sandbox_id: str) -> bool:
        try:
            return self.holder_of(token) == sandbox_id
        except Unauthorized:
            return False

    def holds_token(self, authorization: str, sandbox_id: str) -> bool:
        credential = _bearer_of(authorization)
        try:
            return looks_like_token(credential) and self._verify(credential) == sandbox_id
        except Unauthorized:
            return False

    async def _check(self, credential: str, sandbox_id: str) -> None:
        if looks_like_token(credential):
            if self._verify(credential) != sandbox_id:
                raise Unauthorized("Invalid token: it is for another sandbox")
        elif not await self._key_allows(credential, sandbox_id):
            raise Unauthorized("Invalid token or API key")

    def _is_access_token(self, text: str) -> bool:
        """Also one for another sandbox."""
        try:
            self.holder_of(text)
        except Unauthorized as error:
            return error.expired
        return True

    def _is_ours(self, credential: str) -> bool:
        """Also one for another sandbox, one that has ended, and any API key: this sandbox is to see none."""
        if not looks_like_token(credential):
            return True
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
        if self._remembers(*question):
            return True
        self._allowed_until.pop(question, None)
        if not await self._ask(key, sandbox_id):
            return False
        if len(self._allowed_until) >= MAX_REMEMBERED:
            self._allowed_until.clear()
        self._allowed_until[question] = self._clock() + REMEMBER_S
        return True

    def _remembers(self, key: str, sandbox_id: str) -> bool:
        return self._allowed_until.get((key, sandbox_id), 0.0) > self._clock()


def is_digest_of(token: str, digest: str) -> bool:
    """Compared in constant time. No digest is nobody's."""
    return bool(token and digest) and hmac.compare_digest(hashlib.sha256(token.encode()).hexdigest(), digest)


def _why_not(shown: Credentials, place: Place) -> Unauthorized:
    if place.traffic_digest:
        name = TRAFFIC.decode()
        what = f"Provided token in header '{name}' is invalid" if shown.traffic else f"Token header '{name}' is missing"
        return TrafficRefused(f"Sandbox is secured with traffic access token. {what}")
    return Unauthorized("Authentication required: send an API key as X-API-Key, or the sandbox token as a bearer token")
