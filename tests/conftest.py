"""`--long`, and who may run what: a test that cannot run here is skipped by its name, saying why."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from atoll.testing.installation import Installation
from long_run import LongRun
from stack import Stack, templates_dir

SKIPS = {
    "root": (lambda config: os.geteuid() != 0, "needs root, namespaces and loop devices: run as root"),
    "long": (lambda config: not config.getoption("--long"), "takes long: run with --long"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="Run the long tests too.")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--long") and config.args == config.getini("testpaths"):
        config.pluginmanager.register(LongRun(config.rootpath))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for name, (applies, reason) in SKIPS.items():
            if item.get_closest_marker(name) and applies(config):
                item.add_marker(pytest.mark.skip(reason=f"{item.name} {reason}"))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """One Atoll for all tests that do not hurt it."""
    with Installation(templates_dir(), "--templates", "base,code-interpreter,busybox") as installation:
        made = Stack(installation)
        yield made
        made.client.close()
