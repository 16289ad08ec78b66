"""Secrets in the database: one of a name for each organization, values sealed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.core.errors import CapacityExceeded, Conflict, InternalError
from atoll.core.secrets import Secret, SecretValue, check_room
from atoll.store.engine import sqlite
from atoll.store.seal import Seal
from atoll.store.sql import SqlStore
from atoll.testing.plane import open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "atoll.db")
    yield store
    store.close()


def secret(name: str = "key", **changes: object) -> Secret:
    made = Secret(
        id=f"sec_{name}",
        organization_id=1,
        name=name,
        version=1,
        hosts=("a.example", "b.example"),
        description="ü",
        metadata={"ü": "x"},
        created_at=1_800_000_000.123456,
        updated_at=2.5,
    )
    return replace(made, **changes)


async def put(store: SqlStore, made: Secret, value: str = "v") -> Secret:
    await store.secrets.insert(made, value, lambda count: None)
    return made


async def test_one_comes_back_as_it_was_by_name_and_by_id_for_its_organization(store: SqlStore):
    made = await put(store, secret())
    assert await store.secrets.get(1, "key") == made
    assert await store.secrets.get(1, made.id) == made
    assert await store.secrets.get(2, "key") is None
    assert await store.secrets.get(1, "other") is None


async def test_a_name_is_there_once_for_each_organization(store: SqlStore):
    await put(store, secret())
    with pytest.raises(Conflict, match="key"):
        await put(store, secret(id="sec_2"))
    await put(store, secret(id="sec_2", organization_id=2))


async def test_room_is_asked_for_with_what_the_organization_has(store: SqlStore):
    await put(store, secret("a"))
    await put(store, secret("b", organization_id=2))
    seen: list[int] = []
    await store.secrets.insert(secret("c"), "v", seen.append)
    assert seen == [1]
    with pytest.raises(CapacityExceeded):
        await store.secrets.insert(secret("d"), "v", lambda count: check_room(count + 998))
    assert await store.secrets.get(1, "d") is None


async def test_pages_are_newest_first(store: SqlStore):
    for n in range(5):
        await put(store, secret(f"s{n}", created_at=float(n // 2)))
    await put(store, secret("other", organization_id=2))
    seen, after = [], None
    while page := await store.secrets.list(1, after, 2):
        seen += [each.name for each in page]
        after = (page[-1].created_at, page[-1].id)
    assert seen == ["s4", "s3", "s2", "s1", "s0"]


async def test_values_are_those_of_the_names_that_are_there(store: SqlStore):
    await put(store, secret("a"), "va")
    await put(store, secret("b", hosts=()), "vb")
    await put(store, secret("c", organization_id=2), "theirs")
    assert sorted(await store.secrets.values(1, ["a", "b", "c", "d"]), key=lambda each: each.name) == [
        SecretValue("a", "va", ("a.example", "b.example")),
        SecretValue("b", "vb"),
    ]
    assert await store.secrets.values(1, []) == []


async def test_a_change_wins_only_over_the_version_it_saw_and_keeps_the_value_unless_there_is_one(store: SqlStore):
    first = await put(store, secret())
    second = replace(first, hosts=(), description="")
    assert await store.secrets.replace(first, second, None)
    assert await store.secrets.get(1, "key") == second
    assert await store.secrets.values(1, ["key"]) == [SecretValue("key", "v")]
    third = replace(second, version=2)
    assert await store.secrets.replace(second, third, "newer")
    assert await store.secrets.values(1, ["key"]) == [SecretValue("key", "newer")]
    assert not await store.secrets.replace(second, replace(second, version=2), "late")
    assert await store.secrets.values(1, ["key"]) == [SecretValue("key", "newer")]


async def test_what_is_removed_is_gone(store: SqlStore):
    made = await put(store, secret())
    await store.secrets.remove(made.id)
    assert await store.secrets.get(1, "key") is None
    assert await store.secrets.values(1, ["key"]) == []
    assert not await store.secrets.replace(made, made, "v")
    await put(store, made)


async def test_values_are_sealed_for_their_own_row(store: SqlStore, tmp_path: Path):
    await put(store, secret("a"), "value-in-clear")
    await put(store, secret("b"), "another-in-clear")
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"-in-clear" not in content
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name = 'a')")
    assert [each.value for each in await store.secrets.values(1, ["a"])] == ["value-in-clear"]
    with pytest.raises(InternalError, match="sec_b"):
        await store.secrets.values(1, ["b"])


async def test_another_key_opens_nothing(store: SqlStore, tmp_path: Path):
    await put(store, secret())
    other = SqlStore(sqlite(tmp_path / "atoll.db"), Seal(bytes(32)))
    try:
        with pytest.raises(InternalError, match=r"seal\.key"):
            await other.secrets.values(1, ["key"])
        assert await other.secrets.get(1, "key") == secret()
    finally:
        other.close()
