"""Which fields of a request go in to a program, and which of its answer come out. Pure.

In: not what concerns one hop only, not what clients claim about hops before us, not credentials of ours.
Out: not what concerns one hop, and not what would reach beyond the sandbox's own name or path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from atoll.wire.http1 import Answer, Field, Request, lines

from .noted import NAMING_FIELDS, OUR_COOKIES, without_ours

HOP_BY_HOP = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"transfer-encoding", b"upgrade"),
    )
)  # RFC 9110, 7.6.1
CLAIMS = frozenset((b"forwarded", b"x-real-ip", b"x-request-id"))
CLAIM_PREFIXES = (b"x-forwarded-", b"x-atoll-")
FRAMING = frozenset((b"content-length", b"host"))
"""That Connection may name without effect."""

COOKIE_MARK = "atoll-"
"""Before the names of cookies of a program that shares its host with others: a browser sends everybody the cookies of
the host, and only what bears the mark is the program's."""
BEYOND_ORIGIN = frozenset((b"alt-svc", b"clear-site-data"))
"""The latter clears the cookies of all hosts below the domain."""
BEYOND_PATH = BEYOND_ORIGIN | {
    *(b"nel", b"report-to", b"reporting-endpoints", b"service-worker-allowed"),
    b"strict-transport-security",
}
"""Fields that rule over a whole origin, from a program that has only a path in ours."""
_LEFT_OUT = re.compile(
    b"\r\n(?:"
    + b"|".join(b"[%c%c](?i:%b)" % (*name[:1], *name[:1].upper(), name[1:]) for name in HOP_BY_HOP | BEYOND_ORIGIN)
    + b"):[^\r]*+"
)
"""Lines, in a block of them that is well-formed."""
_OF_CONNECTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))
CONFINED = b"sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts"


@dataclass(slots=True)
class Passing:
    """What is said of the way of requests of one client to one port."""

    source: bytes
    """Who sent it: an address, or unknown."""
    scheme: bytes
    host: bytes
    """As the client wrote it."""
    mount: str = ""
    """What stands before the program's path, where it has no host of its own."""
    spent: frozenset[bytes] = frozenset()
    """Fields with credentials of ours, in lower case."""
    masked: bytes = b""
    """The host that the program is to see in the place of the client's."""
    shared: bool = False
    """The sandbox is named by fields, on a host that serves others too."""

    @property
    def confined(self) -> bool:
        return self.shared or bool(self.mount)


REQUEST_ID = b"X-Request-ID"


def inward(request: Request, way: Passing, request_id: bytes) -> list[Field]:
    """The last is the id: nothing else differs between two requests with the same fields on the same way."""
    dropped = (request.named - FRAMING) | way.spent
    fields = [(b"Host", way.masked or way.host)]
    cookies: list[bytes] = []
    for field in request.fields:
        name = field[0].lower()
        if name in HOP_BY_HOP or name in NAMING_FIELDS or name in dropped or is_claim(name):
            continue
        if b"_" in name and name.replace(b"_", b"-") in dropped:
            continue
        if name == b"cookie":
            cookies.append(field[1])
            continue
        fields.append(field)
    if request.length is None:
        fields.append((b"Transfer-Encoding", b"chunked"))
    if request.upgrade:
        fields += ((b"Connection", b"Upgrade"), (b"Upgrade", request.upgrade))
    fields += ((b"Cookie", own) for own in _programs_cookies(cookies, way))
    if way.mount:
        fields.append((b"X-Forwarded-Prefix", way.mount.encode()))
    fields += (
        (b"X-Forwarded-For", way.source),
        (b"X-Forwarded-Host", way.host),
        (b"X-Forwarded-Proto", way.scheme),
        (REQUEST_ID, request_id),
    )
    return fields


def _programs_cookies(given: list[bytes], way: Passing) -> list[bytes]:
    if way.shared:
        return []
    own = [own_cookies(given)] if way.mount else [without_ours(each) for each in given]
    return [each for each in own if each]


def is_claim(name: bytes) -> bool:
    """However it is spelt: WSGI servers read `_` as `-`. `name` is in lower case."""
    if name[:1] not in b"xf":
        return False
    name = name.replace(b"_", b"-")
    return name in CLAIMS or name.startswith(CLAIM_PREFIXES)


def outward(answer: Answer, way: Passing) -> list[Field]:
    dropped = (answer.named - FRAMING) | (BEYOND_PATH if way.confined else BEYOND_ORIGIN)
    fields: list[Field] = []
    for field in answer.fields:
        name = field[0].lower()
        if name in HOP_BY_HOP or name in dropped:
            continue
        if name == b"set-cookie":
            if not way.shared and (cookie := confined_cookie(_text(field[1]), way.mount, _text(way.host))):
                fields.append((field[0], _bytes(cookie)))
        elif way.mount and name in _PLACES:
            fields.append((field[0], _bytes(below(_text(field[1]), way.mount, _text(way.host)))))
        else:
            fields.append(field)
    if way.confined:
        fields.append((b"Content-Security-Policy", CONFINED))
    return fields


def outward_block(answer: Answer, way: Passing) -> bytes:
    """The same as lines, each behind a line end; those of most answers pass as they are."""
    if way.shared or way.mount or not answer.block:
        return lines(outward(answer, way))
    if answer.onward is None:
        if not answer.named <= _OF_CONNECTIONS or b"\r\nset-cookie:" in answer.block.lower():
            return lines(outward(answer, way))
        answer.onward = _LEFT_OUT.sub(b"", answer.block)
    return answer.onward


_PLACES = frozenset((b"location", b"content-location", b"refresh"))


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _bytes(value: str) -> bytes:
    return value.encode("latin-1")


def below(location: str, mount: str, host: str) -> str:
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
    if pair.partition("=")[0].strip().encode("latin-1") in OUR_COOKIES:
        return None
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


def own_cookies(given: Iterable[bytes]) -> bytes:
    mark = COOKIE_MARK.encode()
    pairs = (pair.strip() for text in given for pair in text.split(b";"))
    return b"; ".join(pair.removeprefix(mark) for pair in pairs if pair.startswith(mark))
