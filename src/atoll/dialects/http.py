"""What every HTTP surface of the server shares: the request's id, who calls, its body, and errors as answers."""

from __future__ import annotations

import inspect
import json
import logging
import math
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atoll.control.rates import refuse_over
from atoll.control.services import Services
from atoll.core.api_paths import ROUTES_MARK
from atoll.core.audit import Caller
from atoll.core.errors import AtollError, InternalError, InvalidInput, NotFound
from atoll.core.rates import Kind, Verdict

log = logging.getLogger(__name__)

MAX_BODY = 7 * 1024 * 1024  # the largest legal body is a create with 1 MiB of variables: JSON may write a byte in six
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Json = dict[str, Any]  # Any: JSON values
RenderError = Callable[[AtollError, str], tuple[int, Json]]
AnswerError = Callable[[Request, AtollError, int | None], Response]
"""How a dialect tells an error; a number is the status to show instead of the one that belongs to the error."""


def services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


def request_id(request: Request) -> str:
    return cast(str, request.scope["request_id"])


async def body(request: Request) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise InvalidInput(f"the request's body is larger than {MAX_BODY} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def credential(request: Request) -> str | None:
    """In either header: the SDKs use one, template building and the command lines the other."""
    if key := request.headers.get("x-api-key", "").strip():
        return key
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


async def caller(request: Request, *kinds: Kind) -> Caller:
    """Called first by every route: before its key is known and has a call left, nothing of a request is looked at."""
    principal = await services(request).keys.authenticate(credential(request))
    found = services(request).rates.draw(principal, Kind.CONTROL, *kinds)
    request.scope["rate_headers"] = rate_headers(found)
    refuse_over(found)
    return Caller(principal, request_id(request), request.headers.get("x-forwarded-for"))


def rate_headers(found: Verdict | None) -> dict[str, str]:
    if found is None:
        return {}
    headers = {
        "X-RateLimit-Limit": str(found.limit),
        "X-RateLimit-Remaining": str(found.remaining),
        "X-RateLimit-Reset": str(math.ceil(found.full_at)),
    }
    return {**headers, "Retry-After": str(found.retry_after_s)} if found.retry_after_s else headers


async def waits(request: Request) -> bool:
    """Whether the client is still there; asked after its body has been read."""
    return not await request.is_disconnected()


def answer(content: Json, status: int = 200) -> Response:
    raw = json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode()
    return Response(raw, status, media_type="application/json")


def answer_list(items: Sequence[Json], headers: Mapping[str, str] = {}) -> Response:
    raw = json.dumps(items, ensure_ascii=True, separators=(",", ":")).encode()
    return Response(raw, media_type="application/json", headers=dict(headers))


Serves = Callable[[APIRoute, Scope], bool]


class PlainRoute(Route):
    """One of a router's, as Starlette has them: its function takes the request and what stands in the path. FastAPI's
    own would look for parameters, dependencies and models that ours do not have, at each call."""

    def __init__(self, declared: APIRoute, serves: Serves) -> None:
        names = declared.param_convertors.keys() & inspect.signature(declared.endpoint).parameters.keys()

        async def endpoint(request: Request) -> Response:
            return cast(
                Response, await declared.endpoint(request, **{each: request.path_params[each] for each in names})
            )

        super().__init__(declared.path, endpoint)
        self.methods = declared.methods  # as declared: Starlette adds HEAD
        self._declared = declared
        self._serves = serves

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if self._serves(self._declared, scope) else (Match.NONE, {})


def plain_routes(routers: Iterable[APIRouter], serves: Serves) -> list[Route]:
    declared = (route for router in routers for route in router.routes)
    return [PlainRoute(route, serves) for route in declared if isinstance(route, APIRoute)]


class RequestScope:
    """Outermost: gives each request an id (the edge's, when it sent one), shows it and its key's rate in the
    answer, and logs under it what nobody caught; the answer to that is in `handle_errors`. `mark`: of the routes, for
    the edge."""

    def __init__(self, app: ASGIApp, mark: Callable[[], str]) -> None:
        self._app = app
        self._mark = mark

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        identity = scope["request_id"] = _given_id(scope) or "req_" + secrets.token_hex(12)
        scope["rate_headers"] = {}

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message["headers"]).update(
                    {"X-Request-ID": identity, ROUTES_MARK: self._mark(), **scope["rate_headers"]}
                )
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s: %s %s", identity, scope["method"], scope["path"])


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            return text if _REQUEST_ID.fullmatch(text) else None
    return None


def plainly(render_error: RenderError) -> AnswerError:
    def answered(request: Request, problem: AtollError, status: int | None) -> Response:
        usual, content = render_error(problem, request_id(request))
        return answer(content, status or usual)

    return answered


def handle_errors(app: Starlette, answer_error: AnswerError) -> None:
    def rendered(request: Request, problem: AtollError, status: int | None = None) -> Response:
        return answer_error(request, problem, status)

    async def known(request: Request, error: Exception) -> Response:
        return rendered(request, cast(AtollError, error))

    async def http(request: Request, error: Exception) -> Response:
        status = cast(HTTPException, error).status_code
        if status == 405:
            return rendered(request, InvalidInput(f"{request.method} is not allowed here"), status)
        if status == 404:
            return rendered(request, NotFound("there is no such route"))
        return rendered(request, InvalidInput("the request cannot be read"), status)

    async def unknown(request: Request, error: Exception) -> Response:
        identity = request_id(request)
        return rendered(request, InternalError(f"Internal error; the log has it under {identity}."))

    app.add_exception_handler(Exception, unknown)
    app.add_exception_handler(AtollError, known)
    app.add_exception_handler(HTTPException, http)
