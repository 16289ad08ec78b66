"""API keys: make, limit, list, revoke, and tell who a caller is."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from atoll.core.audit import ATOLL, Caller
from atoll.core.errors import AuthenticationFailed, InvalidInput, NotFound
from atoll.core.keys import ApiKey, Principal, digest, digits_of, displayed, new_digits, printed
from atoll.core.ports import Clock, Store
from atoll.core.quota import UNLIMITED, Quota
from atoll.core.rates import GENEROUS, Rates

from .journal import Journal
from .tokens import write_secret

FIRST_ORGANIZATION = 1
USE_STEP_S = 60.0  # `last_used_at` is as fine as this: a write per request would cost more than the look-up
MAX_NAME = 200


class Keys:
    def __init__(self, store: Store, clock: Clock, journal: Journal) -> None:
        self._store = store
        self._clock = clock
        self._journal = journal
        self._used: dict[str, float] = {}

    async def authenticate(self, credential: str | None) -> Principal:
        if not credential:
            raise AuthenticationFailed("An API key is required: send it as X-API-Key or as a bearer token.")
        digits = digits_of(credential)
        key = await self._store.keys.by_digest(digest(digits)) if digits else None
        if key is None or key.revoked_at is not None:
            raise AuthenticationFailed("The API key is not valid.")
        await self._note_use(key)
        return Principal(key.id, key.organization_id, key.quota, key.rates)

    async def create(
        self, caller: Caller, name: str, quota: Quota = UNLIMITED, rates: Rates = GENEROUS
    ) -> tuple[ApiKey, str]:
        """The key's text is shown here and never again."""
        async with self._journal.operation(caller, "key.create") as operation:
            name = name.strip()
            if not name or len(name) > MAX_NAME:
                raise InvalidInput(f"a key has a name of 1 to {MAX_NAME} characters", field="name")
            key, text = self._make(name, new_digits(), quota, rates)
            await self._store.keys.insert(key)
            operation.detail = key.id
        return key, text

    async def list(self, caller: Caller) -> Sequence[ApiKey]:
        async with self._journal.operation(caller, "key.list"):
            return await self._store.keys.list()

    async def limit(
        self, caller: Caller, key_id: str, quota: Mapping[str, int | None], rates: Mapping[str, int | None]
    ) -> ApiKey:
        """What is not named stays as it is. In force from the key's next request on."""
        async with self._journal.operation(caller, "key.limit") as operation:
            operation.detail = key_id[:64]
            key = next((key for key in await self._store.keys.list() if key.id == key_id), None)
            if key is None:
                raise NotFound("no such key")
            key = replace(key, quota=replace(key.quota, **quota), rates=replace(key.rates, **rates))
            await self._store.keys.set_limits(key.id, key.quota, key.rates)
            return key

    async def revoke(self, caller: Caller, key_id: str) -> None:
        async with self._journal.operation(caller, "key.revoke") as operation:
            operation.detail = key_id[:64]
            if not await self._store.keys.revoke(key_id, self._clock.now()):
                raise NotFound("no such key")

    async def ensure_first(self, path: Path) -> None:
        """Where there is no key, makes one and writes it to `path`: the file first, so that a key nobody has seen is
        never in force. A file that is there already is the key (a database was lost, or we were killed in between)."""
        if await self._store.keys.list():
            return
        digits = digits_of(path.read_text().strip()) if path.exists() else None
        if digits is None:
            digits = new_digits()
            write_secret(path, printed(digits))
        async with self._journal.operation(ATOLL, "key.create") as operation:
            key, _ = self._make("first", digits)
            operation.detail = key.id
            await self._store.keys.insert(key)

    def _make(self, name: str, digits: str, quota: Quota = UNLIMITED, rates: Rates = GENEROUS) -> tuple[ApiKey, str]:
        key = ApiKey(
            id="key_" + secrets.token_hex(8),
            name=name,
            organization_id=FIRST_ORGANIZATION,
            digest=digest(digits),
            display=displayed(digits),
            created_at=self._clock.now(),
            quota=quota,
            rates=rates,
        )
        return key, printed(digits)

    async def _note_use(self, key: ApiKey) -> None:
        now = self._clock.now()
        last = self._used.get(key.id, key.last_used_at or 0.0)
        if not 0 <= now - last < USE_STEP_S:
            self._used[key.id] = now
            await self._store.keys.set_used(key.id, now)
