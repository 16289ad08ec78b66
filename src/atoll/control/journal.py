"""Who did what: one audit row per control-plane operation, written when its outcome is known."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from atoll.core.audit import AuditEntry, Caller
from atoll.core.errors import AtollError, ErrorKind
from atoll.core.ports import Clock, Store

log = logging.getLogger(__name__)

KEEP_S = 90 * 24 * 3600.0
KEEP_ROWS = 1_000_000  # about 200 MB: clients poll, and a poll is an operation too
MAX_TEXT = 64


@dataclass
class Operation:
    sandbox_id: str | None = None
    detail: str | None = None
    template: str | None = None


class Journal:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    @contextlib.asynccontextmanager
    async def operation(self, caller: Caller, name: str, sandbox_id: str | None = None) -> AsyncIterator[Operation]:
        operation = Operation(sandbox_id)
        outcome = "ok"
        try:
            yield operation
        except AtollError as error:
            outcome = error.kind.value
            raise
        except BaseException:
            outcome = ErrorKind.INTERNAL.value
            raise
        finally:
            await self._write(caller, name, operation, outcome)

    async def _write(self, caller: Caller, name: str, operation: Operation, outcome: str) -> None:
        entry = AuditEntry(
            at=self._clock.now(),
            key_id=caller.principal.key_id,
            operation=name,
            outcome=outcome,
            sandbox_id=operation.sandbox_id and operation.sandbox_id[:MAX_TEXT],
            request_id=caller.request_id,
            source=caller.source and caller.source[:MAX_TEXT],
            detail=operation.detail,
            template=operation.template,
        )
        try:
            await self._store.audit.append(entry)
        except Exception:
            # The effect has happened: an error now would make the client repeat it. The log has the entry instead.
            log.exception("no audit row for %s", entry)

    async def sweep(self) -> None:
        await self._store.audit.forget(self._clock.now() - KEEP_S, KEEP_ROWS)
