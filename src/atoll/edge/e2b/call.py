"""One call of E2B's agent surface: the request, the sandbox it is for, as whom, and how its parts are read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from atoll.edge.agent_link import AgentLink
from atoll.edge.exchange import Exchange
from atoll.edge.routes import Route
from atoll.wire.connect import deadline_of, dump, invalid

from .watchers import Watchers

DEFAULT_USER = "user"
OCTETS = "application/octet-stream"
"""What a body is of which nothing is said."""
OUR_WORKDIR = "/workspace"
"""Of templates that chose none. E2B's begin at home then."""
MAX_PATH = 4096  # PATH_MAX


@dataclass(slots=True)
class Call:
    exchange: Exchange
    route: Route
    agent: AgentLink
    watchers: Watchers

    @property
    def request(self) -> web.BaseRequest:
        return self.exchange.request

    @property
    def content_type(self) -> str:
        """Without parameters. aiohttp reads those too, which takes the square of their length."""
        return self.request.headers.get("Content-Type", OCTETS).partition(";")[0].strip().lower()

    @property
    def user(self) -> str:
        """Whose rights are used: Basic's name, else the query's, else the default one's."""
        named = basic_user(self.request.headers.get("Authorization", "")) or self.request.query.get("username", "")
        return named or DEFAULT_USER

    @property
    def deadline_s(self) -> float | None:
        return deadline_of(self.request.headers.get("Connect-Timeout-Ms"))

    @property
    def workdir(self) -> str:
        return "~" if self.route.workdir == OUR_WORKDIR else self.route.workdir

    def path(self, given: str) -> str:
        """As the agent is to be given it: absolute, or beginning at the user's home (`~`)."""
        return resolve(given, self.workdir)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


def resolve(given: str, workdir: str) -> str:
    """ConnectError (invalid_argument) for what is no path.

    >>> resolve("a/b", "~"), resolve("", "/app"), resolve("/x", "~")
    ('~/a/b', '~', '/x')
    """
    if "\0" in given or len(given.encode("utf-8", "replace")) > MAX_PATH:
        raise invalid("the path is too long or contains a NUL character")
    if not given:
        return "~"
    if given[0] == "/" or given == "~" or given.startswith("~/"):
        return given
    if given[0] == "~":
        raise invalid("cannot expand the home directory of another user")
    return f"{workdir}/{given}"


def basic_user(authorization: str) -> str:
    """The name in Basic credentials, whose password means nothing here; empty when there is none.

    >>> basic_user("Basic cm9vdDo=")
    'root'
    """
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        return ""


def answer(value: object, status: int = 200) -> web.Response:
    return web.Response(body=dump(value), status=status, content_type="application/json")
