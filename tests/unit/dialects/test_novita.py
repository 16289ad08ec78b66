"""Novita's control plane, where it differs from E2B's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from atoll.core.events import CHANGES
from atoll.core.policy import from_wire
from atoll.dialects.e2b.novita_parse import idle_timeout_s
from atoll.dialects.e2b.novita_render import EVENTS, UNLIMITED
from atoll.testing.plane import Plane
from e2b_wire import Client, check_error, detail

SDK = {"X-Novita-SDK-Name": "sdk_py", "X-Novita-SDK-Version": "2.1.1"}


@pytest.fixture
async def novita(plane: Plane) -> AsyncIterator[Client]:
    headers = {**SDK, "X-API-KEY": plane.key, "User-Agent": "novita-sandbox-python-sdk/2.1.1"}
    transport = httpx.ASGITransport(plane.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://atoll", headers=headers) as client:
        yield client


async def make(client: Client, **fields: object) -> dict:
    given = {"templateID": "base", "timeout": 300, "autoPause": False, "metadata": {}, "envVars": {}, "secure": True}
    answer = await client.post("/sandboxes", json={**given, "allow_internet_access": True, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_bearer_is_as_good_as_the_other_field(plane: Plane, novita: Client):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(plane.app), base_url="http://atoll") as client:
        answer = await client.get("/templates", headers={**SDK, "Authorization": f"Bearer {plane.key}"})
    assert {each["templateID"] for each in answer.json()} >= {"base"}
    assert (await novita.get("/sandboxes/quota", headers={"X-API-KEY": "nvta_x"})).status_code == 401


async def test_clients_before_that_field_are_known_by_their_publisher(client: Client):
    for publisher, form in (("Novita", dict), ("E2B", list)):
        answer = await client.get("/v2/templates", headers={"publisher": publisher})
        assert isinstance(answer.json(), form), publisher


# ---- made, found


async def test_what_makes_one_is_e2bs_first_form_with_more(plane: Plane, novita: Client):
    made = await make(novita, envVars={"A": "1"}, nodeID=plane.node.node_id)
    assert made["envdAccessToken"]
    assert made["trafficAccessToken"] is None
    assert made.keys() >= {"templateID", "sandboxID", "clientID", "envdVersion"}
    (birth,) = plane.node.births
    assert birth.env == {
        "A": "1",
        "E2B_SANDBOX": "true",
        "E2B_TEMPLATE_ID": "base",
        "E2B_SANDBOX_ID": made["sandboxID"],
    }
    found = await plane.services.sandboxes.get(plane.caller, made["sandboxID"])
    assert (found.dialect.value, found.timeout_s) == ("novita", 300)


async def test_a_machine_that_is_not_there_is_none_to_be_put_on(plane: Plane, novita: Client):
    refused = await novita.post("/sandboxes", json={"templateID": "base", "nodeID": "far"})
    check_error(refused, 400, f"there is no machine 'far'; there is {plane.node.node_id}")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60", 60), ("30", 30), ("29", None), ("0", None), ("-60", None), ("60.5", None), ("x", None), ("9" * 10, None)],
)
async def test_an_idle_timeout_is_in_the_metadata(plane: Plane, novita: Client, text: str, seconds: int | None):
    assert idle_timeout_s({"idle_timeout": text}) == seconds
    made = await make(novita, metadata={"idle_timeout": text})
    found = await plane.services.sandboxes.get(plane.caller, made["sandboxID"])
    assert (found.idle_timeout_s, found.metadata) == (seconds, {"idle_timeout": text})


@pytest.mark.parametrize("name", ["novita/base", "base", "novita/base:default"])
async def test_its_base_image_is_the_template_base(novita: Client, name: str):
    assert (await make(novita, templateID=name))["templateID"] == "base"


async def test_a_call_of_e2bs_client_makes_one_of_e2bs(plane: Plane, client: Client):
    made = await make(client)
    found = await plane.services.sandboxes.get(plane.caller, made["sandboxID"])
    assert found.dialect.value == "e2b"


async def test_connect_can_change_who_gets_in_and_what_goes_out(plane: Plane, novita: Client):
    path = f"/sandboxes/{(await make(novita))['sandboxID']}/connect"
    await novita.post(path.replace("connect", "pause"))
    network = {"denyOut": ["0.0.0.0/0"], "allowPublicTraffic": False}
    answer = await novita.post(path, json={"timeout": 60, "secure": True, "network": network})
    assert (answer.status_code, bool(answer.json()["trafficAccessToken"])) == (201, True)
    assert (await detail(novita, answer.json()["sandboxID"]))["network"] == network
    assert from_wire(plane.node.policies[answer.json()["sandboxID"]]).denies_all
    opened = await novita.post(path, json={"timeout": 60, "allowPublicTraffic": True})
    assert (opened.status_code, opened.json()["trafficAccessToken"]) == (200, None)
    shown = (await detail(novita, answer.json()["sandboxID"]))["network"]
    assert shown == {"denyOut": ["0.0.0.0/0"]}


async def test_a_connection_whose_policy_does_not_hold_resumes_nothing(plane: Plane, novita: Client):
    sandbox_id = (await make(novita))["sandboxID"]
    await novita.post(f"/sandboxes/{sandbox_id}/pause")
    plane.node.fail("set_network")
    body = {"timeout": 60, "network": {"denyOut": ["0.0.0.0/0"], "allowPublicTraffic": False}}
    assert (await novita.post(f"/sandboxes/{sandbox_id}/connect", json=body)).status_code == 503
    shown = await detail(novita, sandbox_id)
    assert (shown["state"], "network" in shown) == ("paused", False)


async def test_connect_changes_the_policy_of_one_that_only_has_its_disk(plane: Plane, novita: Client):
    sandbox_id = (await make(novita))["sandboxID"]
    await novita.post(f"/sandboxes/{sandbox_id}/pause", json={"memory": False})
    network = {"allowOut": ["192.0.2.1"], "denyOut": ["0.0.0.0/0"]}
    answer = await novita.post(f"/sandboxes/{sandbox_id}/connect", json={"timeout": 60, "network": network})
    assert answer.status_code == 201
    assert plane.node.births[-1].network == {"allow_out": ["192.0.2.1"], "deny_out": ["0.0.0.0/0"]}


async def test_a_network_that_says_nothing_of_what_goes_out_leaves_that(novita: Client):
    made = await make(novita, network={"denyOut": ["192.0.2.0/24"]})
    network = {"maskRequestHost": "localhost:${PORT}"}
    answer = await novita.post(f"/sandboxes/{made['sandboxID']}/connect", json={"timeout": 60, "network": network})
    assert answer.status_code == 200
    assert (await detail(novita, made["sandboxID"]))["network"] == {"denyOut": ["192.0.2.0/24"], **network}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Invalid request: timeout: Field required"),
        ({"timeout": 0}, "Timeout must be greater than 0"),
        ({"timeout": 60, "network": {"denyOut": ["x"]}}, "invalid denied CIDR x"),
    ],
)
async def test_a_connection_that_is_wrong_changes_nothing(novita: Client, body: dict, message: str):
    sandbox_id = (await make(novita))["sandboxID"]
    check_error(await novita.post(f"/sandboxes/{sandbox_id}/connect", json=body), 400, message)
    assert "network" not in await detail(novita, sandbox_id)


@pytest.mark.parametrize("call", ["connect", "reset"])
async def test_without_public_traffic_it_stays_secure(novita: Client, call: str):
    sandbox_id = (await make(novita))["sandboxID"]
    body = {"timeout": 60, "secure": False, "allowPublicTraffic": False}
    answer = await novita.post(f"/sandboxes/{sandbox_id}/{call}", json=body)
    assert (answer.status_code, "'secure' flag" in answer.json()["message"]) == (400, True)


# ---- a life


async def test_pause_and_what_follows(novita: Client):
    path = f"/sandboxes/{(await make(novita))['sandboxID']}"
    assert [(await novita.post(f"{path}/pause")).status_code for _ in range(2)] == [204, 409]
    assert (await novita.post(f"{path}/timeout", json={"timeout": 10})).status_code == 409
    assert [(await novita.delete(path)).status_code for _ in range(2)] == [204, 404]


async def test_a_reset_is_a_new_life_on_the_same_disk(plane: Plane, novita: Client):
    sandbox_id = (await make(novita))["sandboxID"]
    answer = await novita.post(f"/sandboxes/{sandbox_id}/reset", json={"resume": True, "timeout": 150})
    assert (answer.status_code, answer.json()) == (200, {})
    found = await plane.services.sandboxes.get(plane.caller, sandbox_id)
    assert (found.incarnation, found.state.value, found.timeout_s) == (2, "running", 150)
    shut = await novita.post(f"/sandboxes/{sandbox_id}/reset", json={"resume": False, "allowPublicTraffic": False})
    assert shut.json()["trafficAccessToken"]
    assert (await detail(novita, sandbox_id))["state"] == "paused"
    check_error(
        await novita.post(f"/sandboxes/{sandbox_id}/reset", json={"timeout": 0}), 400, "Timeout must be greater than 0"
    )


async def test_memory_is_added_and_taken_back(novita: Client):
    sandbox_id = (await make(novita))["sandboxID"]
    sizes = []
    for more in (256, 512, 0):
        answer = await novita.post(f"/sandboxes/{sandbox_id}/hotplug-memory", json={"requested_size_mib": more})
        assert answer.status_code == 204, answer.text
        sizes.append((await detail(novita, sandbox_id))["memoryMB"])
    assert [size - sizes[-1] for size in sizes] == [256, 512, 0]
    assert (await novita.post(f"/sandboxes/{sandbox_id}/hotplug-memory", json={})).status_code == 400


async def test_volumes_come_and_go(novita: Client):
    await novita.post("/volumes", json={"name": "data"})
    sandbox_id = (await make(novita))["sandboxID"]
    path = f"/sandboxes/{sandbox_id}/volume-mounts"
    mounted = await novita.post(path, json={"name": "data", "path": "/mnt/data"})
    assert (mounted.status_code, mounted.json()["volumeMounts"]) == (200, [{"name": "data", "path": "/mnt/data"}])
    assert mounted.json()["sandboxID"] == sandbox_id
    check_error(await novita.delete(path), 400, "Invalid request: path is required")
    check_error(await novita.delete(path, params={"path": "/x", "force": "1"}), 400, "force is true or false")
    gone = await novita.delete(path, params={"path": "/mnt/data", "force": "true"})
    assert (gone.status_code, "volumeMounts" in gone.json()) == (200, False)


@pytest.mark.parametrize(
    ("method", "call", "body"),
    [
        *(("POST", each, {}) for each in ("clone", "commit", "reset", "snapshots")),
        ("POST", "connect", {"timeout": 1}),
        ("POST", "hotplug-memory", {"requested_size_mib": 256}),
        ("POST", "volume-mounts", {"name": "a", "path": "/a"}),
        ("DELETE", "volume-mounts?path=/a", None),
        ("PUT", "network", {"allowOut": []}),
    ],
)
async def test_one_that_is_not_there_is_404_for_every_call(novita: Client, method: str, call: str, body: dict | None):
    for sandbox_id in ("nonexistent-id", "a" * 20):
        answer = await novita.request(method, f"/sandboxes/{sandbox_id}/{call}", json=body)
        assert answer.status_code == 404, answer.text


@pytest.mark.parametrize("call", ["clone", "commit", "snapshots"])
async def test_copies_of_memory_are_refused_with_the_reason(novita: Client, call: str):
    sandbox_id = (await make(novita))["sandboxID"]
    answer = await novita.post(f"/sandboxes/{sandbox_id}/{call}", json={"count": 1, "strict": True})
    assert answer.status_code == 501
    assert "native engine" in answer.json()["message"]


# ---- quota and events


async def test_a_quota_has_every_number_its_client_reads(plane: Plane, novita: Client):
    await make(novita)
    shown = (await novita.get("/sandboxes/quota")).json()
    assert shown["usage"] == {"concurrentInstances": 1, "concurrentVcpu": 2, "concurrentRamMb": 2048}
    assert {shown["limit"][name] for name in ("concurrentInstances", "concurrentVcpu", "concurrentRamMb")} == {
        UNLIMITED
    }
    await plane.services.keys.limit(plane.caller, plane.caller.principal.key_id, {"sandboxes": 3, "vcpu": 2}, {})
    limit = (await novita.get("/sandboxes/quota")).json()["limit"]
    assert (limit["concurrentInstances"], limit["concurrentVcpu"], limit["maxVcpu"]) == (3, 2, 2)
    assert limit["maxLengthHours"] == 24
    assert limit["diskMb"] > 0
    assert limit["maxRamMb"] > 0


async def events(client: Client, **query: object) -> dict:
    answer = await client.get("/sandboxes/events", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_events_tell_a_life_newest_first(plane: Plane, novita: Client):
    sandbox_id = (await make(novita))["sandboxID"]
    for call in ("pause", "pause", "connect", "timeout"):
        plane.clock.advance(1)
        await novita.post(f"/sandboxes/{sandbox_id}/{call}", json={"timeout": 60})
    await novita.get(f"/sandboxes/{sandbox_id}")
    plane.clock.advance(1)
    await novita.delete(f"/sandboxes/{sandbox_id}")
    found = await events(novita, sandboxID=sandbox_id[3:12])
    assert (found["total"], found["hasMore"]) == (6, False)
    assert [(each["eventName"], each["state"], each["statusCode"], each["errorMsg"]) for each in found["items"]] == [
        ("delete", "success", 204, ""),
        ("timeout", "success", 204, ""),
        ("connect", "success", 200, ""),
        ("pause", "failed", 409, "conflict"),
        ("pause", "success", 204, ""),
        ("create", "success", 201, ""),
    ]
    first = found["items"][-1]
    assert (first["sandboxID"], first["templateID"], first["templateName"]) == (sandbox_id, "base", "base")
    assert first["recordAt"] == int(plane.clock.now()) - 5
    assert first["eventID"] not in {each["eventID"] for each in found["items"][:-1]}


async def test_events_are_chosen_by_what_is_asked(plane: Plane, novita: Client):
    sandbox_id = (await make(novita))["sandboxID"]
    began = int(plane.clock.now())
    plane.clock.advance(10)
    for _ in range(2):
        await novita.post(f"/sandboxes/{sandbox_id}/pause")

    async def names(**query: object) -> list[str]:
        return [each["eventName"] for each in (await events(novita, **query))["items"]]

    assert await names(events="create,delete") == ["create"]
    assert await names(events=["create", "pause"], orderAsc="true") == ["create", "pause", "pause"]
    assert await names(events="sandbox.create") == await names(events="nothing") == []
    assert await names(state="failed") == ["pause"]
    assert await names(startTime=began, endTime=began) == ["create"]
    assert await names(startTime=began + 1) == ["pause", "pause"]
    assert await names(templateID="as", sandboxID=sandbox_id, state="success") == ["pause", "create"]
    assert await names(templateID="other") == await names(sandboxID="-") == []


async def test_events_come_in_pages(novita: Client):
    for _ in range(3):
        await make(novita)
    pages = [await events(novita, offset=offset, limit=2) for offset in (0, 2, 4)]
    assert [(len(page["items"]), page["total"], page["hasMore"]) for page in pages] == [
        (2, 3, True),
        (1, 3, False),
        (0, 3, False),
    ]
    assert len({each["sandboxID"] for page in pages for each in page["items"]}) == 3


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 101},
        {"limit": 0},
        {"offset": -1},
        {"state": "odd"},
        {"orderAsc": "up"},
        {"startTime": 1766650000, "endTime": 1766649999},
        {"startTime": 1, "endTime": 1766649999},
        {"startTime": 1766650000000},
    ],
)
async def test_a_question_about_events_that_is_wrong_is_400(novita: Client, query: dict):
    answer = await novita.get("/sandboxes/events", params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, 400)


def test_every_change_has_the_name_of_an_event():
    assert set(EVENTS) == set(CHANGES)


async def test_others_see_neither_events_nor_sandboxes(plane: Plane, novita: Client):
    assert (await events(novita))["items"] == []
    answer = await novita.get("/sandboxes/events", headers={"X-API-KEY": "e2b_" + "0" * 40})
    assert answer.status_code == 401


# ---- templates


async def test_templates_come_in_pages_with_numbers(novita: Client, client: Client):
    shown = (
        await novita.get("/v2/templates", params={"template_type": "template_build", "page": 1, "limit": 2})
    ).json()
    everything = (await client.get("/v2/templates")).json()
    assert isinstance(everything, list)
    total = len(everything)
    assert {name: shown[name] for name in ("total", "page", "limit", "totalPages")} == {
        "total": total,
        "page": 1,
        "limit": 2,
        "totalPages": -(-total // 2),
    }
    rest = (await novita.get("/v2/templates", params={"page": 2, "limit": 2})).json()["templates"]
    names = [each["templateID"] for each in shown["templates"] + rest]
    assert names == [each["templateID"] for each in everything][:4]
    assert shown["templates"][0]["templateType"] == "template_build"


async def test_there_are_no_templates_of_snapshots(novita: Client):
    shown = (await novita.get("/v2/templates", params={"template_type": "snapshot_template"})).json()
    assert shown == {"templates": [], "total": 0, "page": 1, "limit": 20, "totalPages": 0}


@pytest.mark.parametrize("query", [{"template_type": "x"}, {"page": 0}, {"limit": 101}])
async def test_a_page_that_cannot_be_is_400(novita: Client, query: dict):
    assert (await novita.get("/v2/templates", params=query)).status_code == 400


# ---- volumes


async def test_a_volume_has_a_quota(novita: Client, client: Client):
    made = await novita.post("/volumes", json={"name": "data", "quotaSizeGiB": 2, "quotaInodes": 2000})
    assert (made.status_code, made.json()["quotaSizeGiB"], bool(made.json()["token"])) == (201, 2, True)
    volume_id = made.json()["volumeID"]
    changed = await novita.patch(f"/volumes/{volume_id}", json={"quotaSizeGiB": 4, "quotaInodes": 4000})
    assert (changed.status_code, changed.json()["quotaSizeGiB"], changed.json()["name"]) == (200, 4, "data")
    shown = (await novita.get(f"/volumes/{volume_id}")).json()
    assert shown.keys() >= {"volumeID", "name", "token", "quotaSizeGiB", "quotaInodes", "usedSizeBytes"}
    (listed,) = (await novita.get("/volumes")).json()
    assert (listed["quotaSizeGiB"], "token" in listed) == (4, False)
    assert (await client.get("/volumes")).json() == [{"volumeID": volume_id, "name": "data"}]
    assert (await novita.patch(f"/volumes/{volume_id}", json={"quotaSizeGiB": 1})).status_code == 400
    assert (await novita.patch("/volumes/x", json={"quotaSizeGiB": 1})).status_code == 404


# ---- secrets


async def test_a_secrets_life(novita: Client, client: Client, plane: Plane):
    given = {"name": "openai.key", "value": "hush", "hosts": ["api.example.com", "*.example.org"], "description": "d"}
    made = await novita.post("/secrets", json=given)
    assert made.status_code == 201
    shown = made.json()
    assert (shown["name"], shown["hosts"], shown["description"]) == (given["name"], given["hosts"], "d")
    assert (shown["hasSecret"], shown["status"]) == (True, "active")
    assert "hush" not in made.text
    assert (await novita.get("/secrets/openai.key")).json() == shown
    assert (await novita.get("/secrets")).json() == {"secrets": [shown]}
    assert [each["name"] for each in (await client.get("/secrets")).json()] == ["openai.key"]
    plane.clock.advance(1)
    changed = (await novita.put("/secrets/openai.key", json={"value": "v2", "hosts": ["b.example"]})).json()
    assert (changed["hosts"], changed["description"], changed["placeholder"]) == (
        ["b.example"],
        "d",
        shown["placeholder"],
    )
    assert changed["updatedAt"] > shown["updatedAt"]
    assert (await novita.put("/secrets/openai.key", json={"description": None})).json()["description"] is None
    assert (await novita.post("/secrets", json=given)).status_code == 409
    assert (await novita.delete("/secrets/openai.key")).json() == {"deleted": "openai.key"}
    assert (await novita.delete("/secrets/openai.key")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a", "value": "hush"},
        {"name": "a", "value": "hush", "hosts": []},
        {"name": "a", "value": "", "hosts": ["a.example"]},
        {"name": "a/b", "value": "hush", "hosts": ["a.example"]},
        {"name": "a", "value": "hush", "hosts": ["https://a.example"]},
        {"name": "a", "value": ["hush"], "hosts": ["a.example"]},
    ],
)
async def test_a_secret_that_is_wrong_is_400_and_is_not_quoted(novita: Client, body: dict):
    answer = await novita.post("/secrets", json=body)
    assert answer.status_code == 400
    assert "hush" not in answer.text


async def test_a_variable_holds_the_placeholder_that_was_told(plane: Plane, novita: Client):
    told = (await novita.post("/secrets", json={"name": "key", "value": "hush", "hosts": ["a.example"]})).json()
    made = [await make(novita, secrets={"KEY": "key", "SAME": "key"}) for _ in range(2)]
    for birth, sandbox in zip(plane.node.births, made, strict=True):
        assert (birth.env["KEY"], birth.env["SAME"]) == (told["placeholder"],) * 2
        policy = from_wire(plane.node.policies[sandbox["sandboxID"]])
        assert policy.treatment("a.example").swaps == ((told["placeholder"], "hush"),)
    refused = await novita.post("/sandboxes", json={"templateID": "base", "secrets": {"KEY": "none"}})
    assert (refused.status_code, "'none'" in refused.json()["message"]) == (404, True)
    twice = {"templateID": "base", "envVars": {"KEY": "x"}, "secrets": {"KEY": "key"}}
    assert (await novita.post("/sandboxes", json=twice)).status_code == 400
