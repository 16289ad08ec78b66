"""Call-backs of `/execute/async`: what a caller may ask for, what is sent, and what became of it.

    waiting ──▶ delivering ──▶ delivered      a 2xx
                    │    └──▶ failed          every try is used up, or an answer that another try would not change
                    └──▶ refused              the address is never reached

The connection is made by the node: it resolves, checks and connects in one step, and each try asks anew. Everything is
kept in memory: an edge that is replaced forgets what it has not delivered; the run and its record go on in the sandbox.
The caller's headers and secret never enter the sandbox, a log or an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import re
import ssl
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from atoll.core.errors import AtollError, PermissionDenied
from atoll.edge.dialer import Dialer
from atoll.edge.frames_in import mapping, number, text, whole
from atoll.edge.outbound import NotHttp, Post, post

from .call import Object, optional_text, required_text, timestamp
from .errors import Kind, SurfaceError
from .outcome import process_ending

log = logging.getLogger("atoll.edge.webhooks")

TIMEOUT_S = 1800.0  # the clients' default
MAX_URL = 2048
MAX_HOST = 253
MAX_HEADERS = 32
MAX_HEADER_NAME = 256
MAX_HEADERS_BYTES = 16 * 1024
MAX_SECRET = 4096
MAX_OUTPUT = 256 * 1024  # of each stream, its end: with both a body stays below 1 MiB, which many servers take at most
DELIVERY_S = 30.0
AGAIN_AFTER_S = (1.0, 5.0, 25.0)
MAX_RUNS = 32  # of one sandbox, until they are delivered or given up
MAX_RUNS_IN_ALL = 1024
AT_ONCE = 4  # deliveries of one sandbox
AT_ONCE_IN_ALL = 64
KEEP_S = 600.0  # as long as the agent keeps the run's record
KEEP = 256  # of one sandbox, as many as the agent keeps

PORTS = {"http": 80, "https": 443}
_PRINTABLE = re.compile(r"[!-~]+")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_LOOKS_NUMERIC = re.compile(r"0x[0-9a-f]*|[0-9]+")  # resolvers take 0x7f.1 and 2130706433 for addresses
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110
_FIELD_VALUE = re.compile(r"[\t -~]*")
OURS = ("x-hopx-", "x-hub-signature")
FORBIDDEN_HEADERS = frozenset(
    (
        "connection", "content-encoding", "content-length", "expect", "host", "keep-alive", "proxy-authenticate",
        "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    )
)  # fmt: skip
AGAIN_STATUS = frozenset((408, 425, 429))


@dataclass(frozen=True)
class Callback:
    url: str = field(repr=False)
    """As the caller wrote it; a query may hold a secret."""
    tls: bool
    host: str
    port: int
    target: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    secret: str = field(repr=False)

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"


# ---- what is asked for


def parse(body: Object) -> Callback:
    url = required_text(body, "callback_url")
    tls, host, port, target = parse_url(url)
    secret = optional_text(body, "callback_signature_secret")
    if len(secret) > MAX_SECRET:
        raise _bad("callback_signature_secret", f"is longer than {MAX_SECRET} characters")
    return Callback(url, tls, host, port, target, parse_headers(body.get("callback_headers")), secret)


def parse_url(url: str) -> tuple[bool, str, int, str]:
    """TLS, host, port, path with query."""
    if len(url) > MAX_URL:
        raise _bad("callback_url", f"is longer than {MAX_URL} characters")
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise _bad("callback_url", "holds a character that is to be percent-encoded (in a name: as xn--…)")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _bad("callback_url", "is not a URL") from error
    if parts.scheme not in PORTS:
        raise _bad("callback_url", "does not begin with http:// or https://")
    if "@" in parts.netloc:
        raise _bad("callback_url", "holds a user name; use callback_headers for credentials")
    if port == 0 or not is_host(host):
        raise _bad("callback_url", "names no host and port")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.scheme == "https", host, port or PORTS[parts.scheme], target


def is_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host) is not None and "%" not in host
    except ValueError:
        labels = host.removesuffix(".").split(".")
    named = len(host) <= MAX_HOST and all(_LABEL.fullmatch(label) for label in labels)
    return named and not _LOOKS_NUMERIC.fullmatch(labels[-1])


def parse_headers(given: object) -> tuple[tuple[str, str], ...]:
    if given is None:
        return ()
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise _bad("callback_headers", "is not an object of strings")
    if len(given) > MAX_HEADERS:
        raise _bad("callback_headers", f"has more than {MAX_HEADERS} entries")
    if len({name.lower() for name in given}) < len(given):
        raise _bad("callback_headers", "names a header twice")
    if sum(len(name) + len(value) for name, value in given.items()) > MAX_HEADERS_BYTES:
        raise _bad("callback_headers", f"is larger than {MAX_HEADERS_BYTES} bytes")
    for name, value in given.items():
        _check_header(name, value)
    return tuple((name, value.strip(" \t")) for name, value in given.items())


def _check_header(name: str, value: str) -> None:
    shown = repr(name[:64])
    if not _TOKEN.fullmatch(name) or len(name) > MAX_HEADER_NAME:
        raise _bad("callback_headers", f"has {shown}, which cannot be the name of a header")
    if name.lower() in FORBIDDEN_HEADERS or name.lower().startswith(OURS):
        raise _bad("callback_headers", f"has {shown}, which the delivery itself sets")
    if not _FIELD_VALUE.fullmatch(value):
        raise _bad("callback_headers", f"has a value for {shown} that holds a line break or another such character")


def _bad(name: str, what: str) -> SurfaceError:
    return SurfaceError(Kind.INVALID_REQUEST, f"The field '{name}' {what}", field=name)


# ---- what is sent


def payload(execution_id: str, found: Object, timeout_s: float, now: float) -> Object:
    """Of the agent's word how the run ended."""
    record = mapping(found.get("process"))
    ending = process_ending(record, number(record.get("ended_at")) - number(record.get("started_at")), timeout_s)
    status = "completed" if ending.success else "timeout" if record.get("status") == "timed_out" else "failed"
    stdout, stderr = _end_of(text(found.get("stdout"))), _end_of(text(found.get("stderr")))
    sent: Object = {
        "execution_id": execution_id,
        "status": status,
        "success": ending.success,
        "stdout": stdout,
        "stderr": stderr,
        "exit_code": ending.exit_code,
        "execution_time": max(0.0, ending.duration_s),
        "timestamp": timestamp(now),
    }
    dropped = whole(found.get("truncated"))
    if dropped or len(stdout) < len(text(found.get("stdout"))) or len(stderr) < len(text(found.get("stderr"))):
        sent["output_truncated"] = True  # its beginning is missing
    if not ending.success:
        sent["error"] = ending.message.strip() or _said(record, ending.exit_code)
    return sent


