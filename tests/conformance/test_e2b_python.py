"""The unmodified Python package `e2b`, each version by one suite (clients/e2b): every member and every parameter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from python_versions import E2B, TIMEOUT_S, Suite, account, check_skipped, runs

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * TIMEOUT_S)]


@pytest.fixture(scope="module")
def suite(request, stack, code_interpreter_v1, records) -> Iterator[Suite]:
    versions = E2B.wanted(request.config.getoption("--long"))
    with runs(E2B, versions, account(stack.installation), records) as found:
        yield found


@pytest.mark.parametrize("version", E2B.cases())
def test_every_member_and_parameter(suite, version):
    suite(version).check()


@pytest.mark.long
def test_no_test_is_skipped_by_every_version_and_form(suite):
    """One that covers what no version has, or asks for it, has a name wrong."""
    check_skipped(suite, (*E2B.always, *E2B.between))
