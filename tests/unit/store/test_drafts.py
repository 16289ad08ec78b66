"""Sandboxes that are being made are found like rows, and are written with their first change alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from atoll.core.audit import AuditEntry
from atoll.core.lifecycle import State
from atoll.core.ports import SandboxFilter
from atoll.core.sandbox import Sandbox, moved
from atoll.store.sql import SqlStore
from atoll.testing.plane import open_store

from .test_sql import put, sandbox

ENTRY = AuditEntry(1.5, "key", "sandbox.create", "ok", "a", template="base")
EVERYONE = SandboxFilter(organization_id=1)
FILTERS = [
    EVERYONE,
    SandboxFilter(2),
    SandboxFilter(1, State.CREATING),
    SandboxFilter(1, State.RUNNING),
    SandboxFilter(1, states=(State.CREATING, State.PAUSED)),
    SandboxFilter(1, states=(State.PAUSED,)),
    SandboxFilter(1, region="local"),
    SandboxFilter(1, region="eu"),
    SandboxFilter(1, metadata={"ü": "x"}),
    SandboxFilter(1, metadata={"ü": "y"}),
    SandboxFilter(1, template="base"),
    SandboxFilter(1, template="other"),
    SandboxFilter(1, created_after=1.0),
    SandboxFilter(1, created_after=3.0),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "atoll.db")
    yield store
    store.close()


async def ids(store: SqlStore, where: SandboxFilter, *page: object) -> list[str]:
    return [each.id for each in await store.sandboxes.list(where, *(page or (None, 10)))]


async def test_a_draft_is_found_and_not_written(store: SqlStore, tmp_path: Path) -> None:
    draft = sandbox()
    await store.sandboxes.begin(draft)
    assert await store.sandboxes.get("a") == draft
    assert await store.sandboxes.on_node("node-1") == [draft]
    assert await store.sandboxes.on_node("node-2") == []
    assert await store.sandboxes.unfinished(draft.state_since) == []
    assert await store.sandboxes.unfinished(draft.state_since + 1) == [draft]
    other = open_store(tmp_path / "atoll.db")
    assert await other.sandboxes.get("a") is None
    other.close()


@pytest.mark.parametrize("where", FILTERS, ids=str)
@pytest.mark.parametrize("oldest_first", [False, True])
async def test_a_list_names_drafts_where_it_would_name_their_rows(
    store: SqlStore, where: SandboxFilter, oldest_first: bool
) -> None:
    rows = [sandbox(f"r{n}", created_at=float(n), state=State.PAUSED) for n in range(5)]
    drafts = [sandbox(f"d{n}", created_at=float(n)) for n in range(0, 5, 2)]
    for row in rows:
        await put(store, row)
    for draft in drafts:
        await store.sandboxes.begin(draft)
    pages = [
        (None, 2, oldest_first),
        (None, 9, oldest_first),
        ((2.0, "d2"), 2, oldest_first),
        ((1.0, "r1"), 9, oldest_first),
    ]
    as_drafts = [await ids(store, where, *page) for page in pages]
    for draft in drafts:
        assert await store.sandboxes.replace(draft, draft)
    assert [await ids(store, where, *page) for page in pages] == as_drafts


async def test_its_first_change_writes_it_with_all_that_it_is(store: SqlStore, tmp_path: Path) -> None:
    draft = sandbox()
    await store.sandboxes.begin(draft)
    running = replace(moved(draft, State.RUNNING, 5.0), socket="/s")
    assert await store.sandboxes.replace(draft, running, entry=ENTRY)
    other = open_store(tmp_path / "atoll.db")
    assert await other.sandboxes.get("a") == running
    assert await ids(other, replace(EVERYONE, metadata=draft.metadata)) == ["a"]
    assert await other.audit.list(9) == [ENTRY]
    other.close()


async def test_who_comes_second_to_a_draft_has_lost(store: SqlStore) -> None:
    draft = sandbox()
    await store.sandboxes.begin(draft)
    assert not await store.sandboxes.replace(replace(draft, incarnation=2), draft)
    assert not await store.sandboxes.replace(moved(draft, State.PAUSED, 5.0), draft)
    assert await store.sandboxes.replace(draft, moved(draft, State.DELETED, 6.0))
    assert not await store.sandboxes.replace(draft, moved(draft, State.RUNNING, 7.0), entry=ENTRY)
    assert (await store.sandboxes.get("a")).state is State.DELETED
    assert await store.audit.list(9) == [], "nothing was done"


async def test_a_draft_that_cannot_be_written_stays_one(store: SqlStore) -> None:
    draft = sandbox()
    await store.sandboxes.begin(draft)
    with pytest.raises(IntegrityError):
        await store.sandboxes.replace(draft, moved(draft, State.RUNNING, 5.0), entry=replace(ENTRY, outcome=None))
    assert await store.sandboxes.get("a") == draft


async def test_state_and_entry_are_written_both_or_neither(store: SqlStore) -> None:
    old: Sandbox = sandbox()
    await put(store, old)
    with pytest.raises(IntegrityError):
        await store.sandboxes.replace(old, moved(old, State.RUNNING, 5.0), entry=replace(ENTRY, outcome=None))
    assert await store.sandboxes.get("a") == old
    assert await store.audit.list(9) == []


async def test_an_entry_is_corrected_and_no_other(store: SqlStore) -> None:
    others = [replace(ENTRY, at=1.6), replace(ENTRY, sandbox_id="b"), replace(ENTRY, operation="sandbox.pause")]
    for entry in (ENTRY, *others):
        await store.audit.append(entry)
    await store.audit.correct(ENTRY, "unavailable")
    assert set(await store.audit.list(9)) == {replace(ENTRY, outcome="unavailable"), *others}
