"""The repositories over SQLAlchemy Core. Every method is one transaction and does not await inside it.

Statements are built once, at import: building one costs more than running it. `env_vars` of a create are never here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from atoll.core import ingress
from atoll.core.audit import AuditEntry
from atoll.core.errors import Conflict
from atoll.core.events import CHANGES, MAX_COUNTED, Event, EventQuery, Outcomes
from atoll.core.ids import is_sandbox_id
from atoll.core.ingress import Dialect
from atoll.core.keys import ApiKey
from atoll.core.lifecycle import State
from atoll.core.limits import RESOURCES, Limits, too_much
from atoll.core.ports import Admit, KeptAnswer, NodeRecord, SandboxFilter
from atoll.core.quota import Quota, Used
from atoll.core.rates import Rates
from atoll.core.sandbox import InboundAuth, OnTimeout, Sandbox
from atoll.core.secrets import Secret, SecretUse, SecretValue
from atoll.core.volumes import Volume, VolumeMount

from . import tables
from .drafts import Drafts, place
from .seal import Seal

T = TypeVar("T")
Values = dict[str, Any]  # Any: column values

_box = tables.sandboxes.c
_key = tables.api_keys.c
_label = tables.sandbox_metadata.c
_volume = tables.volumes.c
_secret = tables.secrets.c

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
INSERT_METADATA = insert(tables.sandbox_metadata)
PURGE_METADATA = delete(tables.sandbox_metadata).where(_label.sandbox_id == bindparam("key"))

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

VOLUMES_OF = (
    select(tables.volumes)
    .where(_volume.organization_id == bindparam("organization"))
    .order_by(_volume.created_at, _volume.id)
)

INSERT_SECRET = insert(tables.secrets)
SECRETS_OF = select(tables.secrets).where(_secret.organization_id == bindparam("organization"))
SECRET_NAMES = select(_secret.name).where(_secret.organization_id == bindparam("organization"))
GET_SECRET = SECRETS_OF.where(or_(_secret.name == bindparam("wanted"), _secret.id == bindparam("wanted")))
NAMED_SECRETS = SECRETS_OF.where(_secret.name.in_(bindparam("names", expanding=True)))
REPLACE_SECRET = update(tables.secrets).where(
    _secret.id == bindparam("old_id"), _secret.version == bindparam("old_version")
)
REMOVE_SECRET = delete(tables.secrets).where(_secret.id == bindparam("key"))

INSERT_AUDIT = insert(tables.audit)
CORRECT_AUDIT = (
    update(tables.audit)
    .where(
        tables.audit.c.sandbox_id == bindparam("box"),
        tables.audit.c.operation == bindparam("done"),
        tables.audit.c.at == bindparam("then"),
    )
    .values(outcome=bindparam("became"))
)
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
AUDIT_OF_SANDBOX = (
    select(tables.audit)
    .where(
        tables.audit.c.sandbox_id == bindparam("wanted"),
        tables.audit.c.operation.not_in(bindparam("without", expanding=True)),
    )
    .order_by(tables.audit.c.seq.desc())
    .limit(bindparam("most"))
)

_event = tables.audit.c
_made = tables.audit.alias("made")
EVENTS = (
    select(
        _event.seq.label("id"),
        _event.at,
        _event.operation,
        _event.outcome,
        _event.sandbox_id,
        func.coalesce(_made.c.template, "").label("template"),
        func.coalesce(_event.detail, "").label("detail"),
    )
    .join(_made, and_(_made.c.sandbox_id == _event.sandbox_id, _made.c.operation == "sandbox.create"))
    .where(
        _made.c.key_id.in_(select(_key.id).where(_key.organization_id == bindparam("organization"))),
        (_event.at + 0.0).between(bindparam("since"), bindparam("until")),  # not by its index: the newest come first
        _event.operation.in_(bindparam("operations", expanding=True)),
    )
)

_answer = tables.idempotency.c
INSERT_ANSWER = insert(tables.idempotency)
GET_ANSWER = select(tables.idempotency).where(_answer.key == bindparam("wanted"))
FINISH_ANSWER = update(tables.idempotency).where(_answer.key == bindparam("wanted")).values(answer=bindparam("sealed"))
ABANDON_ANSWER = delete(tables.idempotency).where(
    _answer.key == bindparam("wanted"), _answer.attempt == bindparam("mine")
)
FORGET_ANSWERS = delete(tables.idempotency).where(_answer.at < bindparam("before"))


class SqlStore:
    def __init__(self, engine: Engine, seal: Seal) -> None:
        self._engine = engine
        self._database = database = _Database(engine)
        self.sandboxes = SqlSandboxes(database, seal)
        self.keys = SqlKeys(database)
        self.audit = SqlAudit(database)
        self.answers = SqlAnswers(database, seal)
        self.nodes = SqlNodes(database)
        self.volumes = SqlVolumes(database)
        self.secrets = SqlSecrets(database, seal)

    def close(self) -> None:
        self._database.close()
        self._engine.dispose()


class _Database:
    """Taking a connection out of the pool and giving it back costs a third of a small transaction: one is kept."""

    def __init__(self, engine: Engine) -> None:
        self._connection = engine.connect()

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        with self._connection.begin():
            yield self._connection

    def close(self) -> None:
        self._connection.close()


class _Repository:
    def __init__(self, database: _Database) -> None:
        self._database = database

    def _read(self, statement: Any, values: Values | None = None) -> Sequence[RowMapping]:  # Any: a Select
        with self._database.begin() as connection:
            return connection.execute(statement, values or {}).mappings().all()

    def _write(self, statement: Any, values: Values | list[Values]) -> int:  # Any: an Insert, Update or Delete
        with self._database.begin() as connection:
            return int(connection.execute(statement, values).rowcount)


class SqlSandboxes(_Repository):
    def __init__(self, database: _Database, seal: Seal) -> None:
        super().__init__(database)
        self._seal = seal
        self._drafts = Drafts()

    async def begin(self, sandbox: Sandbox, admit: Admit | None = None) -> None:
        if admit is not None:
            admit(await self.used(sandbox.key_id))
        self._drafts.put(sandbox)

    async def used(self, key_id: str) -> Used:
        with self._database.begin() as connection:
            return self._used(connection, key_id)

    def _used(self, connection: Connection, key_id: str) -> Used:
        written = Used(**connection.execute(USED_BY_KEY, {"key": key_id}).mappings().one())
        return written + self._drafts.used(key_id)

    async def get(self, sandbox_id: str) -> Sandbox | None:
        if (draft := self._drafts.get(sandbox_id)) is not None:
            return draft
        rows = self._read(GET_SANDBOX, {"key": sandbox_id})
        return self._sandbox(rows[0]) if rows else None

    async def replace(
        self, old: Sandbox, new: Sandbox, *, admit: Admit | None = None, entry: AuditEntry | None = None
    ) -> bool:
        with self._database.begin() as connection:
            if admit is not None:
                admit(self._used(connection, old.key_id))
            if not self._put(connection, old, new):
                return False
            if entry is not None:
                connection.execute(INSERT_AUDIT, _plain_values(entry))
        self._drafts.drop(old.id)
        return True

    def _put(self, connection: Connection, old: Sandbox, new: Sandbox) -> bool:
        draft = self._drafts.get(old.id)
        if draft is None:
            return int(connection.execute(REPLACE_SANDBOX, self._changes(old, new)).rowcount) == 1
        if (draft.state, draft.incarnation) != (old.state, old.incarnation):
            return False
        self._insert(connection, new)
        return True

    def _changes(self, old: Sandbox, new: Sandbox) -> Values:
        changes = self._sealed(new.id, _changed(_sandbox_values(old), _sandbox_values(new)))
        expected = {"old_id": old.id, "old_state": old.state.value, "old_incarnation": old.incarnation}
        return (changes or {"state": new.state.value}) | expected

    async def list(
        self, where: SandboxFilter, after: tuple[float, str] | None, limit: int, oldest_first: bool = False
    ) -> Sequence[Sandbox]:
        query = NOT_DELETED.where(_box.organization_id == where.organization_id)
        if where.state is not None:
            query = query.where(_box.state == where.state.value)
        if where.states:
            query = query.where(_box.state.in_([state.value for state in where.states]))
        for name, value in where.metadata.items():
            found = select(_label.sandbox_id).where(_label.name == name, _label.value == value)
            query = query.where(_box.id.in_(found))
        if where.region is not None:
            query = query.where(_box.region == where.region)
        if where.template is not None:
            query = query.where(_box.template == where.template)
        if where.created_after is not None:
            query = query.where(_box.created_at > where.created_after)
        if after is not None:
            query = query.where(_behind(after, oldest_first))
        order = (_box.created_at, _box.id) if oldest_first else (_box.created_at.desc(), _box.id.desc())
        rows = _all(self._sandbox, self._read(query.order_by(*order).limit(limit)))
        drafts = self._drafts.among(where, after, oldest_first)
        return sorted([*rows, *drafts], key=place, reverse=not oldest_first)[:limit] if drafts else rows

    async def on_node(self, node_id: str) -> Sequence[Sandbox]:
        return [*_all(self._sandbox, self._read(ON_NODE, {"node": node_id})), *self._drafts.on_node(node_id)]

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
        return [*_all(self._sandbox, self._read(UNFINISHED, {"before": before})), *self._drafts.unfinished(before)]

    async def purge(self, sandbox_id: str) -> None:
        with self._database.begin() as connection:
            if connection.execute(PURGE, {"key": sandbox_id}).rowcount:
                connection.execute(PURGE_METADATA, {"key": sandbox_id})

    def _insert(self, connection: Connection, sandbox: Sandbox) -> None:
        connection.execute(INSERT_SANDBOX, self._sealed(sandbox.id, _sandbox_values(sandbox)))
        pairs = [{"sandbox_id": sandbox.id, "name": each, "value": value} for each, value in sandbox.metadata.items()]
        if pairs:
            connection.execute(INSERT_METADATA, pairs)

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
        values["on_timeout"] = OnTimeout(values["on_timeout"])
        values["secrets"] = tuple(map(SecretUse.from_wire, values["secrets"]))
        values["volumes"] = tuple(map(VolumeMount.from_wire, values["volumes"]))
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

    async def correct(self, entry: AuditEntry, outcome: str) -> None:
        known = {"box": entry.sandbox_id, "done": entry.operation, "then": entry.at}
        self._write(CORRECT_AUDIT, {**known, "became": outcome})

    async def list(self, limit: int) -> Sequence[AuditEntry]:
        return _all(_audit_entry, self._read(LIST_AUDIT, {"most": limit}))

    async def of_sandbox(self, sandbox_id: str, limit: int, without: Collection[str]) -> Sequence[AuditEntry]:
        values = {"wanted": sandbox_id, "most": limit, "without": list(without)}
        return _all(_audit_entry, self._read(AUDIT_OF_SANDBOX, values))

    async def events(self, organization_id: int, query: EventQuery) -> tuple[Sequence[Event], int]:
        found = _chosen(EVENTS, query)
        values = {
            "organization": organization_id,
            "since": query.since,
            "until": query.until,
            "operations": sorted(set(query.operations) & set(CHANGES)),
        }
        order = _event.seq if query.oldest_first else _event.seq.desc()
        with self._database.begin() as connection:
            newest = found.with_only_columns(_event.seq).order_by(_event.seq.desc()).limit(MAX_COUNTED)
            count = select(func.count()).select_from(newest.subquery())
            total = int(connection.execute(count, values).scalar_one())
            page = found.order_by(order).offset(query.offset).limit(query.limit)
            rows = connection.execute(page, values).mappings().all()
        return [Event(**row) for row in rows], total

    async def creator(self, sandbox_id: str) -> str | None:
        rows = self._read(CREATOR, {"sandbox_id": sandbox_id})
        return str(rows[0]["key_id"]) if rows else None

    async def forget(self, before: float, most: int) -> None:
        self._write(FORGET_AUDIT, {"before": before, "most": most})


class SqlAnswers(_Repository):
    """Sealed: an answer can hold keys to what was made."""

    def __init__(self, database: _Database, seal: Seal) -> None:
        super().__init__(database)
        self._seal = seal

    async def begin(self, key: str, request: str, attempt: str, at: float) -> KeptAnswer | None:
        with self._database.begin() as connection:
            row = connection.execute(GET_ANSWER, {"wanted": key}).mappings().one_or_none()
            if row is None:
                values = {"key": key, "request": request, "attempt": attempt, "answer": "", "at": at}
                connection.execute(INSERT_ANSWER, values)
                return None
        return KeptAnswer(row["request"], row["attempt"], self._seal.open(row["answer"], _answer_row(key)))

    async def finish(self, key: str, answer: Mapping[str, Any]) -> None:  # Any: JSON values
        self._write(FINISH_ANSWER, {"wanted": key, "sealed": self._seal.close(answer, _answer_row(key))})

    async def abandon(self, key: str, attempt: str) -> None:
        self._write(ABANDON_ANSWER, {"wanted": key, "mine": attempt})

    async def forget(self, before: float) -> None:
        self._write(FORGET_ANSWERS, {"before": before})


class SqlVolumes(_Repository):
    async def insert(self, volume: Volume, most: int) -> None:
        with self._database.begin() as connection:
            there = connection.execute(VOLUMES_OF, {"organization": volume.organization_id}).all()
            if any(row.name == volume.name for row in there):
                raise Conflict(
                    f"a volume named '{volume.name}' is already there", name=volume.name, cause="volume_exists"
                )
            if len(there) >= most:
                raise too_much(
                    "quota", "volumes", limit=most, current=len(there), asked=1, message=f"There are {most} volumes"
                )
            connection.execute(insert(tables.volumes), _plain_values(volume))

    async def get(self, volume_id: str) -> Volume | None:
        return self._one(select(tables.volumes).where(_volume.id == volume_id))

    async def by_name(self, organization_id: int, name: str) -> Volume | None:
        return self._one(VOLUMES_OF.where(_volume.name == name), {"organization": organization_id})

    async def list(self, organization_id: int) -> Sequence[Volume]:
        return _all(lambda row: Volume(**row), self._read(VOLUMES_OF, {"organization": organization_id}))

    async def replace(self, old: Volume, new: Volume) -> bool:
        there = and_(_volume.id == bindparam("key"), _volume.size_mib == bindparam("old_size"))
        changes = _changed(_plain_values(old), _plain_values(new)) or {"name": new.name}
        return (
            self._write(update(tables.volumes).where(there), changes | {"key": old.id, "old_size": old.size_mib}) == 1
        )

    async def remove(self, volume_id: str) -> None:
        self._write(delete(tables.volumes).where(_volume.id == bindparam("key")), {"key": volume_id})

    def _one(self, query: Select[Any], values: Values | None = None) -> Volume | None:
        rows = self._read(query, values)
        return Volume(**rows[0]) if rows else None


class SqlSecrets(_Repository):
    def __init__(self, database: _Database, seal: Seal) -> None:
        super().__init__(database)
        self._seal = seal

    async def insert(self, secret: Secret, value: str, admit: Callable[[int], None]) -> None:
        with self._database.begin() as connection:
            names = connection.execute(SECRET_NAMES, {"organization": secret.organization_id}).scalars().all()
            if secret.name in names:
                raise Conflict(f"a secret named '{secret.name}' is already there", name=secret.name)
            admit(len(names))
            connection.execute(INSERT_SECRET, _secret_values(secret) | self._sealed(secret.id, value))

    async def get(self, organization_id: int, name_or_id: str) -> Secret | None:
        rows = self._read(GET_SECRET, {"organization": organization_id, "wanted": name_or_id})
        return _a_secret(rows[0]) if rows else None

    async def list(self, organization_id: int, after: tuple[float, str] | None, limit: int) -> Sequence[Secret]:
        query = SECRETS_OF
        if after is not None:
            created_at, secret_id = after
            same_time = and_(_secret.created_at == created_at, _secret.id < secret_id)
            query = query.where(or_(_secret.created_at < created_at, same_time))
        query = query.order_by(_secret.created_at.desc(), _secret.id.desc()).limit(limit)
        return _all(_a_secret, self._read(query, {"organization": organization_id}))

    async def replace(self, old: Secret, new: Secret, value: str | None) -> bool:
        changes = _secret_values(new) | ({} if value is None else self._sealed(new.id, value))
        return self._write(REPLACE_SECRET, changes | {"old_id": old.id, "old_version": old.version}) == 1

    async def remove(self, secret_id: str) -> None:
        self._write(REMOVE_SECRET, {"key": secret_id})

    async def values(self, organization_id: int, names: Collection[str]) -> Sequence[SecretValue]:
        rows = self._read(NAMED_SECRETS, {"organization": organization_id, "names": sorted(names)})
        return _all(self._value, rows)

    def _sealed(self, secret_id: str, value: str) -> Values:
        return {"sealed": self._seal.close({"value": value}, _secret_row(secret_id))}

    def _value(self, row: RowMapping) -> SecretValue:
        value = str(self._seal.open(row["sealed"], _secret_row(row["id"]))["value"])
        return SecretValue(row["name"], value, tuple(row["hosts"]))


class SqlNodes(_Repository):
    async def put(self, node: NodeRecord) -> None:
        values = _plain_values(node)
        with self._database.begin() as connection:
            updated = connection.execute(
                update(tables.nodes).where(tables.nodes.c.id == node.id).values(**values)
            ).rowcount
            if not updated:
                connection.execute(insert(tables.nodes), values)

    async def list(self) -> Sequence[NodeRecord]:
        return _all(lambda row: NodeRecord(**row), self._read(select(tables.nodes)))


def _all(build: Callable[[RowMapping], T], rows: Sequence[RowMapping]) -> Sequence[T]:
    return [build(row) for row in rows]


def _chosen(events: Select[Any], query: EventQuery) -> Select[Any]:
    if is_sandbox_id(query.sandbox):
        events = events.where(_event.sandbox_id == query.sandbox)
    elif query.sandbox:
        events = events.where(_event.sandbox_id.contains(query.sandbox, autoescape=True))
    if query.template:
        events = events.where(_made.c.template.contains(query.template, autoescape=True))
    if query.outcomes is Outcomes.OK:
        events = events.where(_event.outcome == "ok")
    if query.outcomes is Outcomes.FAILED:
        events = events.where(_event.outcome != "ok")
    return events


def _audit_entry(row: RowMapping) -> AuditEntry:
    return AuditEntry(**{name: row[name] for name in AuditEntry.__dataclass_fields__})


def _plain_values(record: Any) -> Values:  # Any: one of our flat dataclasses
    return dict(vars(record))


def _behind(after: tuple[float, str], oldest_first: bool) -> ColumnElement[bool]:
    created_at, sandbox_id = after
    same_time = _box.created_at == created_at
    if oldest_first:
        return or_(_box.created_at > created_at, and_(same_time, _box.id > sandbox_id))
    return or_(_box.created_at < created_at, and_(same_time, _box.id < sandbox_id))


def _answer_row(key: str) -> str:
    return f"answer/{key}"


def _secret_row(secret_id: str) -> str:
    return f"{secret_id}/value"


def _secret_values(secret: Secret) -> Values:
    return {**_plain_values(secret), "hosts": list(secret.hosts)}


def _a_secret(row: RowMapping) -> Secret:
    values = {name: row[name] for name in Secret.__dataclass_fields__}
    return Secret(**{**values, "hosts": tuple(row["hosts"])})


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
    values["on_timeout"] = sandbox.on_timeout.value
    values["secrets"] = [each.to_wire() for each in sandbox.secrets]
    values["volumes"] = [each.to_wire() for each in sandbox.volumes]
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
