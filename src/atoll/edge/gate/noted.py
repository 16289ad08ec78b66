"""What the head of a request says to us: who asks, for which sandbox, and in which form an answer is read. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from atoll.edge.auth import Credentials
from atoll.edge.routing import Naming
from atoll.wire.http1 import Field, Request

LINK = b"atoll_link"
"""The parameter of a signed link's query."""
DOOR = b"atoll_door"
"""The cookie that a signed link becomes."""
HOST_DOOR = b"__Host-atoll_door"
"""The same where TLS is: no host below or beside can set it, and no path confines it."""
OUR_COOKIES = frozenset((DOOR, HOST_DOOR))

_ONCE = {
    b"x-api-key": "api_key",
    b"authorization": "authorization",
    b"e2b-traffic-access-token": "traffic",
    b"e2b-sandbox-id": "sandbox_id",
    b"novita-sandbox-id": "sandbox_id",
    b"e2b-sandbox-port": "port",
    b"novita-sandbox-port": "port",
    b"x-access-token": "access_token",
    b"origin": "origin",
    b"sec-fetch-site": "fetch_site",
    b"sec-fetch-mode": "fetch_mode",
    b"sec-fetch-dest": "fetch_dest",
}
"""Given twice, nobody could say which of them counts."""
NAMING_FIELDS = frozenset((b"e2b-sandbox-id", b"novita-sandbox-id", b"e2b-sandbox-port", b"novita-sandbox-port"))


@dataclass(slots=True)
class Noted:
    said: dict[str, str] = field(default_factory=dict)
    doubled: str = ""
    """The name of a field that is there more than once and must not be."""
    cookies: list[bytes] = field(default_factory=list)
    page: bool = False
    """A person looks at the answer."""

    @property
    def naming(self) -> Naming:
        said = self.said
        return Naming(said.get("sandbox_id"), said.get("port"), "api_key" in said, "access_token" in said)

    @property
    def names_sandbox(self) -> bool:
        return not self.said.keys().isdisjoint(("sandbox_id", "port", "access_token"))

    def is_own_page(self, *origins: str) -> bool:
        """Who asks is a page of the same origin (as each of `origins` names it), or the person at the browser. All
        sandboxes of a domain are one site, so a browser sends a cookie of one of them whichever's page asks."""
        said = self.said
        if said.get("origin", origins[0]) not in origins:
            return False
        by_hand = said.get("fetch_mode") == "navigate" and said.get("fetch_dest") == "document"
        return by_hand or said.get("fetch_site", "none") in ("none", "same-origin")

    def credentials(self, scheme: bytes, host: bytes) -> Credentials:
        said, cookie = self.said, ""
        name = host.decode("latin-1")
        own = (f"https://{name}",) if scheme == b"https" else (f"http://{name}", f"https://{name}")
        if self.cookies and self.is_own_page(*own):  # in the clear: perhaps a proxy before us speaks TLS
            cookie = (cookie_of(self.cookies, HOST_DOOR) if scheme == b"https" else "") or cookie_of(self.cookies, DOOR)
        return Credentials(
            api_key=said.get("api_key", ""),
            authorization=said.get("authorization", ""),
            cookie=cookie,
            traffic=said.get("traffic", ""),
            access=said.get("access_token", ""),
        )


def note(request: Request) -> Noted:
    noted = Noted()
    for name, value in request.fields:
        low = name.lower()
        if (key := _ONCE.get(low)) is not None:
            if key in noted.said:
                noted.doubled = noted.doubled or name.decode("latin-1")
            noted.said[key] = value.decode("latin-1")
        elif low == b"cookie":
            noted.cookies.append(value)
        elif low == b"accept":
            noted.page = b"text/html" in value and request.method in (b"GET", b"HEAD")
    return noted


def cookie_of(given: list[bytes], name: bytes) -> str:
    """The first, which is that of the longest path."""
    for pair in _pairs(given):
        key, _, value = pair.partition(b"=")
        if key == name:
            return value.decode("latin-1")
    return ""


def without_ours(given: bytes) -> bytes:
    """A program's cookies, without those that are about the door."""
    if DOOR not in given:
        return given
    return b"; ".join(pair for pair in _pairs([given]) if pair.partition(b"=")[0].rstrip() not in OUR_COOKIES)


def _pairs(given: list[bytes]) -> list[bytes]:
    return [pair.strip() for text in given for pair in text.split(b";")]


def link_in(query: bytes) -> tuple[bytes, bytes] | None:
    """The link's token, and the query without it."""
    if LINK not in query:
        return None
    parts = query.split(b"&")
    for at, part in enumerate(parts):
        name, _, value = part.partition(b"=")
        if name == LINK:
            return value, b"&".join(parts[:at] + parts[at + 1 :])
    return None


def door_cookie(value: str, mount: str, secure: bool, seconds: int) -> Field:
    """For this host alone, and where it is shared for this sandbox's path alone; no program and no script reads it.

    By path a page has an origin of its own (CSP `sandbox`), so what it loads comes without the cookie: SameSite=None
    would let it, and every other site's page as well."""
    name = HOST_DOOR if secure and not mount else DOOR
    attributes = f"; Path={mount}/; Max-Age={max(0, seconds)}; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"
    return (b"Set-Cookie", name + b"=" + (value + attributes).encode("latin-1"))
