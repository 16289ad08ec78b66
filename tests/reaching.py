"""How a sandbox reaches others, told by programs inside it."""

from __future__ import annotations

import errno
import json
import statistics
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from atoll.testing.internet import Internet
from stack import Box, until

ALL = "0.0.0.0/0"
CA_FILE = "/workspace/ca.pem"
REFUSED = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EINVAL}
NARROW_MBIT = 100
"""Of a sandbox of `named_online`."""
CLOSED, SILENT = -2, -1
AT_ONCE_MS, SECOND_TRY_MS = 50, 900
"""What is refused by the kernel, mostly; and before a first packet that nobody answered would be sent again (1 s)."""

ATTEMPTS = """
import json, socket, time
def attempt(kind, address, port, ask, timeout_s=3):
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    with socket.socket(family, getattr(socket, kind)) as s:
        s.settimeout(timeout_s)
        before = time.perf_counter()
        try:
            s.connect((address, port))
            if ask:
                s.send(ask.encode())
                assert s.recv(100), 'closed'
            outcome = 0
        except TimeoutError:
            outcome = -1
        except AssertionError:
            outcome = -2
        except OSError as error:
            outcome = error.errno
        return outcome, (time.perf_counter() - before) * 1000
"""


@dataclass(frozen=True)
class Attempt:
    kind: str
    address: str
    port: int
    ask: str = ""
    """Said after connecting; an answer is waited for."""


def tcp(address: str, port: int, ask: str = "") -> Attempt:
    return Attempt("SOCK_STREAM", address, port, ask)


def udp(address: str, port: int, ask: str = "hello") -> Attempt:
    return Attempt("SOCK_DGRAM", address, port, ask)


def outcomes(box: Box, *attempts: Attempt) -> list[tuple[int, float]]:
    """An errno for each (0: it worked, CLOSED and SILENT are none), and after how many milliseconds."""
    wanted = [(each.kind, each.address, each.port, each.ask) for each in attempts]
    result = box.python(f"{ATTEMPTS}\nprint(json.dumps([attempt(*each) for each in {wanted!r}]))", timeout=120)
    assert not result["stderr"], result
    return [(code, took) for code, took in json.loads(result["stdout"])]


def assert_refused(found: Collection[tuple[int, float]], codes: Collection[int] = REFUSED) -> None:
    """At once, and none by silence. A processor that is away for a moment holds up some."""
    for code, took_ms in found:
        assert code in codes, found
        assert took_ms < SECOND_TRY_MS, found
    assert not found or statistics.median(took_ms for _, took_ms in found) < AT_ONCE_MS, found


def trusting(box: Box, internet: Internet) -> Box:
    """With the authority of that internet in a file of its own."""
    body = {"path": CA_FILE, "content": internet.ca_file.read_text()}
    assert box.agent("POST", "/files/write", json=body).status_code == 200
    return box


def curl(box: Box, url: str, *more: str) -> dict[str, Any]:
    words = ["curl", "-sS", "--cacert", CA_FILE, "--connect-timeout", "3", "-m", "5", *more, url]
    return box.run(" ".join(f"'{word}'" for word in words))


def status(box: Box, url: str, *more: str) -> int:
    """Of the answer; 0 when there was none."""
    result = curl(box, url, "-o", "/dev/null", "-w", "%{http_code}", *more)
    return int(result["stdout"]) if result["exit_code"] == 0 else 0


def entries(box: Box, after: int = 0, wait: float = 0) -> list[dict[str, Any]]:
    """Of its log."""
    parameters = {"after": after, "limit": 1000, "wait": wait}
    answer = box.control("GET", "/egress", params=parameters)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["entries"])


def logged(box: Box, **wanted: Any) -> dict[str, Any]:
    """The first entry that has all this; a value that ends with … has to begin so. It is written soon, not at once."""

    def found() -> dict[str, Any] | None:
        return next((each for each in entries(box) if all(_same(each.get(k), v) for k, v in wanted.items())), None)

    until(found, f"{wanted} in {box.id}'s log")
    return found() or {}


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) and wanted.endswith("…"):
        return str(value).startswith(wanted[:-1])
    return bool(value == wanted)


def totals(box: Box) -> dict[str, Any]:
    answer = box.control("GET", "/egress/totals")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
