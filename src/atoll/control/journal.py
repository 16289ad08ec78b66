"""Who did what: one audit row per control-plane operation, written when its outcome is known. The success of one that
changes a sandbox is written in one transaction with the change, and corrected should it fail after that."""

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
OK = "ok"


@dataclass
class Operation:
    caller: Caller
    name: str
    clock: Clock
    sandbox_id: str | None = None
    detail: str | None = None
    template: str | None = None
    written: AuditEntry | None = None
    """Its success, when that was written together with what it has done."""

    def entry(self, outcome: str = OK) -> AuditEntry:
        return AuditEntry(
            at=self.clock.now(),
            key_id=self.caller.principal.key_id,
            operation=self.name,
            outcome=outcome,
            sandbox_id=self.sandbox_id and self.sandbox_id[:MAX_TEXT],
            request_id=self.caller.request_id,
            source=self.caller.source and self.caller.source[:MAX_TEXT],
            detail=self.detail,
            template=self.template,
        )


class Journal:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    @contextlib.asynccontextmanager
    async def operation(self, caller: Caller, name: str, sandbox_id: str | None = None) -> AsyncIterator[Operation]:
        operation = Operation(caller, name, self._clock, sandbox_id)
        outcome = OK
        try:
            yield operation
        except AtollError as error:
            outcome = error.kind.value
            raise
        except BaseException:
            outcome = ErrorKind.INTERNAL.value
            raise
        finally:
            await self._write(operation, outcome)

    async def _write(self, operation: Operation, outcome: str) -> None:
        try:
            if operation.written is None:
                await self._store.audit.append(operation.entry(outcome))
            elif outcome != OK:
                await self._store.audit.correct(operation.written, outcome)
        except Exception:
            # The effect has happened: an error now would make the client repeat it. The log has the entry instead.
            log.exception("no audit row for %s", operation.entry(outcome))

    async def sweep(self) -> None:
        await self._store.audit.forget(self._clock.now() - KEEP_S, KEEP_ROWS)
