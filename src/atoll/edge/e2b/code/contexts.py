"""Contexts made, listed, restarted and removed. Those of languages are there before anybody has used them."""

from __future__ import annotations

import uuid

from aiohttp import web

from atoll.edge.agent_link import AgentRefused
from atoll.edge.frames_in import mapping, objects, text

from . import names, orders
from .call import Call, answer
from .errors import Refused, no_such_context
from .execute import refusal_of

START_S = 60.0
"""A kernel of Java takes some seconds, and on a busy machine more."""


async def create(call: Call) -> web.StreamResponse:
    wanted = orders.making(await call.body())
    context_id = str(uuid.uuid4())
    order = {"id": context_id, "language": wanted.language, "cwd": wanted.cwd, "user": "user", "env": {}}
    try:
        record = mapping((await call.agent.call("POST", "/contexts", json=order, timeout_s=START_S)).get("context"))
    except AgentRefused as refused:
        if refused.kind == "not_found":  # a kernel, or what it needs
            raise Refused(500, refused.message) from refused
        raise
    return answer(_shown(context_id, wanted.language, text(record.get("cwd")) or wanted.cwd))


async def listing(call: Call) -> web.StreamResponse:
    records = objects((await call.agent.call("GET", "/contexts")).get("contexts"))
    there = {each["id"]: each for each in records if isinstance(each.get("id"), str) and names.is_ours(each["id"])}
    always = {names.default_id(language): {"language": language, "cwd": names.HOME} for language in names.DEFAULTS}
    return answer(
        [
            _shown(context_id, text(record.get("language")), text(record.get("cwd")))
            for context_id, record in (always | there).items()
        ]
    )


async def restart(call: Call) -> web.StreamResponse:
    return await _tell(call, "POST", "/restart")


async def remove(call: Call) -> web.StreamResponse:
    return await _tell(call, "DELETE", "")


async def _tell(call: Call, method: str, what: str) -> web.StreamResponse:
    context_id = call.context_id
    if not names.is_ours(context_id):
        raise no_such_context(context_id)
    try:
        await call.agent.call(method, f"/contexts/{context_id}{what}", timeout_s=START_S)
    except AgentRefused as refused:
        unused = refused.kind == "not_found" and names.default_language(context_id) in names.DEFAULTS
        if not unused:  # those are always in the list, so they are there to be restarted
            raise refusal_of(refused, context_id) from refused
    return answer(None)


def _shown(context_id: str, language: str, cwd: str) -> dict[str, str]:
    return {"id": context_id, "language": language, "cwd": cwd}
