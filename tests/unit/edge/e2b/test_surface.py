"""Who gets to E2B's agent surface, by which way, and what is said to others."""

from __future__ import annotations

import pytest

from atoll.core.access import access_token

UNAUTHORIZED = "unauthorized access, please provide a valid access token or method signing if supported"
NOT_FOUND = "The sandbox was not found"
STATS = {
    "cpu_seconds": 1.0,
    "vcpus": 1.5,
    "memory_bytes": 3 << 20,
    "memory_limit_bytes": 512 << 20,
    "disk_total_bytes": 1000,
    "disk_free_bytes": 400,
}


async def test_health_is_a_word_of_the_agent_and_needs_no_token(envd, agent):
    agent.answers("GET", "/health", {"status": "ok"})
    async with envd.request("GET", "/health", without=("X-Access-Token",)) as response:
        assert (response.status, await response.read()) == (204, b"")
        assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_the_environment_and_the_figures(envd, agent):
    agent.answers("GET", "/env", {"env": {"A": "b", "C": 5}})
    agent.answers("GET", "/stats", STATS)
    assert await envd.json("GET", "/envs") == (200, {"A": "b"})
    status, figures = await envd.json("GET", "/metrics")
    assert status == 200
    assert figures.pop("ts") > 1_700_000_000
    assert figures == {
        "cpu_count": 2,
        "cpu_used_pct": 0.0,
        "mem_total": 512 << 20,
        "mem_used": 3 << 20,
        "mem_total_mib": 512,
        "mem_used_mib": 3,
        "disk_used": 600,
        "disk_total": 1000,
    }


@pytest.mark.parametrize(
    "path", ["/init", "/freeze", "/upgrade", "/", "/process.Process/Nothing", "/process.Process/List/"]
)
async def test_other_routes_are_not_there(envd, path):
    status, said = await envd.json("POST", path)
    assert (status, said["code"]) == (404, 404)


async def test_other_methods_are_refused(envd):
    status, said = await envd.json("PUT", "/health")
    assert (status, said["code"]) == (405, 405)
    async with envd.request("GET", "/process.Process/List") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST, OPTIONS")


async def test_a_head_that_is_too_long_is_refused_and_writes_nothing_into_our_log(envd, caplog):
    async with envd.request("GET", "/health", headers={"X-Long": "x" * 20_000}) as response:
        assert response.status == 400
    assert caplog.text == ""


async def test_a_content_type_may_have_parameters_and_capitals(envd, agent):
    agent.answers("GET", "/processes", {"processes": []})
    assert await envd.unary("List", **{"Content-Type": "Application/JSON ; charset=utf-8"}) == (200, {"processes": []})


@pytest.mark.parametrize(
    ("path", "sent", "wanted"),
    [
        ("List", "application/proto", "application/json"),
        ("List", "application/connect+json", "application/json"),
        ("Start", "application/json", "application/connect+json"),
        ("Start", "application/connect+proto", "application/connect+json"),
    ],
)
async def test_other_codecs_are_refused(envd, path, sent, wanted):
    headers = {"Content-Type": sent}
    async with envd.request("POST", f"/process.Process/{path}", headers=headers, data=b"") as response:
        assert (response.status, response.headers["Accept-Post"]) == (415, wanted)


async def test_browsers_ask_first_and_need_no_token_for_that(envd):
    names = ("X-Access-Token", "E2b-Sandbox-Id")
    async with envd.request("OPTIONS", "/process.Process/Start", without=names[:1]) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Headers"] == "*, Authorization"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]


# ---- tokens


async def test_a_token_of_either_kind_opens(envd, agent, kit):
    agent.answers("GET", "/env", {"env": {}})
    for token in (access_token(bytes.fromhex(kit.KEY), kit.SANDBOX), kit.token_for(kit.SANDBOX)):
        assert await envd.json("GET", "/envs", headers={"X-Access-Token": token}) == (200, {})


async def test_nothing_else_opens(envd, agent, kit):
    agent.answers("GET", "/env", {"env": {}})
    key = bytes.fromhex(kit.KEY)
    shown = [
        {},
        {"X-Access-Token": ""},
        {"X-Access-Token": "x"},
        {"X-Access-Token": "ä"},
        {"X-Access-Token": access_token(key, kit.OTHER)},
        {"X-Access-Token": access_token(bytes(32), kit.SANDBOX)},
        {"X-Access-Token": access_token(key, kit.SANDBOX) + "0"},
        {"X-Access-Token": kit.token_for(kit.OTHER)},
        {"X-Access-Token": kit.token_for(kit.SANDBOX, lifetime_s=-5)},
        {"X-API-Key": kit.API_KEY},
        {"Authorization": f"Bearer {kit.token_for(kit.SANDBOX)}"},
    ]
    for headers in shown:
        answer = await envd.json("GET", "/envs", without=("X-Access-Token",), headers=headers)
        assert answer == (401, {"code": 401, "message": UNAUTHORIZED}), headers
    assert agent.seen == []


