"""The network of a sandbox by the SDK: what it may reach, what the log says, and a server with TLS of its own."""

from __future__ import annotations

import pytest

import atoll
from atoll import ALL_TRAFFIC, AsyncSandbox, Network, Sandbox
from names import DOMAIN

pytestmark = pytest.mark.root
OPEN, CLOSED = "93.184.215.14", "93.184.215.15"


def _asks(box: Sandbox, address: str) -> str:
    return box.commands.run(f"curl -sS -o /dev/null -w '%{{http_code}}' --max-time 5 http://{address}:8081/").stdout


def test_the_log_shows_what_a_policy_refused(connected):
    connected.update_network(Network(deny_out=[ALL_TRAFFIC], allow_out=[OPEN]))
    assert _asks(connected, CLOSED) == "000"
    log = connected.get_egress_log(wait=5)
    refused = [each for each in log.entries if each.get("verdict") == "denied"]
    assert [each["rule"] for each in refused] == [f"deny_out: {ALL_TRAFFIC}"]
    assert connected.get_egress_log(after=log.cursor).entries == []
    assert connected.get_egress_totals()["denied"] == 1


async def test_the_log_async(connected):
    box = AsyncSandbox(connected.sandbox_id)
    await box.update_network(internet_access=False)
    assert (await box.get_info()).internet_access is False
    assert (await box.get_egress_totals())["denied"] >= 0


@pytest.fixture
def secured(named_stack, monkeypatch) -> str:
    """The URL of a server with a certificate of its own authority, by a name that every machine knows."""
    monkeypatch.setenv("ATOLL_API_KEY", named_stack.installation.api_key)
    monkeypatch.setenv("ATOLL_CA_FILE", str(named_stack.installation.places.data / "tls" / "ca.pem"))
    return f"https://localhost:{named_stack.port}"


def test_tls_by_an_authority_of_ones_own(secured):
    with Sandbox.create("code-interpreter", base_url=secured) as box:
        assert box.run_code("6 * 7").result == "42"
        assert [each["type"] for each in box.commands.stream("true")] == ["result", "complete"]
        assert box.get_preview_url(8000).startswith(f"https://8000-{box.sandbox_id}.{DOMAIN}")


async def test_tls_async(secured):
    async with AsyncSandbox.create("code-interpreter", base_url=secured) as box:
        assert (await box.run_code("6 * 7")).result == "42"
        async with await box.terminal.connect() as session:
            await session.send_input("exit\n")


def test_an_authority_that_nobody_named_is_not_believed(secured, monkeypatch):
    monkeypatch.delenv("ATOLL_CA_FILE")
    monkeypatch.setattr("atoll.sdk._sync.client.sleep", lambda seconds: None)
    with pytest.raises(atoll.NetworkError, match="CERTIFICATE_VERIFY_FAILED"):
        Sandbox.list(base_url=secured)
