"""Secrets: make, list, change, delete. What changes reaches the sandboxes that use it before the call returns.

A value goes in and is never told again: not here, not in the audit, not in an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from atoll.core.audit import Caller
from atoll.core.errors import Conflict, NotFound
from atoll.core.metadata import check_metadata
from atoll.core.ports import Clock, Store
from atoll.core.secrets import (
    MAX_SECRETS,
    Secret,
    check_description,
    check_hosts,
    check_name,
    check_room,
    check_value,
    is_id,
    new_id,
)

from .journal import Journal
from .paging import DEFAULT_LIMIT, MAX_LIMIT, cursor_after, position
from .policies import Policies


@dataclass(frozen=True)
class SecretPage:
    secrets: Sequence[Secret]
    next_cursor: str | None


class Secrets:
    def __init__(self, store: Store, clock: Clock, journal: Journal, policies: Policies) -> None:
        self._store = store
        self._clock = clock
        self._journal = journal
        self._policies = policies

    async def create(
        self,
        caller: Caller,
        name: str,
        value: str,
        *,
        hosts: Sequence[str] = (),
        description: str = "",
        metadata: Mapping[str, str] = {},
    ) -> Secret:
        """`hosts`: names to which it may go; without any it is for header rules only, and for those of any name.

        Raises Conflict when there is one of this name, CapacityExceeded, InvalidInput.
        """
        async with self._journal.operation(caller, "secret.create") as operation:
            operation.detail = check_name(name)
            now = self._clock.now()
            secret = Secret(
                id=new_id(),
                organization_id=caller.principal.organization_id,
                name=name,
                version=1,
                hosts=check_hosts(hosts),
                description=check_description(description),
                metadata=check_metadata(metadata),
                created_at=now,
                updated_at=now,
            )
            await self._store.secrets.insert(secret, check_value(value), check_room)
            await self._policies.secret_changed(secret)  # one of this name may have been deleted under them
            return secret

    async def list(self, caller: Caller, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> SecretPage:
        """Newest first."""
        async with self._journal.operation(caller, "secret.list"):
            after = position(cursor, is_id) if cursor else None
            limit = min(limit, MAX_LIMIT)
            found = await self._store.secrets.list(caller.principal.organization_id, after, limit + 1)
            return SecretPage(found[:limit], cursor_after(found[limit - 1]) if len(found) > limit else None)

    async def all(self, caller: Caller) -> Sequence[Secret]:
        """Newest first; there are `core.secrets.MAX_SECRETS` at most."""
        async with self._journal.operation(caller, "secret.list"):
            return await self._store.secrets.list(caller.principal.organization_id, None, MAX_SECRETS)

    async def get(self, caller: Caller, name_or_id: str) -> Secret:
        async with self._journal.operation(caller, "secret.get") as operation:
            operation.detail = name_or_id[:64]
            return await self._known(caller, name_or_id)

    async def update(
        self,
        caller: Caller,
        name_or_id: str,
        *,
        value: str | None = None,
        hosts: Sequence[str] | None = None,
        description: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Secret:
        """None: it stays. A value makes a new version, also when it is the one that was."""
        async with self._journal.operation(caller, "secret.update") as operation:
            operation.detail = name_or_id[:64]
            value = value if value is None else check_value(value)
            old = await self._known(caller, name_or_id)
            operation.detail = f"{old.name} version={old.version + (value is not None)}"
            new = replace(
                old,
                version=old.version + (value is not None),
                hosts=old.hosts if hosts is None else check_hosts(hosts),
                description=old.description if description is None else check_description(description),
                metadata=old.metadata if metadata is None else check_metadata(metadata),
                updated_at=self._clock.now(),
            )
            if not await self._store.secrets.replace(old, new, value):
                raise Conflict(f"the secret '{old.name}' was changed by somebody else meanwhile; try again")
            if value is not None or new.hosts != old.hosts:
                await self._policies.secret_changed(new)
            return new

    async def delete(self, caller: Caller, name_or_id: str) -> Secret:
        """Sandboxes that use it go on without: requests that need it do not leave."""
        async with self._journal.operation(caller, "secret.delete") as operation:
            operation.detail = name_or_id[:64]
            old = await self._known(caller, name_or_id)
            operation.detail = old.name
            await self._store.secrets.remove(old.id)
            await self._policies.secret_changed(old)
            return old

    async def _known(self, caller: Caller, name_or_id: str) -> Secret:
        found = await self._store.secrets.get(caller.principal.organization_id, name_or_id)
        if found is None:
            raise NotFound(f"there is no secret '{name_or_id[:64]}'", secret=name_or_id[:64])
        return found
