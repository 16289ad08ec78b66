import contextlib
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, MetaData, Table, insert, inspect
from sqlalchemy.exc import IntegrityError

from atoll.core.audit import AuditEntry
from atoll.core.errors import InternalError, InvalidInput
from atoll.core.ingress import Dialect, Ingress
from atoll.core.keys import ApiKey
from atoll.core.lifecycle import State
from atoll.core.limits import Limits
from atoll.core.ports import NodeRecord, SandboxFilter
from atoll.core.quota import Quota, Used
from atoll.core.rates import GENEROUS, PRESETS
from atoll.core.sandbox import Sandbox, moved
from atoll.store import engine as store_engine
from atoll.store import tables
from atoll.store.engine import migrate, sqlite
from atoll.store.seal import Seal
from atoll.store.sql import SqlStore
from atoll.testing.plane import open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "atoll.db")
    yield store
    store.close()


def sandbox(sandbox_id: str = "a", **changes: object) -> Sandbox:
    made = Sandbox(
        id=sandbox_id,
        incarnation=1,
        node_id="node-1",
        state=State.CREATING,
        organization_id=1,
        key_id="key",
        template="base",
        template_digest="d",
        workdir="/workspace",
        python=True,
        limits=Limits(vcpu=3),
        region="local",
        internet_access=False,
        created_at=1_800_000_000.123456,
        state_since=1_800_000_000.123456,
        last_activity_at=1.0,
        timeout_s=60,
        timeout_from=2.0,
        metadata={"ü": "x"},
    )
    return replace(made, **changes)


async def put(store: SqlStore, made: Sandbox) -> None:
    await store.sandboxes.begin(made)
    assert await store.sandboxes.replace(made, made)


async def test_a_row_comes_back_as_it_was(store: SqlStore):
    await put(store, sandbox())
    assert await store.sandboxes.get("a") == sandbox()
    assert await store.sandboxes.get("b") is None


async def test_an_id_is_used_once(store: SqlStore):
    await put(store, sandbox())
    with pytest.raises(IntegrityError):
        await put(store, sandbox())


async def test_replace_wins_only_from_the_state_and_incarnation_it_saw(store: SqlStore):
    old = sandbox()
    await put(store, old)
    running = moved(old, State.RUNNING, 5.0)
    assert await store.sandboxes.replace(old, running)
    assert await store.sandboxes.get("a") == running
    assert not await store.sandboxes.replace(old, moved(old, State.DELETED, 6.0))
    assert not await store.sandboxes.replace(replace(running, incarnation=2), moved(running, State.PAUSED, 7.0))
    assert await store.sandboxes.get("a") == running


async def test_replace_that_changes_nothing_still_compares(store: SqlStore):
    old = sandbox()
    assert not await store.sandboxes.replace(old, old)
    await put(store, old)
    assert await store.sandboxes.replace(old, old)


