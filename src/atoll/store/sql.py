"""The repositories over SQLAlchemy Core. Every method is one transaction and does not await inside it.

Statements are built once, at import: building one costs more than running it. `env_vars` of a create are never here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Engine, RowMapping, Table, and_, bindparam, delete, func, insert, or_, select, update

from atoll.core import ingress
from atoll.core.audit import AuditEntry
from atoll.core.ingress import Dialect
from atoll.core.keys import ApiKey
from atoll.core.lifecycle import State
from atoll.core.limits import RESOURCES, Limits
from atoll.core.ports import Admit, NodeRecord, SandboxFilter
from atoll.core.quota import Quota, Used
from atoll.core.rates import Rates
from atoll.core.sandbox import InboundAuth, Sandbox

from . import tables
from .seal import Seal

T = TypeVar("T")
Values = dict[str, Any]  # Any: column values

_box = tables.sandboxes.c
_key = tables.api_keys.c

INSERT_SANDBOX = insert(tables.sandboxes)
GET_SANDBOX = select(tables.sandboxes).where(_box.id == bindparam("key"))
REPLACE_SANDBOX = update(tables.sandboxes).where(
    _box.id == bindparam("old_id"),
    _box.state == bindparam("old_state"),
    _box.incarnation == bindparam("old_incarnation"),
)
ON_NODE = select(tables.sandboxes).where(_box.node_id == bindparam("node"))
NOT_DELETED = select(tables.sandboxes).where(_box.state != State.DELETED.value)
TO_CHECK = (
    select(tables.sandboxes)
    .where(_box.check_at <= bindparam("now"), _box.state != State.DELETED.value)
    .order_by(_box.check_at)
    .limit(bindparam("most"))
)
SET_CHECK_AT = update(tables.sandboxes).where(_box.id == bindparam("key")).values(check_at=bindparam("at"))
UNFINISHED = select(tables.sandboxes).where(_box.state == State.CREATING.value, _box.state_since < bindparam("before"))
USED_BY_KEY = select(
    func.count().label("sandboxes"),
    *(func.coalesce(func.sum(_box.limits[name].as_integer()), 0).label(name) for name in RESOURCES),
).where(_box.key_id == bindparam("key"), _box.state != State.DELETED.value)
TOMBSTONES = select(tables.sandboxes).where(_box.state == State.DELETED.value, _box.state_since < bindparam("before"))
PURGE = delete(tables.sandboxes).where(_box.id == bindparam("key"), _box.state == State.DELETED.value)

INSERT_KEY = insert(tables.api_keys)
GET_KEY = select(tables.api_keys).where(_key.digest == bindparam("digest"))
LIST_KEYS = select(tables.api_keys).order_by(_key.created_at)
USE_KEY = update(tables.api_keys).where(_key.id == bindparam("key")).values(last_used_at=bindparam("at"))
REVOKE_KEY = (
    update(tables.api_keys)
    .where(_key.id == bindparam("key"), _key.revoked_at.is_(None))
    .values(revoked_at=bindparam("at"))
)
LIMIT_KEY = (
    update(tables.api_keys)
    .where(_key.id == bindparam("key"))
    .values(quota=bindparam("quota"), rates=bindparam("rates"))
)
HAS_KEY = select(_key.id).where(_key.id == bindparam("key"))

INSERT_AUDIT = insert(tables.audit)
_newest = select(func.max(tables.audit.c.seq)).scalar_subquery()
FORGET_AUDIT = delete(tables.audit).where(
    or_(tables.audit.c.at < bindparam("before"), tables.audit.c.seq <= _newest - bindparam("most"))
)
CREATOR = (
    select(tables.audit.c.key_id)
    .where(tables.audit.c.sandbox_id == bindparam("sandbox_id"), tables.audit.c.operation == "sandbox.create")
    .order_by(tables.audit.c.seq)
    .limit(1)
)
LIST_AUDIT = select(tables.audit).order_by(tables.audit.c.seq.desc()).limit(bindparam("most"))


class SqlStore:
    def __init__(self, engine: Engine, seal: Seal) -> None:
        self._engine = engine
        self.sandboxes = SqlSandboxes(engine, seal)
        self.keys = SqlKeys(engine)
        self.audit = SqlAudit(engine)
        self.nodes = SqlNodes(engine)

    def close(self) -> None:
        self._engine.dispose()


class _Repository:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _read(self, statement: Any, values: Values | None = None) -> Sequence[RowMapping]:  # Any: a Select
        with self._engine.begin() as connection:
            return connection.execute(statement, values or {}).mappings().all()

    def _write(self, statement: Any, values: Values | list[Values]) -> int:  # Any: an Insert, Update or Delete
        with self._engine.begin() as connection:
            return int(connection.execute(statement, values).rowcount)


class SqlSandboxes(_Repository):
    def __init__(self, engine: Engine, seal: Seal) -> None:
        super().__init__(engine)
        self._seal = seal

    async def insert(self, sandbox: Sandbox) -> None:
        self._write(INSERT_SANDBOX, self._sealed(sandbox.id, _sandbox_values(sandbox)))

    async def insert_if(self, sandbox: Sandbox, admit: Admit) -> None:
        with self._engine.begin() as connection:
            used = connection.execute(USED_BY_KEY, {"key": sandbox.key_id}).mappings().one()
            admit(Used(**used))
            connection.execute(INSERT_SANDBOX, self._sealed(sandbox.id, _sandbox_values(sandbox)))

    async def get(self, sandbox_id: str) -> Sandbox | None:
        rows = self._read(GET_SANDBOX, {"key": sandbox_id})
        return self._sandbox(rows[0]) if rows else None

    async def replace(self, old: Sandbox, new: Sandbox) -> bool:
        changes = self._sealed(new.id, _changed(_sandbox_values(old), _sandbox_values(new)))
        expected = {"old_id": old.id, "old_state": old.state.value, "old_incarnation": old.incarnation}
        if not changes:
            changes = {"state": new.state.value}
        return self._write(REPLACE_SANDBOX, changes | expected) == 1

    async def list(self, where: SandboxFilter, after: tuple[float, str] | None, limit: int) -> Sequence[Sandbox]:
        query = NOT_DELETED.where(_box.organization_id == where.organization_id)
        if where.state is not None:
            query = query.where(_box.state == where.state.value)
        if where.region is not None:
            query = query.where(_box.region == where.region)
        if after is not None:
            created_at, sandbox_id = after
            same_time = and_(_box.created_at == created_at, _box.id < sandbox_id)
            query = query.where(or_(_box.created_at < created_at, same_time))
        return _all(self._sandbox, self._read(query.order_by(_box.created_at.desc(), _box.id.desc()).limit(limit)))

    async def on_node(self, node_id: str) -> Sequence[Sandbox]:
        return _all(self._sandbox, self._read(ON_NODE, {"node": node_id}))

    async def executing_or_kept(self) -> Sequence[Sandbox]:
        return _all(self._sandbox, self._read(NOT_DELETED.where(_box.state != State.CREATING.value)))

    async def to_check(self, now: float, limit: int) -> Sequence[Sandbox]:
        return _all(self._sandbox, self._read(TO_CHECK, {"now": now, "most": limit}))

    async def set_check_at(self, times: Iterable[tuple[str, float | None]]) -> None:
        values = [{"key": sandbox_id, "at": at} for sandbox_id, at in times]
        if values:
            self._write(SET_CHECK_AT, values)

    async def tombstones(self, before: float) -> Sequence[Sandbox]:
        return _all(self._sandbox, self._read(TOMBSTONES, {"before": before}))

    async def unfinished(self, before: float) -> Sequence[Sandbox]:
        return _all(self._sandbox, self._read(UNFINISHED, {"before": before}))

    async def purge(self, sandbox_id: str) -> None:
        self._write(PURGE, {"key": sandbox_id})

    def _sealed(self, sandbox_id: str, values: Values) -> Values:
        """Last of all: sealing the same twice gives different texts."""
        if "network" in values:
            values["network"] = self._seal.close(values["network"], sandbox_id)
        if "ingress" in values:
            values["ingress"] = self._seal.close(values["ingress"], _ingress_row(sandbox_id))
        return values

    def _sandbox(self, row: RowMapping) -> Sandbox:
        values = dict(row)
        values["state"] = State(values["state"])
        values["limits"] = Limits.from_wire(values["limits"])
        values["inbound_auth"] = InboundAuth(values["inbound_auth"])
        values["network"] = self._seal.open(values["network"], values["id"])
        values["ingress"] = ingress.from_wire(self._seal.open(values["ingress"], _ingress_row(values["id"])))
        values["dialect"] = Dialect(values["dialect"])
        return Sandbox(**values)


class SqlKeys(_Repository):
    async def insert(self, key: ApiKey) -> None:
        self._write(INSERT_KEY, _key_values(key))

    async def by_digest(self, digest: str) -> ApiKey | None:
        rows = self._read(GET_KEY, {"digest": digest})
        return _api_key(rows[0]) if rows else None

    async def list(self) -> Sequence[ApiKey]:
        return _all(_api_key, self._read(LIST_KEYS))

    async def set_limits(self, key_id: str, quota: Quota, rates: Rates) -> bool:
        values = {"key": key_id, "quota": quota.to_wire(), "rates": rates.to_wire()}
        return self._write(LIMIT_KEY, values) == 1

    async def set_used(self, key_id: str, at: float) -> None:
        self._write(USE_KEY, {"key": key_id, "at": at})

    async def revoke(self, key_id: str, at: float) -> bool:
        self._write(REVOKE_KEY, {"key": key_id, "at": at})
        return bool(self._read(HAS_KEY, {"key": key_id}))


class SqlAudit(_Repository):
    async def append(self, entry: AuditEntry) -> None:
        self._write(INSERT_AUDIT, _plain_values(entry))

    async def list(self, limit: int) -> Sequence[AuditEntry]:
        rows = self._read(LIST_AUDIT, {"most": limit})
        return [AuditEntry(**{name: row[name] for name in AuditEntry.__dataclass_fields__}) for row in rows]

    async def creator(self, sandbox_id: str) -> str | None:
        rows = self._read(CREATOR, {"sandbox_id": sandbox_id})
        return str(rows[0]["key_id"]) if rows else None

    async def forget(self, before: float, most: int) -> None:
        self._write(FORGET_AUDIT, {"before": before, "most": most})


class SqlNodes(_Repository):
    async def put(self, node: NodeRecord) -> None:
        values = _plain_values(node)
        with self._engine.begin() as connection:
            updated = connection.execute(
                update(tables.nodes).where(tables.nodes.c.id == node.id).values(**values)
            ).rowcount
            if not updated:
                connection.execute(insert(tables.nodes), values)

    async def list(self) -> Sequence[NodeRecord]:
        return _all(lambda row: NodeRecord(**row), self._read(select(tables.nodes)))


def _all(build: Callable[[RowMapping], T], rows: Sequence[RowMapping]) -> Sequence[T]:
    return [build(row) for row in rows]


def _plain_values(record: Any) -> Values:  # Any: one of our flat dataclasses
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _ingress_row(sandbox_id: str) -> str:
    """What was sealed for one column does not open in the other."""
    return f"{sandbox_id}/ingress"


def _sandbox_values(sandbox: Sandbox) -> Values:
    values = _plain_values(sandbox)
    values["state"] = sandbox.state.value
    values["limits"] = sandbox.limits.to_wire()
    values["inbound_auth"] = sandbox.inbound_auth.value
    values["ingress"] = ingress.to_wire(sandbox.ingress)
    values["dialect"] = sandbox.dialect.value
    return values


def _key_values(key: ApiKey) -> Values:
    return {**_plain_values(key), "quota": key.quota.to_wire(), "rates": key.rates.to_wire()}


def _api_key(row: RowMapping) -> ApiKey:
    values = dict(row)
    values["quota"] = Quota.from_wire(values["quota"])
    values["rates"] = Rates.from_wire(values["rates"])
    return ApiKey(**values)


def _changed(old: Values, new: Values) -> Values:
    return {name: value for name, value in new.items() if value != old[name]}


def _columns(table: Table) -> set[str]:
    return {column.name for column in table.columns}


assert _columns(tables.sandboxes) == set(Sandbox.__dataclass_fields__), "a field without a column, or a column without"
