"""Requests that are sent again under the same key: done once, answered each time with the first answer.

The key is written down before anything is done, the answer after. So whoever finds a key without an answer finds either
one that is being worked on, or one whose server ended meanwhile: then nobody knows what became of it, and nothing is
done a second time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from atoll.core.audit import Caller
from atoll.core.errors import Conflict, InvalidInput
from atoll.core.ports import Clock, Store

KEEP_S = 24 * 3600.0

Answer = Mapping[str, Any]  # Any: JSON values
Work = Callable[[], Awaitable[Answer]]


class Idempotency:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._attempt = secrets.token_hex(8)

    async def once(self, caller: Caller, key: str, request: Any, work: Work) -> Answer:  # Any: JSON values
        """The answer of `work`, or the one that was given under this key in the last 24 hours.

        Keys are each organization's own. Raises Conflict while the first is still at work, or when nobody knows what
        became of it; InvalidInput for another request under the same key. Work that fails leaves the key free.
        """
        kept_as = _digest([caller.principal.organization_id, key])
        asked, now = _digest(request), self._clock.now()
        await self._store.answers.forget(now - KEEP_S)
        kept = await self._store.answers.begin(kept_as, asked, self._attempt, now)
        if kept is None:
            return await self._first(kept_as, work)
        if kept.request != asked:
            raise InvalidInput(
                "This Idempotency-Key was used with another request. Use a new key for a new request.",
                cause="idempotency_request_mismatch",
            )
        if kept.answer:
            return kept.answer
        if kept.attempt == self._attempt:
            raise Conflict(
                "A request with this Idempotency-Key is still being worked on. Ask again in a moment.",
                cause="idempotency_in_progress",
            )
        raise Conflict(
            "The server ended while it worked on the request with this Idempotency-Key. List your sandboxes to see "
            "what was made, then use a new key.",
            cause="idempotency_outcome_unknown",
        )

    async def _first(self, kept_as: str, work: Work) -> Answer:
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(self._store.answers.abandon, kept_as, self._attempt)
            answer = await work()
            undo.pop_all()
        await self._store.answers.finish(kept_as, answer)
        return answer


def _digest(values: Any) -> str:  # Any: JSON values
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
