"""Requests for programs that listen in a sandbox: passed on as they came, answered as the program answers.

What is changed on the way in: what concerns one hop only, what clients claim about hops before us, credentials of ours.
On the way out: what concerns one hop, and what would reach beyond the sandbox's own name or path (`answer_headers`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from .agent_link import AgentError, AgentLink, AgentRefused, TooManyCalls
from .exchange import SERVER, Exchange
from .frames_in import objects, whole
from .pages import Failure, PortError
from .ports_link import DialFailed, PortsLink
from .proxy import HOP_BY_HOP, forwarded_headers, sandbox_behind
from .tunnel import Switched, tunnel

WEB_PORT = 8000
IDLE_TIMEOUT_S = 3600.0  # without a byte from the program: streams of events are silent for long
STALL_TIMEOUT_S = 300.0  # without a byte from a client that sends, or taken by one that reads
LISTENING_FOR_S = 1.0  # how long an answer to "who listens?" is used
MAX_PORTS = 256
REFUSED_METHODS = frozenset(("CONNECT", "TRACE"))
REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS"))
COOKIE_MARK = "atoll-"
"""Before the names of cookies of a program that shares its host with others: a browser sends everybody the cookies of
the host, and only what bears the mark is the program's."""

BEYOND_ORIGIN = frozenset(("alt-svc",))
BEYOND_PATH = BEYOND_ORIGIN | {
    "clear-site-data",
    "nel",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "strict-transport-security",
}
"""Headers that rule over a whole origin, from a program that has only a path in ours."""
CONFINED = "sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts"


@dataclass(frozen=True, slots=True)
class Visit:
    exchange: Exchange
    ports: PortsLink
    agent: AgentLink
    port: int | None
    """None: the sandbox's web port."""
    path: str
    mount: str
    spent: frozenset[str]
    """Headers with credentials of ours."""

    @property
    def request(self) -> web.BaseRequest:
        return self.exchange.request


async def serve(visit: Visit) -> web.StreamResponse:
    if visit.request.method in REFUSED_METHODS:
        raise PortError(Failure.METHOD, f"{visit.request.method} is not allowed here")
    if not visit.path:
        return _to_directory(visit)
    try:
        with visit.ports.passage():
            port = visit.port or await _web_port(visit)
            return await _pass(visit, port)
    except TooManyCalls as error:
        raise PortError(Failure.TOO_MANY_CONNECTIONS, "Too many connections to this sandbox at once") from error


def _to_directory(visit: Visit) -> web.StreamResponse:
    """`/s/ID/PORT`: relative links of the program's pages need the slash."""
    _, mark, query = visit.request.raw_path.partition("?")
    return web.Response(status=308, headers={"Location": f"{visit.mount}/{mark}{query}"})


# ---- which port


async def _web_port(visit: Visit) -> int:
    listening = await _listening(visit)
    port = web_port(listening)
    if port is None:
        raise PortError(
            Failure.NO_WEB_PORT,
            f"Nothing listens at port {WEB_PORT} of this sandbox, and more than one other port does: name one",
            listening=listening,
        )
    return port


def web_port(listening: list[int]) -> int | None:
    if WEB_PORT in listening or not listening:
        return WEB_PORT
    return listening[0] if len(listening) == 1 else None


async def _listening(visit: Visit) -> list[int]:
    known = visit.ports.listening
    if known is None or known[0] < time.monotonic():
        answer = await visit.agent.call("GET", "/ports")
        found = sorted({port for each in objects(answer.get("ports")) if 0 < (port := whole(each.get("port"))) < 65536})
        visit.ports.listening = known = (time.monotonic() + LISTENING_FOR_S, found[:MAX_PORTS])
    return known[1]


# ---- the way in and out


async def _pass(visit: Visit, port: int) -> web.StreamResponse:
    answer = await _ask(visit, port)
    try:
        if answer.status == 101:
            return await _switch(visit, answer)
        return await _relay(visit, answer)
    finally:
        if answer.content.at_eof() and answer.status != 101:
            answer.release()
        else:
            answer.close()


async def _ask(visit: Visit, port: int) -> aiohttp.ClientResponse:
    request = visit.request
    repeatable = request.method in REPEATABLE and not request.can_read_body and not is_websocket(request)
    try:
        return await visit.ports.session(repeatable=repeatable).request(
            request.method,
            URL(f"http://sandbox:{port}{_target(visit)}", encoded=True),
            headers=_headers(visit),
            data=_body(request) if request.can_read_body else None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_read=IDLE_TIMEOUT_S),
        )
    except DialFailed as error:
        raise _why_not(error.reason, port) from error
    except TimeoutError as error:
        raise PortError(Failure.NO_ANSWER, f"The program at port {port} does not answer", port=port) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise PortError(
            Failure.BROKEN_ANSWER, f"The program at port {port} closed the connection or does not speak HTTP", port=port
        ) from error


def _why_not(error: AgentError, port: int) -> Exception:
    if isinstance(error, AgentRefused) and error.kind == "not_found":
        return PortError(Failure.PORT_CLOSED, f"Nothing listens at port {port} of this sandbox", port=port)
    return error


def _target(visit: Visit) -> str:
    _, mark, query = visit.request.raw_path.partition("?")
    target = f"{visit.path}{mark}{query}"
    if "#" in target:
        raise PortError(Failure.BAD_REQUEST, "A '#' is not part of a request's target")
    return target


