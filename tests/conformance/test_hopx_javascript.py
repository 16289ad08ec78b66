"""The unmodified `@hopx-ai/sdk` against a real installation: one test here is one test of the suite in `js/`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import compatibility
import javascript_versions
import pytest
from javascript_versions import Reports, Run, side_by_side
from python_versions import key

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


@pytest.fixture(scope="module")
def reports(stack, open_installation, outside, tmp_path_factory) -> Iterator[Reports]:
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

    def begin(version: str) -> Run:
        limited = key(open_installation.places.data, "--calls-per-minute", "1")
        return Run(SUITE, version, scratch, {**facts, "ATOLL_LIMITED_KEY": limited})

    with side_by_side(VERSIONS, begin, at_once=len(VERSIONS)) as found:
        yield found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_javascript(reports, version, name):
    javascript_versions.check(reports(version), name, always=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_test_of_the_suite_is_shown_here(reports, version):
    javascript_versions.check_whole(reports(version), version, NAMES)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_difference_to_the_declared_types_is_excused_in_vain(reports, version):
    assert reports(version)["needless"] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_the_package_has_is_shown_or_waits(reports, version, records):
    compatibility.check(javascript_versions.record(SUITE, reports(version), records))
