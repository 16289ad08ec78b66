"""E2B's templates, secrets and volumes."""

from __future__ import annotations

import uuid

import pytest

from atoll.core.template import Template
from atoll.dialects.e2b.names import build_id
from atoll.testing.plane import Plane
from e2b_wire import Client, check_error, create, detail


@pytest.mark.parametrize("path", ["/templates", "/v2/templates", "/default-templates"])
async def test_templates_are_listed_with_every_field(client: Client, path: str):
    answer = await client.get(path, params={"teamID": "x"})
    found = {each["templateID"]: each for each in answer.json()}
    assert found.keys() == {"base", "busybox", "code-interpreter"}
    code = found["code-interpreter"]
    assert str(uuid.UUID(code["buildID"])) == code["buildID"]
    assert (code["names"], code["aliases"]) == (["code-interpreter"],) * 2
    assert code.keys() >= {
        *("templateID", "buildID", "cpuCount", "memoryMB", "diskSizeMB", "public", "aliases", "names", "createdAt"),
        *("updatedAt", "createdBy", "lastSpawnedAt", "spawnCount", "buildCount", "envdVersion", "buildStatus"),
    }


@pytest.mark.parametrize(
    "name", ["base", "BASE", "base:default", "atoll%2Fbase", "atoll%2Fbase%3Adefault", "atoll/base"]
)
async def test_a_template_has_many_names(client: Client, name: str):
    assert (await client.get(f"/templates/{name}")).json()["templateID"] == "base"
    assert (await client.get(f"/templates/aliases/{name}")).json() == {"templateID": "base", "public": True}
    assert [each["tag"] for each in (await client.get(f"/templates/{name}/tags")).json()] == ["default"]


async def test_a_builds_id_is_as_good_as_a_tag(client: Client, plane: Plane):
    shown = (await client.get("/templates/base")).json()
    (build,) = shown["builds"]
    assert (build["buildID"], build["status"]) == (shown["buildID"], "ready")
    assert (await create(client, templateID=f"base:{build['buildID']}"))["templateID"] == "base"


def test_a_build_is_its_content():
    one, same, other = (Template("base", digest, ("/l",)) for digest in ("a", "a", "b"))
    assert build_id(one) == build_id(same) != build_id(other)


async def test_what_there_is_not(client: Client):
    for path in ("/templates/none", "/templates/aliases/none", "/templates/none/tags"):
        check_error(await client.get(path), 404, "template 'none' not found")
    assert (await client.get("/templates/base/builds/x/status")).status_code == 404
    check_error(await client.delete("/templates/snap:default"), 404, "template 'snap' not found")


async def test_templates_of_the_installation_stay_as_they_are(client: Client):
    assert (await client.delete("/templates/base")).status_code == 403
    for method, path in [
        ("POST", "/v3/templates"),
        ("POST", "/v2/templates"),
        ("POST", "/templates"),
        ("POST", "/v2/templates/base/builds/x"),
        ("POST", "/templates/tags"),
        ("DELETE", "/templates/tags"),
        ("PATCH", "/v2/templates/base"),
    ]:
        answer = await client.request(method, path, json={"name": "x"})
        assert answer.status_code == 501, (method, path)
        assert "atoll template build" in answer.json()["message"]


# ---- secrets


async def test_a_secrets_life(client: Client):
    made = await client.post("/secrets", json={"name": "key", "value": "v1", "metadata": {"for": "x"}})
    assert made.status_code == 201
    shown = made.json()
    assert shown.keys() == {"secretID", "name", "currentVersion", "metadata", "createdAt", "updatedAt"}
    assert (shown["name"], shown["currentVersion"], shown["metadata"]) == ("key", 1, {"for": "x"})
    for name in ("key", shown["secretID"]):
        assert (await client.get(f"/secrets/{name}")).json() == shown
    again = (await client.post("/secrets/key", json={"value": "v2"})).json()
    assert (again["currentVersion"], again["metadata"]) == (2, {"for": "x"})
    assert [each["name"] for each in (await client.get("/secrets")).json()] == ["key"]
    assert (await client.post("/secrets", json={"name": "key", "value": "v"})).status_code == 409
    assert (await client.delete("/secrets/key")).status_code == 204
    assert (await client.delete("/secrets/key")).status_code == 404


async def test_secrets_come_in_pages(client: Client, plane: Plane):
    for name in ("a", "b", "c"):
        await client.post("/secrets", json={"name": name, "value": "v"})
        plane.clock.advance(1)
    first = await client.get("/secrets", params={"limit": 2})
    rest = await client.get("/secrets", params={"limit": 2, "nextToken": first.headers["x-next-token"]})
    assert [each["name"] for answer in (first, rest) for each in answer.json()] == ["c", "b", "a"]
    assert "x-next-token" not in rest.headers
    check_error(await client.get("/secrets", params={"nextToken": "x"}), 400, "Invalid next token")


async def test_a_rule_refers_to_a_secret_that_is_there(client: Client, plane: Plane):
    headers = {"Authorization": "Bearer ${e2b.secrets.key}"}
    network = {"rules": {"api.example.com": [{"transform": {"headers": headers}}]}}
    refused = await client.post("/v2/sandboxes", json={"templateID": "base", "network": network})
    assert refused.status_code == 404
    assert "key" in refused.json()["message"]
    await client.post("/secrets", json={"name": "key", "value": "hush"})
    made = await create(client, network=network)
    assert (await detail(client, made["sandboxID"]))["network"] == network


# ---- volumes


async def test_a_volumes_life(client: Client, plane: Plane):
    made = await client.post("/volumes", json={"name": "data"})
    assert made.status_code == 201
    volume = made.json()
    assert volume.keys() == {"volumeID", "name", "token"}
    assert (await client.get("/volumes")).json() == [{"volumeID": volume["volumeID"], "name": "data"}]
    assert (await client.get(f"/volumes/{volume['volumeID']}")).json()["name"] == "data"
    twice = await client.post("/volumes", json={"name": "data"})
    check_error(twice, 400, "a volume named 'data' is already there")
    mounts = [{"name": "data", "path": "/data"}]
    sandbox = await create(client, volumeMounts=mounts)
    assert (await detail(client, sandbox["sandboxID"]))["volumeMounts"] == mounts
    assert (await client.delete(f"/volumes/{volume['volumeID']}")).status_code == 409
    await client.delete(f"/sandboxes/{sandbox['sandboxID']}")
    assert (await client.delete(f"/volumes/{volume['volumeID']}")).status_code == 204
    assert (await client.delete(f"/volumes/{volume['volumeID']}")).status_code == 404
