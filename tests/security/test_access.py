"""Who is let in, and what a refusal says."""

from __future__ import annotations

import json
import sqlite3
import stat

import pytest

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def box(stack):
    with stack.box("busybox") as made:
        yield made


@pytest.fixture(scope="module")
def other(stack):
    with stack.box("busybox") as made:
        yield made


def test_no_key_is_401(stack):
    assert stack.client.get("/v1/sandboxes").status_code == 401


def test_a_wrong_key_is_401_and_not_repeated_in_the_answer(stack):
    response = stack.client.get("/v1/sandboxes", headers={"X-API-Key": "e2b_" + "0" * 40})
    assert response.status_code == 401
    assert "0" * 40 not in response.text


@pytest.mark.parametrize("prefix", ["e2b_", "hopx_live_", "hopx_test_"])
def test_the_same_digits_are_the_same_key(stack, prefix):
    digits = stack.installation.api_key.removeprefix("e2b_")
    for headers in ({"X-API-Key": prefix + digits}, {"Authorization": f"Bearer {prefix}{digits}"}):
        assert stack.client.get("/v1/sandboxes", headers=headers).status_code == 200


def test_a_token_opens_its_own_sandbox_only(stack, box, other):
    response = stack.client.get(f"/s/{other.id}/info", headers={"Authorization": f"Bearer {box.token}"})
    assert response.status_code == 401


def test_no_token_opens_nothing(stack, box):
    assert stack.client.post(f"/s/{box.id}/commands/run", json={"command": "true"}).status_code == 401


def test_a_token_is_no_api_key(stack, box):
    assert stack.client.get("/v1/sandboxes", headers={"Authorization": f"Bearer {box.token}"}).status_code == 401


def test_a_token_ends_with_its_sandbox(stack):
    with stack.box("busybox") as made:
        token = made.token
    response = stack.client.get(f"/s/{made.id}/info", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 404


def test_internal_paths_are_not_forwarded(stack):
    for path in ("/internal/routes", "//internal/routes", "/v1/../internal/routes", "/%69nternal/routes"):
        response = stack.client.request("GET", path, headers={"X-API-Key": stack.installation.api_key})
        assert response.status_code in (400, 404), path
        assert "socket" not in response.text


def test_keys_are_stored_as_hashes(stack):
    digits = stack.installation.api_key.removeprefix("e2b_")
    directory = stack.installation.places.database.parent
    for file in directory.glob("atoll.db*"):
        assert digits.encode() not in file.read_bytes()


def test_files_with_secrets_are_private(stack):
    places = stack.installation.places
    for path in (places.first_key, places.token_key, places.data / "node" / "master.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(places.run.stat().st_mode) == 0o700


def test_every_control_plane_operation_leaves_an_audit_row(stack):
    with stack.box("busybox") as made:
        made.control("POST", "/pause")
        made.control("POST", "/resume")
        made.control("PUT", "/timeout", json={"timeout_seconds": 600})
    with sqlite3.connect(f"file:{stack.installation.places.database}?mode=ro", uri=True) as database:
        rows = database.execute("select * from audit").fetchall()
    database.close()
    mine = [row for row in rows if made.id in map(str, row)]
    operations = " ".join(str(row) for row in mine)
    for word in ("create", "pause", "resume", "timeout", "delete"):
        assert word in operations, operations


BAD_CREATES = {
    "unknown template": ({"template_name": "no-such"}, 404),
    "no template": ({}, 400),
    "negative timeout": ({"template_name": "busybox", "timeout_seconds": -1}, 400),
    "timeout of text": ({"template_name": "busybox", "timeout_seconds": "soon"}, 400),
    "huge timeout": ({"template_name": "busybox", "timeout_seconds": 10**30}, 400),
    "timeout beyond the maximum life": ({"template_name": "busybox", "timeout_seconds": 86401}, 400),
    "env of a list": ({"template_name": "busybox", "env_vars": ["A"]}, 400),
    "env with a number": ({"template_name": "busybox", "env_vars": {"A": 1}}, 400),
    "template of a number": ({"template_name": 7}, 400),
    "path as a template": ({"template_name": "../../etc"}, 404),
    "a list": ([], 400),
    "null": (None, 400),
}


@pytest.mark.parametrize(("body", "status"), BAD_CREATES.values(), ids=BAD_CREATES.keys())
def test_a_bad_create_is_refused_with_a_reason(stack, body, status):
    response = stack.api("POST", "/v1/sandboxes", content=json.dumps(body))
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["message"]
    assert error["request_id"] == response.headers["X-Request-ID"]


def test_malformed_json_is_400(stack):
    assert stack.api("POST", "/v1/sandboxes", content=b'{"template_name": ').status_code == 400


def test_refused_creates_leave_no_sandbox(stack):
    before = {s["id"] for s in stack.api("GET", "/v1/sandboxes").json()["data"]}
    for body, _ in BAD_CREATES.values():
        stack.api("POST", "/v1/sandboxes", content=json.dumps(body))
    assert {s["id"] for s in stack.api("GET", "/v1/sandboxes").json()["data"]} == before
