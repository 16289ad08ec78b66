"""The stock SDKs as their users call them, against Atoll and against a server that answers at once, in turns.

The second figure is the client's own: what is left of the first is Atoll's. `hopx-ai` makes TLS contexts even for plain
HTTP, and each reads all certificates of the machine; `SSL_CERT_FILE` with one certificate in it shows how much that is.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import certifi
from instant import Instant, forwarded
from report import Report
from timing import timed

from atoll.testing.installation import Installation

TEMPLATE = "code-interpreter"
ONE_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
Box = Any
"""A sandbox of one SDK or another."""
Call = Callable[[Box], object]


class Client(NamedTuple):
    """How its users write it."""

    create: Callable[[str, str], Box]
    """Of URL and key."""
    calls: dict[str, Call]


def _hopx(url: str, api_key: str) -> Box:
    from hopx_ai import Sandbox

    return Sandbox.create(template=TEMPLATE, api_key=api_key, base_url=url)


def _e2b(url: str, api_key: str) -> Box:
    from e2b import Sandbox

    return Sandbox.create(TEMPLATE, api_key=api_key, api_url=url, sandbox_url=url)


def _code_interpreter(url: str, api_key: str) -> Box:
    from e2b_code_interpreter import Sandbox

    return Sandbox.create(TEMPLATE, api_key=api_key, api_url=url, sandbox_url=url)


RUN_CODE: dict[str, Call] = {"first run_code 1+1": lambda box: box.run_code("1+1")}
COMMAND: dict[str, Call] = {"command true": lambda box: box.commands.run("true")}
CLIENTS = {
    "hopx-ai": Client(_hopx, RUN_CODE | COMMAND),
    "e2b": Client(_e2b, COMMAND),
    "e2b-code-interpreter": Client(_code_interpreter, RUN_CODE | COMMAND),
}


def bench_clients(report: Report, server: Installation, count: int) -> None:
    for name, client in CLIENTS.items():
        _compare(report, name, client, server, count)
    with _one_certificate():
        _compare(report, "hopx-ai, SSL_CERT_FILE with one certificate", CLIENTS["hopx-ai"], server, count)


def _compare(report: Report, name: str, client: Client, server: Installation, count: int) -> None:
    with Instant(server.url) as url:
        _life(client, url, server.api_key)
        before = forwarded(url)
        rows = [
            (_life(client, server.url, server.api_key), _life(client, url, server.api_key)) for _ in range(count + 1)
        ][1:]
        if forwarded(url) != before:
            raise RuntimeError(f"{name} asked what the server that answers at once had not seen before")
    for what in rows[0][0]:
        ours, instant = ([row[which][what] for row in rows] for which in (0, 1))
        report.put(f"clients: {name}: {what}", ours, "ms", reference=instant)


def _life(client: Client, url: str, api_key: str) -> dict[str, float]:
    """Each call first of its kind, then once more: the first opens connections."""
    made: list[Box] = []
    took = {"create": timed(lambda: made.append(client.create(url, api_key)))}
    try:
        for what, call in client.calls.items():
            took[what] = timed(partial(call, made[0]))
            took[what.replace("first", "warm")] = timed(partial(call, made[0]))
    finally:
        made[0].kill()
    return took


@contextmanager
def _one_certificate() -> Iterator[None]:
    before = os.environ.get("SSL_CERT_FILE")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "one.pem"
        first = ONE_CERTIFICATE.search(Path(certifi.where()).read_text())
        assert first is not None
        file.write_text(first[0])
        os.environ["SSL_CERT_FILE"] = str(file)
        try:
            yield
        finally:
            del os.environ["SSL_CERT_FILE"]
            if before is not None:
                os.environ["SSL_CERT_FILE"] = before