def _said(record: Object, exit_code: int) -> str:
    ended_by = text(record.get("signal"))[:32]
    return f"The program was ended by {ended_by}" if ended_by else f"The program ended with exit code {exit_code}"


def _end_of(output: str) -> str:
    raw = output.encode("utf-8", "replace")
    return output if len(raw) <= MAX_OUTPUT else raw[-MAX_OUTPUT:].decode("utf-8", "ignore")


def lost(execution_id: str, reason: str, now: float) -> Object:
    """Of a run whose end nobody saw: most often its sandbox ended before it."""
    return {
        "execution_id": execution_id,
        "status": "failed",
        "success": False,
        "stdout": "",
        "stderr": "",
        "exit_code": 137,
        "execution_time": 0.0,
        "timestamp": timestamp(now),
        "error": reason,
    }


def sign(secret: str, message: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode("utf-8", "surrogatepass"), message, hashlib.sha256).hexdigest()


def request(callback: Callback, body: bytes, now: float) -> Post:
    """X-HOPX-Signature is over the timestamp and the body, as HopX's example computes it; X-Hub-Signature-256 over the
    body alone, as many libraries check it."""
    moment = str(int(now))
    given = {name.lower() for name, _ in callback.headers}
    defaults = (("Content-Type", "application/json"), ("User-Agent", "Atoll-Webhook"), ("Accept", "*/*"))
    headers = [*callback.headers, *((name, value) for name, value in defaults if name.lower() not in given)]
    headers.append(("X-HOPX-Timestamp", moment))
    if callback.secret:
        headers.append(("X-HOPX-Signature", sign(callback.secret, moment.encode() + body)))
        headers.append(("X-Hub-Signature-256", sign(callback.secret, body)))
    return Post(callback.host.removesuffix("."), callback.host_header, callback.target, headers, body)


# ---- what became of it


class State(StrEnum):
    WAITING = "waiting"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    FAILED = "failed"
    REFUSED = "refused"


OVER = frozenset((State.DELIVERED, State.FAILED, State.REFUSED))


@dataclass
class Delivery:
    url: str = field(repr=False)
    state: State = State.WAITING
    attempts: int = 0
    http_status: int | None = None
    error: str = ""
    changed_at: float = 0.0

    def render(self) -> Object:
        return {
            "url": self.url,
            "status": self.state.value,
            "attempts": self.attempts,
            "http_status": self.http_status,
            "error": self.error,
            "updated_at": timestamp(self.changed_at),
        }


def judge(status: int) -> tuple[State, str]:
    """DELIVERING: it is worth another try."""
    if 200 <= status < 300:
        return State.DELIVERED, ""
    if 300 <= status < 400:
        return State.FAILED, f"answered {status}; redirects are not followed"
    again = status >= 500 or status in AGAIN_STATUS
    return State.DELIVERING if again else State.FAILED, f"answered {status}"


