"""The log of outbound traffic and its figures: paths of our own, beside every dialect.

Errors look as those of HopX's control plane, like everywhere below /v1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from atoll.control.egress_log import MAX_ENTRIES, MAX_WAIT_S
from atoll.core.errors import InvalidInput

from .http import answer, caller, request_id, services

router = APIRouter()

DEFAULT_ENTRIES = 100
MAX_DIGITS = 15
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/v1/sandboxes/{sandbox_id}/egress")
async def read_log(request: Request, sandbox_id: str) -> Response:
    """What follows `after` (below 0: the last so many), at most `limit`; while nothing does, up to `wait` seconds."""
    by = await caller(request)
    given = request.query_params
    after = whole(given, "after", 0, signed=True)
    limit = whole(given, "limit", DEFAULT_ENTRIES)
    if not 0 < limit <= MAX_ENTRIES:
        raise InvalidInput(f"limit is a number from 1 to {MAX_ENTRIES}", field="limit")
    found = await services(request).egress.read(by, sandbox_id, after, limit, seconds(given, "wait", MAX_WAIT_S))
    return answer({"entries": list(found.entries), "cursor": found.cursor, "request_id": request_id(request)})


@router.get("/v1/sandboxes/{sandbox_id}/egress/totals")
async def read_totals(request: Request, sandbox_id: str) -> Response:
    found = await services(request).egress.totals(await caller(request), sandbox_id)
    return answer({**found, "request_id": request_id(request)})


@router.get("/v1/metrics")
async def read_metrics(request: Request) -> Response:
    """Of all sandboxes together, as Prometheus reads it; with an API key, as a bearer."""
    found = await services(request).egress.totals_of_all(await caller(request))
    return Response("".join(prometheus(found)), media_type=PROMETHEUS)


def whole(given: Mapping[str, str], name: str, default: int, signed: bool = False) -> int:
    text = given.get(name)
    if not text:
        return default
    digits = text.removeprefix("-") if signed else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS):
        raise InvalidInput(f"{name} is a whole number", field=name)
    return int(text)


def seconds(given: Mapping[str, str], name: str, most: float) -> float:
    text = given.get(name) or "0"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise InvalidInput(f"{name} is a number of seconds from 0 to {most:g}", field=name)
    return value


METRICS: tuple[tuple[str, str, str], ...] = (
    ("connections", "connections_total", "Outbound connections that were let out and are over."),
    ("failed", "failed_total", "Of these, those to which nobody answered."),
    ("denied", "denied_total", "Outbound connections, requests and questions that were refused."),
    ("questions", "questions_total", "Questions to the resolver."),
    ("bytes_out", "sent_bytes_total", "Bytes that sandboxes sent."),
    ("bytes_in", "received_bytes_total", "Bytes that sandboxes received."),
    ("lost", "lost_total", "Log entries that could not be written, and gaps in the kernel's events."),
)
"""Of the totals: name there, name for Prometheus, help."""
METRICS_BY_RULE = (
    ("by_rule", "entries_total", "Log entries by the kind of rule that decided."),
    ("refused_packets", "refused_packets_total", "Packets that the kernel refused, each counted, by rule."),
)


def prometheus(totals: Mapping[str, Any]) -> Iterator[str]:  # Any: JSON values
    for name, metric, text in METRICS:
        if name in totals:
            yield f"# HELP atoll_egress_{metric} {text}\n# TYPE atoll_egress_{metric} counter\n"
            yield f"atoll_egress_{metric} {totals[name]}\n"
    for name, metric, text in METRICS_BY_RULE:
        if by_rule := totals.get(name):
            yield f"# HELP atoll_egress_{metric} {text}\n# TYPE atoll_egress_{metric} counter\n"
            for rule, count in sorted(by_rule.items()):
                yield f'atoll_egress_{metric}{{rule="{_label(rule)}"}} {count}\n'


def _label(text: str) -> str:
    return re.sub(r'[\\"\n]', "_", text)
