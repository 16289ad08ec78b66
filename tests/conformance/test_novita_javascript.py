"""The unmodified `novita-sandbox` of npm, by a domain with TLS as its `run_code` needs it: one test here is one test of
the suite of the package that it is a fork of (`e2b_js/`), or of those for what it has besides (`novita_js/`)."""

from __future__ import annotations

from collections.abc import Iterator

import compatibility
import e2b_online
import javascript_versions
import pytest
from javascript_versions import Reports, Run, side_by_side
from python_versions import key

from atoll.testing.internet import SOCKS

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * javascript_versions.SUITE_TIMEOUT_S)]

SUITE = javascript_versions.NOVITA
VERSIONS = SUITE.versions()
NAMES = [*javascript_versions.E2B.test_names(), *SUITE.test_names()]


@pytest.fixture(scope="module")
def reports(named_e2b, code_interpreter_v1, names, tmp_path_factory) -> Iterator[Reports]:
    scratch = tmp_path_factory.mktemp("javascript")

    def begin(version: str) -> Run:
        account = {**e2b_online.by_domain(named_e2b), **e2b_online.by_domain(named_e2b, "NOVITA")}
        limited = key(named_e2b.places.data, "--calls-per-minute", "1")
        return Run(
            SUITE,
            version,
            scratch,
            {**account, "ATOLL_LIMITED_KEY": limited, "ATOLL_SOCKS": f"{SOCKS}:9"},
            names.before,
        )

    with side_by_side(VERSIONS, begin, at_once=len(VERSIONS)) as found:
        yield found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_novita_javascript(reports, version, name):
    javascript_versions.check(reports(version), name)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_test_of_the_suite_is_shown_here(reports, version):
    javascript_versions.check_whole(reports(version), version, NAMES)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_difference_to_the_declared_types_is_excused_in_vain(reports, version):
    assert reports(version)["needless"] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_the_package_has_is_shown_or_waits(reports, version, records):
    compatibility.check(javascript_versions.record(SUITE, reports(version), records))
