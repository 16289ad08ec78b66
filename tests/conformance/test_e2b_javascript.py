"""The unmodified `e2b` of npm against real installations: one test here is one test of the suite in `e2b_js/`.

Every version by plain HTTP, and the newest once more by a domain with TLS; those between and older with `--long`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import compatibility
import e2b_online
import javascript_versions
import pytest
from javascript_versions import Reports, Run, side_by_side
from python_versions import key

from atoll.testing.installation import Installation
from atoll.testing.internet import SOCKS, WEB
from atoll.testing.socks_server import SocksServer

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * javascript_versions.SUITE_TIMEOUT_S)]

SUITE = javascript_versions.E2B
NEWEST = SUITE.versions()[-1]
BY_DOMAIN = f"{NEWEST} by domain"
LONG = [pytest.param(each, marks=pytest.mark.long) for each in SUITE.between()]
VERSIONS = [*SUITE.always, *LONG]
RUNS = [*SUITE.always, BY_DOMAIN, *LONG]
NAMES = SUITE.test_names()
AT_ONCE = 3


@pytest.fixture(scope="module")
def plain(stack, code_interpreter_v1, internet, tmp_path_factory) -> Iterator[Installation]:
    with e2b_online.installation(internet, tmp_path_factory.mktemp("e2b-plain") / "data") as made:
        yield made


@pytest.fixture(scope="module")
def socks(internet) -> Iterator[SocksServer]:
    """Beyond the way out."""

    def dial(host: str, port: int) -> socket.socket:
        return socket.create_connection((WEB.get(host, host), port), 5)

    made = internet.far(lambda: SocksServer((SOCKS, 1080), dial=dial))
    thread = internet.far(made.start)
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture(scope="module")
def reports(request, plain, named_e2b, names, socks, tmp_path_factory) -> Iterator[Reports]:
    facts = {"ATOLL_SOCKS": f"{SOCKS}:{socks.port}", "ATOLL_NO_SOCKS": f"{SOCKS}:9"}
    scratch = tmp_path_factory.mktemp("javascript")

    def begin(run: str) -> Run:
        named = run == BY_DOMAIN
        installation, reached = (named_e2b, e2b_online.by_domain) if named else (plain, e2b_online.by_address)
        own = {
            **facts,
            **reached(installation),
            "ATOLL_LIMITED_KEY": key(installation.places.data, "--calls-per-minute", "1"),
        }
        place = scratch / run.replace(" ", "-")
        place.mkdir()
        return Run(SUITE, run.split()[0], place, own, names.before if named else ())

    wanted = [*SUITE.always, BY_DOMAIN, *(SUITE.between() if request.config.getoption("--long") else ())]
    with side_by_side(wanted, begin, AT_ONCE) as found:
        yield found


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", NAMES)
def test_e2b_javascript(reports, run, name):
    javascript_versions.check(reports(run), name)


@pytest.mark.parametrize("run", RUNS)
def test_every_test_of_the_suite_is_shown_here(reports, run):
    javascript_versions.check_whole(reports(run), run.split()[0], NAMES)


@pytest.mark.long
def test_every_test_is_about_what_a_version_has(reports):
    """Where no version has it, its name is wrong."""
    known = {row["member"] for version in SUITE.versions() for row in reports(version)["rows"]}
    shown = {member for each in reports(SUITE.always[0])["results"] for member in each["shows"]}
    assert shown <= known


@pytest.mark.parametrize("run", RUNS)
def test_no_difference_to_the_declared_types_is_excused_in_vain(reports, run):
    assert reports(run)["needless"] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_the_package_has_is_shown_or_waits(reports, version, records):
    compatibility.check(javascript_versions.record(SUITE, reports(version), records))
