"""An error as an answer to one request of E2B's clients."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from atoll.core.errors import AtollError
from atoll.dialects.http import answer

from .errors import refusal


def answer_error(request: Request, problem: AtollError, status: int | None) -> Response:
    found = refusal(problem, request.path_params.get("sandbox_id"), status)
    answered = answer(found.content, found.status)
    answered.headers.update(found.headers)
    return answered
