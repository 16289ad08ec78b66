"""The unmodified Python package `e2b-code-interpreter`, by one suite (clients/code): every member and every parameter.

The newest is reached by plain HTTP, and with `--long` by a domain with TLS too. Older versions are run with `--long`;
those before 2.10 know no other way than the domain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import e2b_online
import pytest
from python_versions import CODE, TIMEOUT_S, Result, run

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * TIMEOUT_S)]

NEWEST = f"{CODE.newest} by address"
MORE = tuple(f"{version} by domain" for version in (CODE.newest, *CODE.between, CODE.oldest))

Results = Callable[[str], Result]


@pytest.fixture(scope="module")
def results(request, stack, named_e2b, code_interpreter_v1, names, tmp_path_factory) -> Iterator[Results]:
    def begin(each: str) -> Result:
        version, _, way = each.split()
        records = tmp_path_factory.mktemp("records-by")
        if way == "address":
            place = {"way": way, "url": stack.url, "key": stack.installation.api_key}
            return run(CODE, version, place, records)
        made = e2b_online.by_domain(named_e2b)
        place = {"way": way, "domain": made["E2B_DOMAIN"], "key": made["E2B_API_KEY"]}
        return run(CODE, version, {**place, "SSL_CERT_FILE": made["SSL_CERT_FILE"]}, records, names.before)

    wanted = (NEWEST, *(MORE if request.config.getoption("--long") else ()))
    with ThreadPoolExecutor(2) as pool:
        running = {each: pool.submit(begin, each) for each in wanted}
        yield lambda each: running[each].result()


@pytest.mark.parametrize("each", [NEWEST, *(pytest.param(more, marks=pytest.mark.long) for more in MORE)])
def test_every_member_and_parameter(results, each):
    results(each).check(documented=each != f"{CODE.newest} by domain")  # its column is that by address
