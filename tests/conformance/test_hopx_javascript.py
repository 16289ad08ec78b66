"""The unmodified `@hopx-ai/sdk` against a real installation: one test here is one test of the suite in `js/`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import compatibility
import javascript_versions
import pytest

from atoll.testing.installation import Installation, borrow_templates
from stack import templates_dir

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * javascript_versions.SUITE_TIMEOUT_S)]

DOMAIN = "sandboxes.test"
SUITE = javascript_versions.HOPX
VERSIONS = SUITE.versions()
NAMES = SUITE.test_names()
WAY_ADDRESS, FAR_ADDRESS = "203.0.113.1", "203.0.113.9"  # RFC 5737: nobody's


class Outside(NamedTuple):
    way: str
    """Where the traffic of sandboxes leaves."""
    far: str
    """What it gets to."""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    """Two network namespaces and nothing beyond them."""
    places = Outside(f"atoll-way-{os.getpid()}", f"atoll-far-{os.getpid()}")
    try:
        for name in places:
            ip("netns", "add", name)
        ip("link", "add", "out", "netns", places.way, "type", "veth", "peer", "name", "far", "netns", places.far)
        for name, link, address in ((places.way, "out", WAY_ADDRESS), (places.far, "far", FAR_ADDRESS)):
            ip("-n", name, "address", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
        ip("-n", places.way, "route", "add", "default", "via", FAR_ADDRESS)
        yield places
    finally:
        for name in places:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.fixture(scope="module")
def open_installation(outside, tmp_path_factory) -> Iterator[Installation]:
    """With a domain, an authority of its own, and a way out."""
    data = tmp_path_factory.mktemp("open") / "data"
    borrow_templates(templates_dir(), data)
    flags = ("--templates", "base", "--domain", DOMAIN, "--uplink", f"netns:{outside.way}")
    with Installation(data, *flags) as made:
        yield made


def limited_key(installation: Installation) -> str:
    """It may call once in a minute."""
    command = [sys.executable, "-m", "atoll.cli.main", "keys", "create", "javascript", "--calls-per-minute", "1"]
    data = str(installation.places.data)
    return subprocess.run([*command, "--data-dir", data], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def runs(stack, open_installation, outside, tmp_path_factory) -> Iterator[dict[str, javascript_versions.Run]]:
    """All versions side by side: most of a run is waiting."""
    installation = stack.installation
    facts = {
        "ATOLL_URL": installation.url,
        "ATOLL_KEY": installation.api_key,
        "ATOLL_TOKEN_KEY": (installation.places.data / "server" / "token.key").read_text().strip(),
        "ATOLL_OPEN_URL": open_installation.url,
        "ATOLL_OPEN_KEY": open_installation.api_key,
        "ATOLL_DOMAIN": DOMAIN,
        "ATOLL_OUTSIDE": outside.far,
        "ATOLL_OUTSIDE_ADDRESS": FAR_ADDRESS,
        "NODE_EXTRA_CA_CERTS": str(open_installation.places.tls / "ca.pem"),
    }
    scratch = tmp_path_factory.mktemp("javascript")
    begun: dict[str, javascript_versions.Run] = {}
    try:
        for version in VERSIONS:
            own = {"ATOLL_LIMITED_KEY": limited_key(open_installation)}
            begun[version] = javascript_versions.Run(SUITE, version, scratch, facts | own)
        yield begun
    finally:
        for run in begun.values():
            run.end()


@pytest.fixture(scope="module")
def reports(runs) -> dict[str, dict[str, Any]]:
    return {version: run.report() for version, run in runs.items()}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_javascript(reports, version, name):
    (result,) = [each for each in reports[version]["results"] if each["test"] == name]
    assert result["outcome"] == "passed", result["error"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_test_of_the_suite_is_shown_here(reports, version):
    assert reports[version]["version"] == version
    assert sorted(each["test"] for each in reports[version]["results"]) == sorted(NAMES)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_difference_to_the_declared_types_is_excused_in_vain(reports, version):
    assert reports[version]["needless"] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_the_package_has_is_shown_or_waits(reports, version, records):
    compatibility.check(javascript_versions.record(SUITE, reports[version], records))