def _headers(visit: Visit) -> CIMultiDict[str]:
    request = visit.request
    for name in ("X-API-Key", "Authorization"):
        if len(request.headers.getall(name, ())) > 1:  # which of them would be ours?
            raise PortError(Failure.BAD_REQUEST, f"The header {name} is there more than once")
    headers = forwarded_headers(request, visit.exchange.id, visit.spent)
    if sandbox_behind(request) is not None:
        headers["X-Forwarded-For"] = "unknown"  # a sandbox's id is its own affair
    if visit.mount:
        headers["X-Forwarded-Prefix"] = visit.mount
        cookies = own_cookies(headers.popall("Cookie", []))
        if cookies:
            headers["Cookie"] = cookies
    if is_websocket(request):
        headers["Connection"], headers["Upgrade"] = "Upgrade", "websocket"
    return headers


def is_websocket(request: web.BaseRequest) -> bool:
    wanted = request.headers.get("Upgrade", "").lower()
    return (
        request.method == "GET" and wanted == "websocket" and "upgrade" in connection_options(request.headers.items())
    )


def connection_options(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    lines = (value for name, value in headers if name.lower() == "connection")
    return frozenset(option.strip().lower() for line in lines for option in line.split(","))


async def _body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(STALL_TIMEOUT_S):
            chunk = await request.content.readany()
        if not chunk:
            return
        yield chunk


async def _relay(visit: Visit, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, reason=_reason(answer), headers=_answer_headers(visit, answer))
    await _begin(visit, response)
    try:
        async for chunk in answer.content.iter_any():
            async with asyncio.timeout(STALL_TIMEOUT_S):
                await response.write(chunk)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ConnectionResetError("the program's answer broke off, or its reader stands still") from error
    await response.write_eof()
    return response


async def _switch(visit: Visit, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    if not is_websocket(visit.request) or answer.connection is None:
        raise PortError(Failure.BROKEN_ANSWER, "The program changed to another protocol that nobody asked for")
    headers = _answer_headers(visit, answer)
    headers["Connection"], headers["Upgrade"] = "Upgrade", "websocket"
    response = Switched(status=101, reason="Switching Protocols", headers=headers)
    response.force_close()
    await _begin(visit, response)
    await tunnel(visit.request, answer.connection, IDLE_TIMEOUT_S)
    return response


async def _begin(visit: Visit, response: web.StreamResponse) -> None:
    response.headers.setdefault("Server", SERVER)
    visit.exchange.begun = True
    await response.prepare(visit.request)


def _reason(answer: aiohttp.ClientResponse) -> str | None:
    reason = answer.reason
    return reason if reason and reason.isascii() and reason.isprintable() else None


def _answer_headers(visit: Visit, answer: aiohttp.ClientResponse) -> CIMultiDict[str]:
    return answer_headers(answer.headers.items(), visit.mount, visit.request.headers.get("Host", ""))


def answer_headers(given: Iterable[tuple[str, str]], mount: str, host: str) -> CIMultiDict[str]:
    given = list(given)
    dropped = HOP_BY_HOP | connection_options(given) - {"content-length"} | (BEYOND_PATH if mount else BEYOND_ORIGIN)
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in given:
        value = value.encode("utf-8", "replace").decode()  # bytes that are no text came as lone surrogates
        match name.lower():
            case dropping if dropping in dropped:
                continue
            case "set-cookie":
                if cookie := confined_cookie(value, mount, host):
                    headers.add(name, cookie)
            case "location" | "content-location" | "refresh" if mount:
                headers.add(name, _below(value, mount, host))
            case _:
                headers.add(name, value)
    if mount:
        headers.add("Content-Security-Policy", CONFINED)
    return headers


def _below(location: str, mount: str, host: str) -> str:
    """Where the program means its own root."""
    if location.startswith("/") and not location.startswith(("//", "/\\")):
        return mount + location
    try:
        url = urlsplit(location)
    except ValueError:
        return location
    if url.scheme in ("http", "https") and url.netloc == host:
        return url._replace(scheme="", netloc="", path=mount + (url.path or "/")).geturl()
    return location


def confined_cookie(text: str, mount: str, host: str) -> str | None:
    """For the program's own name only, and below its path where the name is shared. None: it asks for more."""
    pair, *attributes = [part.strip() for part in text.split(";")]
    kept, path = [], "/"
    for attribute in attributes:
        name, _, value = attribute.partition("=")
        match name.strip().lower():
            case "domain":
                if value.strip().lower().removeprefix(".") != host.partition(":")[0].lower():
                    return None
                # Without it a cookie is for this host alone, with it for hosts below as well.
            case "path" if mount:
                path = value.strip()
            case _:
                kept.append(attribute)
    if not mount:
        return "; ".join([pair, *kept])
    return "; ".join([COOKIE_MARK + pair, *kept, f"Path={mount}{path if path.startswith('/') else '/'}"])


def own_cookies(given: Iterable[str]) -> str:
    pairs = (pair.strip() for text in given for pair in text.split(";"))
    return "; ".join(pair.removeprefix(COOKIE_MARK) for pair in pairs if pair.startswith(COOKIE_MARK))
