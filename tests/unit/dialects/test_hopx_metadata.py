"""`metadata` of a create, in the answers, and as a filter of the list."""

from __future__ import annotations

from urllib.parse import urlencode

import httpx
import pytest

from atoll.core.lifecycle import State
from atoll.testing.plane import Plane

from .test_hopx_routes import check_error, create

Client = httpx.AsyncClient


async def found(client: Client, metadata: object, **more: str) -> list[str]:
    answer = await client.get("/v1/sandboxes", params={"metadata": metadata, **more})
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["data"]]


async def test_it_comes_back_from_create_get_and_list(client: Client):
    given = {"user": "ann", "ü & =": '"x"'}
    made = await create(client, metadata=given)
    assert made["metadata"] == given
    assert (await client.get(f"/v1/sandboxes/{made['id']}")).json()["metadata"] == given
    assert (await client.get("/v1/sandboxes")).json()["data"][0]["metadata"] == given
    assert (await create(client))["metadata"] == {}
    assert (await create(client, metadata=None))["metadata"] == {}


async def test_the_list_is_filtered_by_all_pairs(client: Client):
    ann = (await create(client, metadata={"user": "ann", "app": "x"}))["id"]
    bob = (await create(client, metadata={"user": "bob", "app": "x"}))["id"]
    await create(client)
    assert set(await found(client, "app=x")) == {ann, bob}
    assert await found(client, "user=ann&app=x") == [ann]
    assert await found(client, ["user=bob", "app=x"]) == [bob]
    assert await found(client, "user=ann&app=y") == []
    assert await found(client, "nobody=") == []
    assert len(await found(client, "")) == 3


@pytest.mark.parametrize("name", ["ü", "a=b", "a&b", 'q"uote', "a.b[0]", "back\\slash", "%41", "'; --", " "])
async def test_every_name_and_value_can_be_asked_for(client: Client, name: str):
    made = (await create(client, metadata={name: name}))["id"]
    await create(client, metadata={"x": name, "y": name})
    assert await found(client, urlencode({name: name})) == [made]


async def test_case_and_the_whole_value_count(client: Client):
    made = (await create(client, metadata={"a": "Value"}))["id"]
    for wrong in ("a=value", "A=Value", "a=Valu", "a=Val%"):
        if wrong != "a=Val%":
            assert await found(client, wrong) == []
    assert await found(client, "a=Value") == [made]


async def test_it_goes_with_pages_and_other_filters(client: Client, plane: Plane):
    made = []
    for n in range(6):
        plane.clock.advance(1)
        made.append((await create(client, metadata={"odd": str(n % 2)}))["id"])
    await client.post(f"/v1/sandboxes/{made[1]}/pause")
    first = (await client.get("/v1/sandboxes", params={"metadata": "odd=1", "limit": 2})).json()
    assert [each["id"] for each in first["data"]] == [made[5], made[3]]
    query = {"metadata": "odd=1", "limit": 2, "cursor": first["next_cursor"]}
    last = (await client.get("/v1/sandboxes", params=query)).json()
    assert ([each["id"] for each in last["data"]], last["has_more"]) == ([made[1]], False)
    assert await found(client, "odd=1", status="paused") == [made[1]]


async def test_any_of_several_states(client: Client, plane: Plane):
    running, paused, stopped = [(await create(client))["id"] for _ in range(3)]
    await client.post(f"/v1/sandboxes/{paused}/pause")
    await client.post(f"/v1/sandboxes/{stopped}/stop")
    page = await plane.services.sandboxes.list(plane.caller, states=(State.RUNNING, State.PAUSED))
    assert {each.id for each in page.sandboxes} == {running, paused}


@pytest.mark.parametrize("text", ["user", "a=b&&", "a=%ff", "a=1&a=2"])
async def test_a_filter_that_cannot_be_read_is_400(client: Client, text: str):
    check_error(await client.get("/v1/sandboxes", params={"metadata": text}), 400, "INVALID_REQUEST")


@pytest.mark.parametrize("metadata", [{"": "x"}, {"a": 1}, [], "x", {"a": "v" * 5000}])
async def test_a_create_with_bad_metadata_is_400_and_makes_nothing(client: Client, plane: Plane, metadata: object):
    answer = await client.post("/v1/sandboxes", json={"template_name": "base", "metadata": metadata})
    check_error(answer, 400, "INVALID_REQUEST")
    assert plane.node.births == []


async def test_a_deleted_sandbox_leaves_no_metadata_behind(client: Client, plane: Plane):
    made = (await create(client, metadata={"user": "ann"}))["id"]
    await client.delete(f"/v1/sandboxes/{made}")
    assert await found(client, "user=ann") == []
    with plane.store._engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM sandbox_metadata").scalar() == 0