Ended = Callable[[], Awaitable[Object]]
"""Waits for the end of the run: the agent's `GET /processes/ID`. Lost: nobody can say any more how it ended."""


class Lost(Exception):
    pass


class Webhooks:
    def __init__(
        self,
        dialer: Dialer,
        tls: ssl.SSLContext,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._dialer = dialer
        self._tls = tls
        self._clock = clock
        self._sleep = sleep
        self._deliveries: defaultdict[str, dict[str, Delivery]] = defaultdict(dict)
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._turns_in_all = asyncio.Semaphore(AT_ONCE_IN_ALL)
        self._tasks: dict[asyncio.Task[None], str] = {}

    def admit(self, sandbox_id: str) -> None:
        """Before the run begins: one that nobody will hear of must not run."""
        if len(self._tasks) >= MAX_RUNS_IN_ALL or list(self._tasks.values()).count(sandbox_id) >= MAX_RUNS:
            raise SurfaceError(
                Kind.TOO_MANY,
                f"More than {MAX_RUNS} runs of this sandbox, or {MAX_RUNS_IN_ALL} in all, wait for their call-back",
                retry_after_seconds=5,
            )

    def begin(self, sandbox_id: str, execution_id: str, callback: Callback, timeout_s: float, ended: Ended) -> None:
        delivery = Delivery(callback.url, changed_at=self._clock())
        self._remember(sandbox_id, execution_id, delivery)
        task = asyncio.create_task(self._run(sandbox_id, execution_id, callback, delivery, timeout_s, ended))
        self._tasks[task] = sandbox_id
        task.add_done_callback(lambda done: self._over(sandbox_id, execution_id, done))

    def of(self, sandbox_id: str, execution_id: str) -> Object | None:
        delivery = self._deliveries.get(sandbox_id, {}).get(execution_id)
        return delivery.render() if delivery else None

    async def close(self) -> None:
        if self._tasks:
            log.warning("%d call-backs are not delivered: this edge ends", len(self._tasks))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _remember(self, sandbox_id: str, execution_id: str, delivery: Delivery) -> None:
        """Those that still run are fewer than are kept, so the oldest that is over makes room."""
        kept = self._deliveries[sandbox_id]
        kept[execution_id] = delivery
        if len(kept) > KEEP:
            kept.pop(next(each for each, known in kept.items() if known.state in OVER))

    def _over(self, sandbox_id: str, execution_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if sandbox_id not in self._tasks.values():
            self._turns.pop(sandbox_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a call-back of sandbox %s failed", sandbox_id, exc_info=error)
        asyncio.get_running_loop().call_later(KEEP_S, self._forget, sandbox_id, execution_id)

    def _forget(self, sandbox_id: str, execution_id: str) -> None:
        kept = self._deliveries.get(sandbox_id, {})
        kept.pop(execution_id, None)
        if not kept:
            self._deliveries.pop(sandbox_id, None)

    async def _run(
        self,
        sandbox_id: str,
        execution_id: str,
        callback: Callback,
        delivery: Delivery,
        timeout_s: float,
        ended: Ended,
    ) -> None:
        try:
            sent = payload(execution_id, await ended(), timeout_s, self._clock())
        except Lost as error:
            sent = lost(execution_id, str(error), self._clock())
        body = json.dumps(sent, separators=(",", ":"), allow_nan=False).encode()
        for pause_s in (*AGAIN_AFTER_S, None):
            async with self._turns.setdefault(sandbox_id, asyncio.Semaphore(AT_ONCE)), self._turns_in_all:
                await self._try(sandbox_id, callback, delivery, body)
            delivery.changed_at = self._clock()
            if delivery.state is not State.DELIVERING:
                break
            if pause_s is None:
                delivery.state = State.FAILED
                break
            await self._sleep(pause_s)
        said = delivery.error or delivery.http_status
        log.info("call-back of sandbox %s to %s %s: %s", sandbox_id, callback.host, delivery.state, said)

    async def _try(self, sandbox_id: str, callback: Callback, delivery: Delivery, body: bytes) -> None:
        delivery.state = State.DELIVERING
        delivery.attempts += 1
        delivery.http_status = None
        try:
            async with asyncio.timeout(DELIVERY_S):
                sock = await self._dialer.dial(sandbox_id, callback.host, callback.port)
                sent = request(callback, body, self._clock())
                delivery.http_status = await post(sock, sent, self._tls if callback.tls else None)
        except PermissionDenied as error:
            delivery.state, delivery.error = State.REFUSED, error.message
        except AtollError as error:
            delivery.error = error.message
        except TimeoutError:
            delivery.error = f"no answer within {DELIVERY_S:g} s"
        except ssl.SSLCertVerificationError as error:
            delivery.error = f"its certificate is not accepted: {error.verify_message}"
        except (OSError, NotHttp) as error:
            delivery.error = f"the connection broke: {error}"[:256]
        else:
            delivery.state, delivery.error = judge(delivery.http_status)
