"""Every example runs against a real installation, and reaches nothing but it."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

# Each package's own switch: it reports to nobody and looks for nothing to download.
SILENT = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
}


def is_here(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a path
    return address[0] == "localhost" or ipaddress.ip_address(address[0]).is_loopback


@pytest.fixture(autouse=True)
def account(stack, monkeypatch) -> None:
    """As a user has it: in the environment."""
    for name, value in SILENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ATOLL_API_KEY", stack.installation.api_key)
    monkeypatch.setenv("ATOLL_BASE_URL", stack.url)


@pytest.fixture(autouse=True)
def only_here(monkeypatch) -> None:
    """A package that wants the internet is found out."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        assert is_here(address), f"it wants to reach {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def none_left(stack):
    """The example cleans up behind itself."""

    def living() -> set[str]:
        return {each["id"] for each in stack.api("GET", "/v1/sandboxes").json()["data"]}

    before = living()
    yield
    assert living() == before
