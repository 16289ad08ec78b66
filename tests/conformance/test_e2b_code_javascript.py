"""The unmodified `@e2b/code-interpreter` of npm: one test here is one test of the suite in `code_js/`.

The newest is reached by plain HTTP, and with `--long` by a domain with TLS too, as the oldest one, which knows no other
way.
"""

from __future__ import annotations

from collections.abc import Iterator

import compatibility
import e2b_online
import javascript_versions
import pytest
from javascript_versions import Reports, Run, side_by_side

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * javascript_versions.SUITE_TIMEOUT_S)]

SUITE = javascript_versions.CODE
OLDEST, NEWEST = SUITE.versions()
ALWAYS = f"{NEWEST} by address"
LONG = (f"{NEWEST} by domain", f"{OLDEST} by domain")
RUNS = [ALWAYS, *(pytest.param(each, marks=pytest.mark.long) for each in LONG)]
NAMES = SUITE.test_names()


@pytest.fixture(scope="module")
def reports(request, stack, named_e2b, code_interpreter_v1, names, tmp_path_factory) -> Iterator[Reports]:
    def begin(run: str) -> Run:
        version, _, way = run.split()
        domain = way == "domain"
        facts = e2b_online.by_domain(named_e2b) if domain else e2b_online.by_address(stack.installation)
        scratch = tmp_path_factory.mktemp("javascript-code")
        return Run(SUITE, version, scratch, facts, names.before if domain else ())

    wanted = (ALWAYS, *(LONG if request.config.getoption("--long") else ()))
    with side_by_side(wanted, begin, at_once=2) as found:
        yield found


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", NAMES)
def test_code_interpreter_javascript(reports, run, name):
    javascript_versions.check(reports(run), name)


@pytest.mark.parametrize("run", RUNS)
def test_every_test_of_the_suite_is_shown_here(reports, run):
    javascript_versions.check_whole(reports(run), run.split()[0], NAMES)


@pytest.mark.parametrize("run", [ALWAYS, pytest.param(LONG[1], marks=pytest.mark.long)])
def test_everything_the_package_has_is_shown_or_waits(reports, run, records):
    compatibility.check(javascript_versions.record(SUITE, reports(run), records))
