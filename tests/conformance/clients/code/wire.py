"""The code interpreter as the client reaches it, without the client: what that does not ask or show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
from place import PLACE


def address(sandbox: Any) -> tuple[str, dict[str, str]]:
    """Where port 49999 of a sandbox is, and what to send there."""
    token = sandbox._subject._envd_access_token
    headers = {"X-Access-Token": token, "E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49999"}
    by_name = f"https://{sandbox.get_host(49999)}"
    return (by_name if PLACE["way"] == "domain" else PLACE["url"]), headers


def ask(sandbox: Any, method: str, path: str, **more: Any) -> httpx.Response:
    url, headers = address(sandbox)
    return httpx.request(method, f"{url}{path}", headers=headers | more.pop("headers", {}), timeout=30, **more)


def events(sandbox: Any, **order: Any) -> Iterator[dict[str, Any]]:
    """Of one execution; closing the iterator closes the connection."""
    url, headers = address(sandbox)
    with httpx.stream("POST", f"{url}/execute", headers=headers, json=order, timeout=30) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            yield json.loads(line)