async def test_list_is_newest_first_and_pages_without_gap_or_overlap(store: SqlStore):
    for n in range(7):
        await put(store, sandbox(f"s{n}", created_at=float(n // 2)))
    where = SandboxFilter(organization_id=1)
    seen, after = [], None
    while page := await store.sandboxes.list(where, after, 2):
        seen += [row.id for row in page]
        after = (page[-1].created_at, page[-1].id)
    assert seen == ["s6", "s5", "s4", "s3", "s2", "s1", "s0"]


async def test_list_filters_and_hides_tombstones_and_other_organizations(store: SqlStore):
    await put(store, sandbox("run", state=State.RUNNING))
    await put(store, sandbox("far", state=State.RUNNING, region="eu"))
    await put(store, sandbox("gone", state=State.DELETED))
    await put(store, sandbox("other", organization_id=2))

    async def ids(**where: object) -> set[str]:
        return {row.id for row in await store.sandboxes.list(SandboxFilter(1, **where), None, 10)}

    assert await ids() == {"run", "far"}
    assert await ids(region="eu") == {"far"}
    assert await ids(state=State.PAUSED) == set()


async def test_to_check_gives_what_is_due_earliest_first(store: SqlStore):
    for name, at, state in (
        ("late", 9.0, "running"),
        ("due", 3.0, "paused"),
        ("first", 1.0, "running"),
        ("dead", 1.0, "deleted"),
    ):
        await put(store, sandbox(name, check_at=at, state=State(state)))
    assert [row.id for row in await store.sandboxes.to_check(3.0, 10)] == ["first", "due"]
    await store.sandboxes.set_check_at([("first", None), ("due", 10.0)])
    await store.sandboxes.set_check_at([])
    assert await store.sandboxes.to_check(3.0, 10) == []


async def test_purge_removes_tombstones_only(store: SqlStore):
    await put(store, sandbox("live", state=State.RUNNING))
    await put(store, sandbox("dead", state=State.DELETED, state_since=5.0))
    assert [row.id for row in await store.sandboxes.tombstones(6.0)] == ["dead"]
    assert await store.sandboxes.tombstones(5.0) == []
    await store.sandboxes.purge("live")
    await store.sandboxes.purge("dead")
    assert [row.id for row in await store.sandboxes.on_node("node-1")] == ["live"]


async def test_keys_are_found_by_digest_and_revoked_once(store: SqlStore):
    key = ApiKey("k1", "name", 1, "digest", "e2b_012345…", 1.0)
    await store.keys.insert(key)
    assert await store.keys.by_digest("digest") == key
    await store.keys.set_used("k1", 2.0)
    assert await store.keys.revoke("k1", 3.0)
    assert await store.keys.revoke("k1", 4.0)
    assert not await store.keys.revoke("k2", 4.0)
    assert list(await store.keys.list()) == [replace(key, last_used_at=2.0, revoked_at=3.0)]


async def test_audit_keeps_so_many_at_most(store: SqlStore):
    for n in range(5):
        await store.audit.append(AuditEntry(float(n), "k", "sandbox.get", "ok"))
    await store.audit.forget(0.0, 2)
    assert [entry.at for entry in await store.audit.list(10)] == [4.0, 3.0]


async def test_audit_is_newest_first_and_forgets_the_old(store: SqlStore):
    entries = [AuditEntry(float(n), "k", "sandbox.create", "ok", "a", "r", "192.0.2.1", None) for n in range(3)]
    for entry in entries:
        await store.audit.append(entry)
    await store.audit.forget(1.0, 100)
    assert await store.audit.list(10) == [entries[2], entries[1]]


async def test_a_node_is_recorded_once_and_renewed(store: SqlStore):
    await store.nodes.put(NodeRecord("n", "local", 1.0, 2.0))
    await store.nodes.put(NodeRecord("n", "local", 3.0, 4.0))
    assert await store.nodes.list() == [NodeRecord("n", "local", 3.0, 4.0)]


async def test_rows_outlive_the_process(tmp_path: Path):
    first = open_store(tmp_path / "atoll.db")
    await put(first, sandbox())
    second = open_store(tmp_path / "atoll.db")  # while the first is still open: no lock is held between calls
    assert await second.sandboxes.get("a") == sandbox()
    first.close()
    second.close()


def test_the_database_is_private(tmp_path: Path):
    open_store(tmp_path / "server" / "atoll.db").close()
    assert stat.S_IMODE((tmp_path / "server" / "atoll.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "server").stat().st_mode) == 0o700


def test_migrations_lead_to_the_tables(tmp_path: Path):
    engine = sqlite(tmp_path / "x.db")
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    engine = sqlite(tmp_path / "x.db")
    upgrade = store_engine.command.upgrade

    def break_off(*args: object) -> None:
        upgrade(*args)
        raise RuntimeError("killed")

    monkeypatch.setattr(store_engine.command, "upgrade", break_off)
    with pytest.raises(RuntimeError):
        migrate(engine)
    assert inspect(engine).get_table_names() == []
    monkeypatch.undo()
    migrate(engine)
    engine.dispose()


async def test_what_begins_is_told_what_the_living_sandboxes_of_its_key_use(store: SqlStore):
    big = Limits(vcpu=4, memory_mib=4096, disk_mib=20480)
    await put(store, sandbox("a", state=State.STOPPED, limits=big))
    await put(store, sandbox("b", state=State.CREATING))
    await put(store, sandbox("dead", state=State.DELETED, limits=big))
    await put(store, sandbox("other", key_id="other", limits=big))
    told: list[Used] = []
    await store.sandboxes.begin(sandbox("c"), told.append)
    assert told == [Used(sandboxes=2, vcpu=4 + 3, memory_mib=4096 + 2048, disk_mib=20480 + 10240)]
    await store.sandboxes.begin(sandbox("d", key_id="new"), told.append)
    assert told[-1] == Used()
    await store.sandboxes.begin(sandbox("e", key_id="new"), told.append)
    assert told[-1] == Used(sandboxes=1, vcpu=3, memory_mib=2048, disk_mib=10240), "that is being made"


async def test_what_is_not_admitted_does_not_begin(store: SqlStore):
    def refuse(used: Used) -> None:
        raise InvalidInput("full")

    with pytest.raises(InvalidInput):
        await store.sandboxes.begin(sandbox("a"), refuse)
    assert await store.sandboxes.get("a") is None


async def test_unfinished_are_those_being_created_for_long(store: SqlStore):
    await put(store, sandbox("old", state_since=5.0))
    await put(store, sandbox("new", state_since=9.0))
    await put(store, sandbox("run", state_since=5.0, state=State.RUNNING))
    assert [row.id for row in await store.sandboxes.unfinished(9.0)] == ["old"]


async def test_limits_of_a_key_are_changed(store: SqlStore):
    key = ApiKey("k1", "name", 1, "digest", "e2b_012345…", 1.0, quota=Quota(vcpu=3), rates=PRESETS["hopx"])
    await store.keys.insert(key)
    assert await store.keys.by_digest("digest") == key
    assert await store.keys.set_limits("k1", Quota(), GENEROUS)
    assert not await store.keys.set_limits("k2", Quota(), GENEROUS)
    assert list(await store.keys.list()) == [replace(key, quota=Quota(), rates=GENEROUS)]


async def test_a_key_from_before_there_were_limits_has_none(tmp_path: Path):
    engine = sqlite(tmp_path / "x.db")
    migrate(engine, "0001")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO api_keys (id, name, organization_id, digest, display, created_at)"
            " VALUES ('k', 'n', 1, 'd', '', 1)"
        )
    migrate(engine)
    found = await SqlStore(engine, Seal(bytes(32))).keys.by_digest("d")
    assert found is not None
    assert (found.quota, found.rates) == (Quota(), GENEROUS)
    engine.dispose()


async def test_a_sandbox_from_before_there_were_policies_has_no_rules_and_the_usual_ingress(tmp_path: Path):
    engine = sqlite(tmp_path / "x.db")
    migrate(engine, "0003")
    old = sandbox()
    row = vars(old) | {"state": old.state.value, "limits": old.limits.to_wire(), "inbound_auth": "token"}
    for name in ("network", "ingress", "dialect", "on_timeout", "secrets", "volumes", "plugged_mib", "idle_timeout_s"):
        del row[name]
    with engine.begin() as connection:
        connection.execute(
            insert(Table("sandboxes", MetaData(), *(Column(name, tables.sandboxes.c[name].type) for name in row))), row
        )
    migrate(engine)
    assert await SqlStore(engine, Seal(bytes(32))).sandboxes.get(old.id) == old
    engine.dispose()


async def test_a_policy_is_sealed_comes_back_and_is_written_only_when_it_changes(store: SqlStore, tmp_path: Path):
    made = sandbox(network={"deny_out": ["192.0.2.77"]})
    await put(store, made)
    assert await store.sandboxes.get("a") == made

    def written() -> str:
        with contextlib.closing(sqlite3.connect(tmp_path / "atoll.db")) as database:
            return str(database.execute("SELECT network FROM sandboxes").fetchone()[0])

    before = written()
    assert "192.0.2.77" not in before
    assert await store.sandboxes.replace(made, replace(made, workdir="/other"))
    assert written() == before
    assert await store.sandboxes.replace(made, replace(made, network={}))
    assert written() == ""


async def test_a_traffic_token_is_sealed_and_comes_back(store: SqlStore, tmp_path: Path):
    given = Ingress(3000, True, False, "localhost:${PORT}", (8443,), "traffic-s3cret")
    made = sandbox(ingress=given, dialect=Dialect.NOVITA)
    await put(store, made)
    assert await store.sandboxes.get("a") == made
    changed = replace(made, ingress=replace(given, https_ports=()))
    assert await store.sandboxes.replace(made, changed)
    assert await store.sandboxes.get("a") == changed
    assert b"traffic-s3cret" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


async def test_what_was_sealed_for_one_column_does_not_open_in_another(store: SqlStore, tmp_path: Path):
    await put(store, sandbox(ingress=Ingress(web_port=3000)))
    with contextlib.closing(sqlite3.connect(tmp_path / "atoll.db")) as database:
        database.execute("UPDATE sandboxes SET network = ingress")
        database.commit()
    with pytest.raises(InternalError, match=r"seal\.key"):
        await store.sandboxes.get("a")
