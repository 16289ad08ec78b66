"""E2B's agent surface of a test's sandbox: by the unmodified `e2b` package, and call by call."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from e2b import ConnectionConfig, Sandbox
from packaging.version import Version

from atoll.core.access import ENVD_VERSION, access_token
from atoll.wire import connect
from stack import Box

PORT = "49983"


def token_of(box: Box) -> str:
    key = box.stack.installation.places.token_key.read_text().strip()
    return access_token(bytes.fromhex(key), box.id)


def headers_of(box: Box) -> dict[str, str]:
    return {"E2b-Sandbox-Id": box.id, "E2b-Sandbox-Port": PORT, "X-Access-Token": token_of(box)}


def sdk_of(box: Box) -> Sandbox:
    """As `Sandbox.connect` makes it."""
    token = token_of(box)
    config = ConnectionConfig(
        api_key=box.stack.installation.api_key,
        api_url=box.stack.url,
        sandbox_url=box.stack.url,
        extra_sandbox_headers=headers_of(box),
    )
    return Sandbox(
        sandbox_id=box.id,
        sandbox_domain=None,
        envd_version=Version(ENVD_VERSION),
        envd_access_token=token,
        traffic_access_token=None,
        connection_config=config,
    )


@dataclass
class Heard:
    """What a stream said, and how it ended: None is well."""

    events: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, str] | None = None
    ended: bool = False

    @property
    def output(self) -> bytes:
        pieces = [event["data"] for event in self.events if "data" in event]
        return b"".join(base64.b64decode(data) for piece in pieces for data in piece.values())


class Envd:
    """Calls as they are on the wire."""

    def __init__(self, box: Box) -> None:
        self._client = box.stack.client
        self.headers = headers_of(box)

    def unary(self, method: str, message: object = None, **headers: str) -> tuple[int, dict[str, Any]]:
        given = {**self.headers, "Content-Type": "application/json", **headers}
        response = self._client.post(f"/{method}", content=json.dumps(message or {}), headers=given)
        return response.status_code, response.json()

    def stream(self, method: str, *messages: object, **headers: str) -> Heard:
        heard = Heard()
        for _ in self.listen(heard, method, *messages, **headers):
            pass
        return heard

    def listen(self, heard: Heard, method: str, *messages: object, **headers: str) -> Iterator[dict[str, Any]]:
        given = {**self.headers, "Content-Type": connect.STREAM_TYPE, **headers}
        body = b"".join(connect.message(message) for message in messages)
        reader = connect.EnvelopeReader()
        with self._client.stream("POST", f"/{method}", content=body, headers=given) as response:
            assert response.status_code == 200, (response.status_code, response.read())
            assert response.headers["Content-Type"] == connect.STREAM_TYPE
            for chunk in response.iter_raw():
                for envelope in reader.feed(chunk):
                    value = connect.parse(envelope.payload)
                    if envelope.is_end:
                        heard.ended, heard.error = True, value.get("error")
                    else:
                        heard.events.append(value.get("event", value))
                        yield heard.events[-1]
        assert heard.ended
        assert reader.at_boundary()


def command(line: str, **more: Any) -> dict[str, Any]:
    """A StartRequest as the packages send it."""
    return {"process": {"cmd": "/bin/bash", "args": ["-l", "-c", line]}, "stdin": False, **more}
