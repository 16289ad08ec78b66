"""Which heads lead to E2B's agent surface."""

from __future__ import annotations

import pytest

from atoll.edge.routing import (
    EnvdSurface,
    Names,
    Naming,
    NoSuchPort,
    Port,
    SignedFiles,
    Target,
    TokenPort,
    Unknown,
    classify,
)

ID = "a1" * 10
TOKEN = Naming(access_token=True)
SURFACE = EnvdSurface(ID, "/files")


@pytest.mark.parametrize(
    ("host", "path", "named", "target"),
    [
        (f"49983-{ID}.d.test", "/files", Naming(), SURFACE),
        (f"49983-{ID}.eu.d.test:8443", "/files", Naming(), SURFACE),
        (f"49983-{ID}.localhost", "/files", TOKEN, SURFACE),
        (f"49982-{ID}.d.test", "/files", Naming(), Port(ID, 49982, "/files")),
        (f"049983-{ID}.d.test", "/files", Naming(), NoSuchPort("049983")),
        ("d.test", f"/s/{ID}/49983/files", Naming(), SURFACE),
        ("d.test", f"/s/{ID}/49983", Naming(), EnvdSurface(ID, "/")),
        ("d.test", "/files", Naming(ID, "49983"), SURFACE),
        ("sandbox.d.test", "/files", Naming(ID, "49983", access_token=True), SURFACE),
        ("d.test", "/process.Process/List", TOKEN, TokenPort("/process.Process/List")),
        ("d.test", "/health", TOKEN, TokenPort("/health")),
        ("d.test", "/files", TOKEN, TokenPort("/files")),
        ("d.test", "/files", Naming(), SignedFiles()),
        ("d.test", "/files/", Naming(), Unknown()),
        ("d.test", "/files/compose", Naming(), Unknown()),
    ],
)
def test_a_way(host: str, path: str, named: Naming, target: Target) -> None:
    assert classify(host, path, Names("d.test", "eu"), named) == target
