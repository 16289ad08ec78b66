"""The unmodified Python package `novita-sandbox`, each version by the suite of E2B's, which it is a fork of
(clients/e2b), and by tests for what it has besides: every member and every parameter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from python_versions import NOVITA, TIMEOUT_S, Suite, account, runs

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * TIMEOUT_S)]


@pytest.fixture(scope="module")
def suite(request, stack, code_interpreter_v1, records) -> Iterator[Suite]:
    versions = (NOVITA.newest, *((NOVITA.oldest,) if request.config.getoption("--long") else ()))
    with runs(NOVITA, versions, account(stack.installation), records) as found:
        yield found


@pytest.mark.parametrize("version", [NOVITA.newest, pytest.param(NOVITA.oldest, marks=pytest.mark.long)])
def test_every_member_and_parameter(suite, version):
    suite(version).check()
