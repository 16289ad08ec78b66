"""Both forms of the SDK, and a scripted server for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from script import FORMS, Form, Script

VARIABLES = (
    *("ATOLL_API_KEY", "ATOLL_BASE_URL", "HOPX_API_KEY", "HOPX_BASE_URL", "E2B_API_KEY", "E2B_API_URL"),
    *("E2B_DOMAIN", "ATOLL_CA_FILE", "SSL_CERT_FILE"),
)


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> pytest.MonkeyPatch:
    """Nothing of the machine's own."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def server() -> Iterator[Script]:
    with Script() as made:
        yield made


@pytest.fixture(params=FORMS, ids=lambda form: form.name)
def form(request) -> Form:
    return request.param


@pytest.fixture
def account(server) -> dict[str, str]:
    return {"api_key": "key", "base_url": server.url}
