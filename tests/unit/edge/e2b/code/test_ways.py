"""Which heads lead to the code interpreter."""

from __future__ import annotations

import pytest

from atoll.edge import routing
from atoll.edge.routing import (
    BadNaming,
    CodeSurface,
    Names,
    Naming,
    NoSuchPort,
    Port,
    Target,
    TokenCode,
    TokenPort,
    TokenSocket,
    Unknown,
    classify,
)

ID = "a1" * 10
TOKEN = Naming(access_token=True)
SURFACE = CodeSurface(ID, "/execute")


@pytest.mark.parametrize(
    ("host", "path", "named", "target"),
    [
        (f"49999-{ID}.d.test", "/execute", Naming(), SURFACE),
        (f"49999-{ID}.eu.d.test:8443", "/execute", TOKEN, SURFACE),
        (f"49999-{ID}.localhost", "/", Naming(), CodeSurface(ID, "/")),
        (f"49998-{ID}.d.test", "/execute", Naming(), Port(ID, 49998, "/execute")),
        (f"049999-{ID}.d.test", "/execute", Naming(), NoSuchPort("049999")),
        ("d.test", f"/s/{ID}/49999/execute", Naming(), SURFACE),
        ("d.test", "/execute", Naming(ID, "49999"), SURFACE),
        ("sandbox.d.test", "/contexts/x", Naming(ID, "49999", access_token=True), CodeSurface(ID, "/contexts/x")),
        ("d.test", "/health", Naming(ID, "49999", access_token=True), CodeSurface(ID, "/health")),
        ("d.test", "/execute", Naming(None, "49999"), BadNaming("missing header")),
        ("d.test", "/execute", TOKEN, TokenCode("/execute")),
        ("d.test", "/contexts", TOKEN, TokenCode("/contexts")),
        ("d.test", "/contexts/x/restart", TOKEN, TokenCode("/contexts/x/restart")),
        ("d.test", "/health", TOKEN, TokenPort("/health")),
        ("d.test", "/contextsx", TOKEN, TokenPort("/contextsx")),
        ("d.test", "/execute/stream", TOKEN, TokenSocket("/execute/stream")),
        ("d.test", "/execute", Naming(), Unknown()),
        ("d.test", "/contexts", Naming(), Unknown()),
    ],
)
def test_a_way(host: str, path: str, named: Naming, target: Target) -> None:
    assert classify(host, path, Names("d.test", "eu"), named) == target


def test_the_way_from_inside() -> None:
    assert routing.inside(ID, 49999, "/execute") == SURFACE
