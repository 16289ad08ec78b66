"""What opens a sandbox's ports, and what of it a program gets to see: every key against every kind of place."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jwt
import pytest

from atoll.control.tokens import TokenIssuer
from atoll.core.errors import Conflict, Unavailable
from atoll.edge.auth import Authenticator, Credentials, Place, TrafficRefused, Unauthorized
from atoll.edge.finder import Finder
from atoll.edge.hopx.errors import SurfaceError
from atoll.edge.routes import Route, Routes, RouteState
from atoll.edge.tokens import TokenVerifier
from atoll.testing.clock import FakeClock

KEY = bytes.fromhex("5e" * 32)
A, B = "a" * 20, "b" * 20
API_KEY, REVOKED = "e2b_" + "0" * 40, "e2b_" + "1" * 40
TRAFFIC = "traffic-token"
THEIRS = jwt.encode({"sub": "a user of the program", "exp": 2_000_000_000}, b"the program's own".ljust(32))

PRIVATE = Place(A, 8000, False, "")
SECURED = Place(A, 8000, False, hashlib.sha256(TRAFFIC.encode()).hexdigest())
PUBLIC = Place(A, 8000, True, "")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def issuer(clock: FakeClock) -> TokenIssuer:
    return TokenIssuer(KEY, clock)


@pytest.fixture
def auth(tmp_path: Path, clock: FakeClock) -> Authenticator:
    async def ask(credential: str, sandbox_id: str) -> bool:
        return (credential, sandbox_id) == (API_KEY, A)

    (tmp_path / "token.key").write_text(KEY.hex())
    return Authenticator(TokenVerifier(tmp_path / "token.key", clock.now), ask)


def bearer(credential: str) -> Credentials:
    return Credentials(authorization=f"Bearer {credential}")


async def test_every_key_of_ours_opens_a_private_port_and_is_taken_out(auth: Authenticator, issuer: TokenIssuer):
    token = issuer.issue(A).text
    for shown, spent in (
        (Credentials(api_key=API_KEY), b"x-api-key"),
        (bearer(API_KEY), b"authorization"),
        (bearer(token), b"authorization"),
        (Credentials(api_key=token), b"x-api-key"),
    ):
        door = await auth.door(shown, PRIVATE)
        assert (door.refusal, door.spent) == (None, {spent})


@pytest.mark.parametrize("place", [PRIVATE, SECURED], ids=["private", "secured"])
async def test_nothing_else_opens_it(auth: Authenticator, issuer: TokenIssuer, clock: FakeClock, place: Place):
    expired = issuer.issue(A).text
    link = issuer.link(A, 8000, 7 * 86400).text
    clock.advance(86400)
    for shown in (
        Credentials(),
        Credentials(api_key=REVOKED),
        bearer(issuer.issue(B).text),
        bearer(expired),
        bearer(link),
        bearer(TRAFFIC),
        bearer(THEIRS),
        Credentials(api_key=TRAFFIC),
        Credentials(cookie=link),
        Credentials(cookie=issuer.issue(A).text),
        Credentials(cookie=API_KEY),
        Credentials(traffic=TRAFFIC + "x"),
        Credentials(traffic=API_KEY),
        Credentials(traffic=place.traffic_digest),
    ):
        assert (await auth.door(shown, place)).refusal is not None, shown


async def test_a_traffic_token_opens_where_one_is_in_force_and_nowhere_else(auth: Authenticator):
    shown = Credentials(traffic=TRAFFIC)
    for place, opens in ((SECURED, True), (PRIVATE, False), (PUBLIC, True)):
        door = await auth.door(shown, place)
        assert (door.refusal is None) is opens
        assert b"e2b-traffic-access-token" in door.spent, "it is ours whatever it opens"


@pytest.mark.parametrize(("shown", "words"), [(Credentials(), "missing"), (Credentials(traffic="x"), "invalid")])
async def test_who_lacks_a_traffic_token_is_told_so(auth: Authenticator, shown: Credentials, words: str):
    refusal = (await auth.door(shown, SECURED)).refusal
    assert isinstance(refusal, TrafficRefused)
    assert refusal.message.endswith(words)


async def test_the_owner_needs_no_traffic_token(auth: Authenticator, issuer: TokenIssuer):
    for shown in (Credentials(api_key=API_KEY), bearer(issuer.issue(A).text)):
        assert (await auth.door(shown, SECURED)).refusal is None


@pytest.mark.parametrize("place", [PUBLIC, SECURED], ids=["public", "secured"])
async def test_a_programs_own_credentials_are_left_to_it(auth: Authenticator, place: Place):
    for credential in (THEIRS, "opaque", "a.b.c"):
        door = await auth.door(Credentials(authorization=f"Bearer {credential}", traffic=TRAFFIC), place)
        assert (door.refusal, door.spent) == (None, {b"e2b-traffic-access-token"})
    for shown in (
        Credentials(api_key="theirs", traffic=TRAFFIC),
        Credentials(authorization="Basic eDp5", traffic=TRAFFIC),
    ):
        assert (await auth.door(shown, place)).spent == {b"e2b-traffic-access-token"}


async def test_ours_are_taken_out_also_where_everybody_may_enter(auth: Authenticator, issuer: TokenIssuer):
    for shown, spent in (
        (Credentials(api_key=API_KEY), b"x-api-key"),
        (bearer(API_KEY), b"authorization"),
        (bearer(issuer.issue(A).text), b"authorization"),
        (bearer(issuer.issue(B).text), b"authorization"),
    ):
        door = await auth.door(shown, PUBLIC)
        assert (door.refusal, door.spent) == (None, {spent})


# ---- links and the doors they become


@pytest.mark.parametrize("port", [0, 8000])
async def test_a_link_becomes_a_cookie_for_its_place_alone(auth: Authenticator, issuer: TokenIssuer, port: int):
    made = issuer.link(A, port, 3600)
    cookie, expires_at = auth.redeem(made.text, Place(A, port, False, ""))
    assert expires_at == made.expires_at
    assert (await auth.door(Credentials(cookie=cookie), Place(A, port, False, ""))).refusal is None
    for elsewhere in (Place(A, 9000, False, ""), Place(A, 8000 - port, False, ""), Place(B, port, False, "")):
        assert (await auth.door(Credentials(cookie=cookie), elsewhere)).refusal is not None
        with pytest.raises(Unauthorized):
            auth.redeem(made.text, elsewhere)


def test_a_cookie_is_no_link_and_neither_is_a_sandbox_token(auth: Authenticator, issuer: TokenIssuer):
    cookie, _ = auth.redeem(issuer.link(A, 8000, 3600).text, PRIVATE)
    for text in (cookie, issuer.issue(A).text, API_KEY, "", "\xff.\xff.\xff"):
        with pytest.raises(Unauthorized, match="not valid"):
            auth.redeem(text, PRIVATE)


async def test_link_and_cookie_end_together(auth: Authenticator, issuer: TokenIssuer, clock: FakeClock):
    made = issuer.link(A, 8000, 60)
    cookie, _ = auth.redeem(made.text, PRIVATE)
    clock.advance(60)
    assert (await auth.door(Credentials(cookie=cookie), PRIVATE)).refusal is not None
    with pytest.raises(Unauthorized) as refused:
        auth.redeem(made.text, PRIVATE)
    assert refused.value.expired


# ---- traffic that wakes


class Server:
    """Its word on one sandbox; `resume` makes it run, or fails as told."""

    def __init__(self, error: Exception | None = None, **facts: Any) -> None:
        self.facts = {"id": A, "incarnation": 1, "state": "paused", "socket": "/s", **facts}
        self.error = error
        self.resumed = 0

    async def fetch_route(self, sandbox_id: str) -> dict[str, Any]:
        return self.facts

    def stream_routes(self) -> Any:
        raise AssertionError("nobody follows here")

    async def resume(self, sandbox_id: str) -> None:
        self.resumed += 1
        if self.error is not None:
            raise self.error
        self.facts = {**self.facts, "state": "running"}


def finder(server: Server) -> Finder:
    routes = Routes(server)
    routes.table.put(Route.from_wire(server.facts))
    return Finder(routes, server.resume)


async def test_one_that_asked_for_it_is_resumed_and_runs() -> None:
    server = Server(auto_resume=True)
    assert (await finder(server).running(A, resume=True)).state is RouteState.RUNNING
    assert server.resumed == 1


@pytest.mark.parametrize(
    ("facts", "resume"),
    [
        ({"auto_resume": False}, True),
        ({"auto_resume": True}, False),
        ({"auto_resume": True, "state": "stopped"}, True),
    ],
    ids=["did not ask", "a call to its agent", "stopped"],
)
async def test_others_stay_as_they_are(facts: dict[str, Any], resume: bool) -> None:
    server = Server(**facts)
    with pytest.raises(SurfaceError):
        await finder(server).running(A, resume=resume)
    assert server.resumed == 0


@pytest.mark.parametrize("error", [Conflict("being paused"), Unavailable("away")])
async def test_why_it_was_not_resumed_is_told(error: Exception) -> None:
    with pytest.raises(type(error)):
        await finder(Server(error, auto_resume=True)).running(A, resume=True)
