"""Contexts of the code interpreter."""

from __future__ import annotations

import json
import uuid

import pytest

MADE = "01234567-89ab-cdef-0123-456789abcdef"
DEFAULTS = [
    {"id": "default-python", "language": "python", "cwd": "/home/user"},
    {"id": "default-javascript", "language": "javascript", "cwd": "/home/user"},
]


@pytest.mark.parametrize(
    ("order", "language", "cwd"),
    [
        ({}, "python", "/home/user"),
        ({"language": None, "cwd": None}, "python", "/home/user"),
        ({"language": "JS", "cwd": "/tmp"}, "javascript", "/tmp"),
        ({"language": "java", "cwd": "data"}, "java", "/home/user/data"),
        ({"cwd": "~/data"}, "python", "/home/user/data"),
        ({"cwd": "~"}, "python", "/home/user"),
    ],
)
async def test_one_is_made(code, agent, order, language, cwd):
    agent.answers("POST", "/contexts", {"context": {"id": "x", "language": "other", "cwd": cwd, "pid": 5}})
    status, said = await code.asked("POST", "/contexts", json=order)
    made = json.loads(said)
    assert (status, made["language"], made["cwd"]) == (200, language, cwd)
    assert made.keys() == {"id", "language", "cwd"}
    assert str(uuid.UUID(made["id"])) == made["id"]
    asked = {"id": made["id"], "language": language, "cwd": cwd, "user": "user", "env": {}}
    assert agent.seen[0].json == asked


async def test_those_of_python_and_javascript_are_there_before_anybody_used_them(code, agent):
    agent.answers("GET", "/contexts", {"contexts": []})
    status, said = await code.asked("GET", "/contexts")
    assert (status, json.loads(said)) == (200, DEFAULTS)


async def test_those_of_other_surfaces_are_not_shown(code, agent):
    """Nor what is no context at all."""
    record = {"language": "python", "cwd": "/workspace", "status": "idle", "pid": 7}
    others = [{"id": each, **record} for each in ("default", "0123456789abcdef", "mine", 5, None)]
    made = {**record, "id": MADE, "language": "r", "cwd": "/tmp"}
    used = {**record, "id": "default-python", "cwd": "/home/user"}
    agent.answers("GET", "/contexts", {"contexts": [*others, 5, made, used, {"id": "default-bash", "language": 5}]})
    _, said = await code.asked("GET", "/contexts")
    assert json.loads(said) == [
        *DEFAULTS,
        {"id": MADE, "language": "r", "cwd": "/tmp"},
        {"id": "default-bash", "language": "", "cwd": ""},
    ]


@pytest.mark.parametrize(("method", "what"), [("POST", "/restart"), ("DELETE", "")])
async def test_one_is_restarted_and_removed(code, agent, method, what):
    agent.answers(method, f"/contexts/{MADE}{what}", {})
    assert await code.asked(method, f"/contexts/{MADE}{what}") == (200, "null")
    assert len(agent.asked(method, f"/contexts/{MADE}{what}")) == 1


@pytest.mark.parametrize(("method", "what"), [("POST", "/restart"), ("DELETE", "")])
async def test_one_that_is_not_there(code, agent, method, what):
    for context_id in (MADE, "default-r"):
        agent.refuses(method, f"/contexts/{context_id}{what}", "not_found", 404)
        assert await code.asked(method, f"/contexts/{context_id}{what}") == (404, f"Context {context_id} not found")
    asked = len(agent.seen)
    for context_id in ("default", "mine", "a%2Fb"):
        status, said = await code.asked(method, f"/contexts/{context_id}{what}")
        assert (status, said) == (404, f"Context {context_id.replace('%2F', '/')} not found")
    assert len(agent.seen) == asked


@pytest.mark.parametrize(("method", "what"), [("POST", "/restart"), ("DELETE", "")])
async def test_a_default_one_that_nobody_has_used_has_nothing_to_end(code, agent, method, what):
    agent.refuses(method, f"/contexts/default-python{what}", "not_found", 404)
    assert await code.asked(method, f"/contexts/default-python{what}") == (200, "null")


@pytest.mark.parametrize(
    ("kind", "status"),
    [("unsupported", 500), ("not_found", 500), ("internal", 500), ("invalid", 400), ("too_many", 429)],
)
async def test_one_that_cannot_be_made(code, agent, kind, status):
    agent.refuses("POST", "/contexts", kind, 400, "no kernel of this language")
    assert await code.asked("POST", "/contexts", json={"language": "cobol"}) == (status, "no kernel of this language")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"language": 5}', b'{"cwd": {}}'])
async def test_bodies_that_do_not_fit(code, agent, body):
    assert (await code.asked("POST", "/contexts", data=body))[0] == 422
    assert agent.seen == []