async def test_two_tokens_are_none(envd, agent, token, session, kit):
    named = [(name, value) for name, value in envd.headers.items() if name != "X-Access-Token"]
    headers = [*named, ("X-Access-Token", token), ("X-Access-Token", token)]
    async with session.get(envd.origin + "/envs", headers=headers) as response:
        assert response.status == 401
    assert agent.seen == []


async def test_the_sandbox_of_a_token_alone(envd, agent, kit):
    agent.answers("GET", "/env", {"env": {"A": "b"}})
    names = ("E2b-Sandbox-Id", "E2b-Sandbox-Port")
    assert await envd.json("GET", "/envs", without=names) == (200, {"A": "b"})
    wrong = {"X-Access-Token": access_token(bytes(32), kit.SANDBOX)}
    refused = await envd.json("GET", "/envs", without=names, headers=wrong)
    assert refused == (401, {"code": 401, "message": UNAUTHORIZED})


async def test_its_own_host_and_its_path(envd, agent, kit, token):
    agent.answers("GET", "/env", {"env": {"A": "b"}})
    names = ("E2b-Sandbox-Id", "E2b-Sandbox-Port")
    own = {"Host": f"49983-{kit.SANDBOX}.localhost"}
    assert await envd.json("GET", "/envs", without=names, headers=own) == (200, {"A": "b"})
    assert await envd.json("GET", f"/s/{kit.SANDBOX}/49983/envs", without=names) == (200, {"A": "b"})


# ---- sandboxes that are not there


@pytest.mark.parametrize("path", ["/health", "/envs", "/process.Process/List"])
async def test_one_that_nobody_knows(envd, kit, path):
    method = "POST" if "Process" in path else "GET"
    answer = await envd.json(method, path, headers={"E2b-Sandbox-Id": kit.OTHER})
    assert answer == (502, {"sandboxId": kit.OTHER, "message": NOT_FOUND, "code": 502})


async def test_one_that_is_paused_is_resumed_for_its_holder_alone(envd, resumable, agent, kit):
    agent.answers("GET", "/env", {"env": {}})
    agent.answers("GET", "/health", {})
    wanted = (502, {"sandboxId": kit.SANDBOX, "message": NOT_FOUND, "code": 502})
    assert await envd.json("GET", "/health", without=("X-Access-Token",)) == wanted
    status, _ = await envd.json("GET", "/envs", without=("X-Access-Token",))
    assert status == 401
    assert await envd.json("GET", "/envs") == (200, {})


async def test_one_that_is_paused_and_stays_so(envd, server, kit):
    server.publish(server.routes[kit.SANDBOX] | {"state": "paused"})
    wanted = (502, {"sandboxId": kit.SANDBOX, "message": NOT_FOUND, "code": 502})
    assert await envd.json("GET", "/envs") == wanted


async def test_one_whose_agent_is_gone(envd, server, kit, tmp_path):
    server.publish(kit.route(kit.SANDBOX, tmp_path / "nobody", incarnation=2))
    server.routes.pop(kit.SANDBOX)
    status, said = await envd.json("GET", "/health")
    assert (status, said["message"]) == (502, NOT_FOUND)


async def test_calls_beyond_the_rate_are_told_when_to_come_again(envd, server, agent, kit):
    server.publish(server.routes[kit.SANDBOX] | {"key": "key_a", "calls_per_minute": 1})
    agent.answers("GET", "/env", {"env": {}})
    assert (await envd.json("GET", "/envs"))[0] == 200
    async with envd.request("GET", "/envs") as response:
        assert response.status == 429
        assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("kind", "status"),
    [("invalid", 400), ("permission", 403), ("not_found", 404), ("no_space", 507), ("too_many", 429), ("odd", 500)],
)
async def test_what_the_agent_refuses_on_a_plain_route(envd, agent, kind, status):
    agent.refuses("GET", "/env", kind, 400, "because")
    assert await envd.json("GET", "/envs") == (status, {"code": status, "message": "because"})


async def test_an_agent_that_speaks_something_else(envd, agent):
    agent.sends("GET", "/env", b"[1]")
    status, said = await envd.json("GET", "/envs")
    assert (status, said["code"]) == (500, 500)
