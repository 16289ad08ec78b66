"""One request on its way to a name that has header rules: whether it is one, and what it says there. Pure.

What leaves is written anew from what was understood, so nothing can be read in two ways at the other end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import h11

from atoll.core.names import normal
from atoll.core.policy import Transform

from .swaps import swapped

Headers = list[tuple[bytes, bytes]]
HeaderRules = Sequence[tuple[str, str]]


class Given(Protocol):
    """h11's headers: names in lower case, and as they came."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]: ...

    def __len__(self) -> int: ...

    def raw_items(self) -> list[tuple[bytes, bytes]]: ...


_HOST = re.compile(rb"([^\x00-\x20@/?#\[\]:]+)(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(https?)://([^/?#]*)([^#]*)")
REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))
"""TRACE asks to be sent what arrived, and the rules' headers are not for the sandbox."""
ONE_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings", b"te"))
KEPT_OPTIONS = frozenset((b"close", b"keep-alive"))
NOT_IN_TRAILERS = ONE_HOP | {b"host", b"content-length", b"transfer-encoding", b"trailer", b"expect"}
NOT_ANSWERED = frozenset((b"alt-svc",))
"""An offer of HTTP/3, where no header is set."""


@dataclass(frozen=True)
class Refused:
    why: str


@dataclass(frozen=True)
class Onward:
    method: bytes
    target: bytes
    headers: Headers = field(repr=False)

    @property
    def path(self) -> str:
        return self.target.partition(b"?")[0].decode("ascii", "replace")

    def request(self) -> h11.Request:
        return h11.Request(method=self.method, target=self.target, headers=self.headers)


_END_OF_HEAD = re.compile(rb"\n\r?\n")
_READ_IN_TWO_WAYS = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\n[ \t]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def is_strict(raw: bytes) -> bool:
    """Whether a head, or its beginning, has lines as they should be: h11 takes bare line feeds and folded lines."""
    end = _END_OF_HEAD.search(raw)
    return _READ_IN_TWO_WAYS.search(raw[: end.end()] if end else raw) is None


def onward(request: h11.Request, tls: bool, done: Transform) -> Onward | Refused:
    """`done`: what is done to requests for its name."""
    name = done.name
    if request.method in REFUSED_METHODS:
        return Refused(f"the method {request.method.decode()} is not for names with header rules")
    hosts = _values(request.headers, b"host")
    if len(hosts) != 1 or host_name(hosts[0]) != name:
        return Refused("a request for another host")
    if _framed_twice(request):
        return Refused("two ways to say where the body ends")
    target = _origin_form(request, hosts[0], tls)
    if target is None:
        return Refused("a target that is no path of this host")
    headers = swapped(_outgoing(request, done.headers), done.swaps)
    if headers is None:
        return Refused("headers that are too long with the values of secrets in them")
    return Onward(request.method, target, headers + _ruled(done.headers))


def host_name(value: bytes) -> str | None:
    """Of a Host header or an authority; a port does not matter."""
    found = _HOST.fullmatch(value)
    return normal(found[1].decode("latin-1")) if found else None


def _framed_twice(request: h11.Request) -> bool:
    coded = bool(_values(request.headers, b"transfer-encoding"))
    return coded and (bool(_values(request.headers, b"content-length")) or request.http_version < b"1.1")


def _origin_form(request: h11.Request, host: bytes, tls: bool) -> bytes | None:
    target = request.target
    if target.startswith(b"/"):
        return target if b"#" not in target else None
    if target == b"*":
        return target if request.method == b"OPTIONS" else None
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or absolute[1] != (b"https" if tls else b"http") or absolute[2].lower() != host.lower():
        return None
    rest = absolute[3]
    return rest if rest.startswith(b"/") else b"/" + rest


def _outgoing(request: h11.Request, rules: HeaderRules) -> Headers:
    ruled = {_alike(name.lower().encode()) for name, _ in rules}
    headers = [
        (raw, value)
        for (raw, value), name in zip(request.headers.raw_items(), _names(request.headers), strict=True)
        if name not in ONE_HOP and _alike(name) not in ruled
    ]
    options = _options(request.headers)
    kept = [option for option in sorted(options) if option in KEPT_OPTIONS]
    if asks_for_websocket(request):
        kept.append(b"Upgrade")
        headers.append((b"Upgrade", b"websocket"))
    if b"trailers" in _tokens(request.headers, b"te"):
        kept.append(b"TE")
        headers.append((b"TE", b"trailers"))
    if kept:
        headers.append((b"Connection", b", ".join(kept)))
    return headers


def _ruled(rules: HeaderRules) -> Headers:
    return [(name.encode(), value.strip(" \t").encode()) for name, value in rules]


def asks_for_websocket(request: h11.Request) -> bool:
    """The only change of protocol after which nobody can ask for another host."""
    wanted = _values(request.headers, b"upgrade")
    return (
        request.method == b"GET"
        and request.http_version >= b"1.1"
        and [value.lower() for value in wanted] == [b"websocket"]
        and b"upgrade" in _options(request.headers)
    )


def trailers(given: Given, rules: HeaderRules = ()) -> Headers:
    ruled = {_alike(name.lower().encode()) for name, _ in rules}
    pairs = zip(given.raw_items(), _names(given), strict=True)
    return [pair for pair, name in pairs if name not in NOT_IN_TRAILERS and _alike(name) not in ruled]


def answer_headers(answer: h11.Response | h11.InformationalResponse) -> Headers:
    """As they came. That the connection ends is said too when only the version says it."""
    pairs = zip(answer.headers.raw_items(), _names(answer.headers), strict=True)
    headers = [pair for pair, name in pairs if name not in NOT_ANSWERED]
    if answer.http_version < b"1.1" and b"close" not in _options(answer.headers):
        headers.append((b"Connection", b"close"))
    return headers


def _alike(name: bytes) -> bytes:
    """Many servers see `X_Key` and `X-Key` as one."""
    return name.replace(b"_", b"-")


def _names(headers: Given) -> Iterable[bytes]:
    return (name for name, _ in headers)


def _values(headers: Given, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]


def _tokens(headers: Given, wanted: bytes) -> set[bytes]:
    return {token.strip().lower() for value in _values(headers, wanted) for token in value.split(b",")} - {b""}


def _options(headers: Given) -> set[bytes]:
    return _tokens(headers, b"connection")
