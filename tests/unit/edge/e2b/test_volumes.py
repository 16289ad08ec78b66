"""How the edge keeps the ways to volumes' files; what they say is in tests/root/test_volumes.py."""

from __future__ import annotations

import pytest

from atoll.core.errors import NotFound
from atoll.edge.agent_link import AgentGone
from atoll.edge.e2b import volumes
from atoll.edge.e2b.volumes import Volumes, _refusal, _stat
from atoll.edge.tokens import TokenVerifier


class Server:
    def __init__(self) -> None:
        self.sockets = {"v": "/run/v1.sock", "w": "/run/w1.sock"}
        self.asked: list[str] = []

    async def open_volume(self, volume_id: str) -> str | None:
        self.asked.append(volume_id)
        return self.sockets.get(volume_id)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def ways(server, tmp_path):
    made = Volumes(server, TokenVerifier(tmp_path / "key"))
    yield made
    await made.close()


async def test_the_server_is_asked_once_in_a_while(ways, server):
    for _ in range(3):
        async with ways._open("v") as link:
            assert link.socket == "/run/v1.sock"
    assert server.asked == ["v"]


async def test_after_an_agent_has_gone_the_next_call_asks_again(ways, server):
    with pytest.raises(AgentGone):
        async with ways._open("v"):
            raise AgentGone("it has ended")
    server.sockets["v"] = "/run/v2.sock"
    async with ways._open("v") as link:
        assert link.socket == "/run/v2.sock"


async def test_a_volume_that_is_not_there_leaves_nothing_for_long(ways, server, monkeypatch):
    with pytest.raises(NotFound):
        async with ways._open("gone"):
            pass
    monkeypatch.setattr(volumes, "KEPT_S", -1.0)
    async with ways._open("v"):
        assert ways._opened.keys() == {"v"}
        async with ways._open("w"):
            assert ways._opened.keys() == {"v", "w"}


@pytest.mark.parametrize("entry", [{}, {"type": 5, "size": "x", "modified_at": 1e300, "path": None, "target": 3}])
def test_what_a_hostile_agent_says_has_the_right_form(entry):
    shown = _stat(entry)
    assert (shown["size"], shown["ctime"], shown["path"]) == (0, "1970-01-01T00:00:00.000000Z", "/")
    assert "target" not in shown


def test_a_volume_that_is_closed_during_a_call_can_be_asked_again():
    answer = _refusal(AgentGone("it has ended"))
    assert answer.status == 503
    assert b"try again" in answer.body
