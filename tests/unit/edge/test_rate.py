"""Calls to the sandboxes of one key, over their limit and under it."""

from __future__ import annotations

import pytest

from atoll.edge.hopx.errors import Kind, SurfaceError
from atoll.edge.rate import CallRates
from atoll.edge.routes import Route, RouteState
from atoll.testing.clock import FakeClock


def route(key: str = "key_a", calls_per_minute: int | None = 60, sandbox: str = "a" * 20) -> Route:
    return Route(sandbox, 1, RouteState.RUNNING, "/s", key=key, calls_per_minute=calls_per_minute)


def test_sandboxes_of_one_key_share_its_rate_and_other_keys_do_not() -> None:
    clock = FakeClock()
    rates = CallRates(clock.now)
    for n in range(60):
        marks: dict[str, str] = {}
        rates.admit(route(sandbox=str(n % 10) * 20), marks)
        assert marks["X-RateLimit-Remaining"] == str(59 - n)
    with pytest.raises(SurfaceError) as caught:
        rates.admit(route(), marks)
    assert caught.value.kind is Kind.TOO_MANY
    assert caught.value.details == {"retry_after_seconds": 1}
    assert (marks["Retry-After"], marks["X-RateLimit-Limit"], marks["X-RateLimit-Remaining"]) == ("1", "60", "0")
    rates.admit(route("key_b"), {})
    clock.advance(1)
    rates.admit(route(), {})


def test_without_a_limit_nothing_is_counted_or_said() -> None:
    rates, marks = CallRates(), {}
    for _ in range(1000):
        rates.admit(route(calls_per_minute=None), marks)
    assert marks == {}


@pytest.fixture
def limited(server, kit) -> None:
    """Before the edge starts."""
    server.routes[kit.SANDBOX] |= {"key": "key_a", "calls_per_minute": 2}


async def test_a_call_over_the_limit_never_reaches_the_sandbox(limited, client, agent) -> None:
    agent.answers("GET", "/env", {"env": {}})
    token, client.token = client.token, "wrong"
    for _ in range(5):
        assert (await client.call("GET", "/env"))[0] == 401
    client.token = token
    for left in ("1", "0"):
        async with client.session.get(client.url("/env"), headers=client.headers(None)) as answer:
            assert (answer.status, answer.headers["X-RateLimit-Remaining"]) == (200, left)
    reached = len(agent.asked("GET", "/env"))
    async with client.session.get(client.url("/env"), headers=client.headers(None)) as answer:
        assert answer.status == 429
        assert 20 < int(answer.headers["Retry-After"]) <= 30, "half of the minute, but for what has passed"
        body = await answer.json()
    assert body["code"] == "TOO_MANY_REQUESTS"
    assert 20 < body["details"]["retry_after_seconds"] <= 30
    assert len(agent.asked("GET", "/env")) == reached
