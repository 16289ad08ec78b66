"""`--long`, and who may run what: a test that cannot run here is skipped by its name, saying why."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from atoll.storage.prepare import prepare
from atoll.testing.installation import Installation, borrow_templates
from atoll.testing.internet import Internet
from long_run import LongRun
from names import DOMAIN, Resolver
from reaching import NARROW_MBIT
from stack import Stack, templates_dir

SKIPS = {
    "root": (lambda config: os.geteuid() != 0, "needs root, namespaces and loop devices: run as root"),
    "long": (lambda config: not config.getoption("--long"), "takes long: run with --long"),
}

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # how fast a machine makes and tries its examples is nothing that a test is about


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="Run the long tests too.")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: what tests start must hear it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--long") and config.args == config.getini("testpaths"):
        config.pluginmanager.register(LongRun(config.rootpath))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for name, (applies, reason) in SKIPS.items():
            if item.get_closest_marker(name) and applies(config):
                item.add_marker(pytest.mark.skip(reason=f"{item.name} {reason}"))


@pytest.fixture(scope="session")
def code_interpreter_v1() -> str:
    """Built where all installations of the tests find it, and by none of them at its start."""
    prepare(templates_dir(), only=["code-interpreter-v1"])
    return "code-interpreter-v1"


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """One Atoll for all tests that do not hurt it."""
    with Installation(templates_dir(), "--templates", "base,code-interpreter,busybox") as installation:
        made = Stack(installation)
        yield made
        made.client.close()


@pytest.fixture(scope="session")
def names(tmp_path_factory) -> Iterator[Resolver]:
    with Resolver(tmp_path_factory.mktemp("names")) as made:
        yield made


@pytest.fixture(scope="session")
def named_stack(stack, tmp_path_factory) -> Iterator[Stack]:
    """Another one, whose sandboxes have names below a domain, with TLS by its own authority."""
    data = tmp_path_factory.mktemp("named")
    borrow_templates(templates_dir(), data)
    with Installation(data, "--templates", "code-interpreter", "--domain", DOMAIN, "--region", "here") as installation:
        made = Stack(installation, by_address=True)
        yield made
        made.client.close()


@pytest.fixture(scope="session")
def internet() -> Iterator[Internet]:
    """Reached by the sandboxes of `online` alone."""
    with Internet() as made:
        yield made
        assert made.escaped() == 0, made.escapes()


@pytest.fixture(scope="session")
def online(stack, internet, tmp_path_factory) -> Iterator[Stack]:
    """An Atoll whose sandboxes have a way out, into the small internet."""
    data = tmp_path_factory.mktemp("online")
    borrow_templates(templates_dir(), data)
    authority = str(internet.ca_file)
    flags = ("--uplink", internet.uplink, "--callback-ca", authority, "--egress-ca", authority)
    with Installation(data, "--templates", "code-interpreter", *flags) as installation:
        made = Stack(installation)
        yield made
        made.client.close()


@pytest.fixture(scope="session")
def named_online(stack, internet, tmp_path_factory) -> Iterator[Stack]:
    """Another one, whose sandboxes have names below a domain, and a narrow link each."""
    data = tmp_path_factory.mktemp("named-online")
    borrow_templates(templates_dir(), data)
    flags = ("--uplink", internet.uplink, "--domain", DOMAIN, "--egress-mbit", str(NARROW_MBIT))
    with Installation(data, "--templates", "code-interpreter", *flags) as installation:
        made = Stack(installation, by_address=True)
        yield made
        made.client.close()
