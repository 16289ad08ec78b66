"""The code interpreter of the unmodified Python package `novita-sandbox`, by the suite of the one that it is a fork of
(clients/code). It is reached by a domain with TLS: the package knows no other way."""

from __future__ import annotations

import os

import compatibility
import e2b_online
import pytest
from python_versions import NOVITA_CODE, TIMEOUT_S, run

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * TIMEOUT_S)]


@pytest.mark.parametrize("version", [NOVITA_CODE.newest, pytest.param(NOVITA_CODE.oldest, marks=pytest.mark.long)])
def test_every_member_and_parameter(stack, named_e2b, code_interpreter_v1, names, tmp_path, version):
    account = e2b_online.by_domain(named_e2b, "NOVITA")
    place = {"way": "domain", "domain": account["NOVITA_DOMAIN"], "key": account["NOVITA_API_KEY"]}
    place["SSL_CERT_FILE"] = account["SSL_CERT_FILE"]
    result = run(NOVITA_CODE, version, place, tmp_path, names.before)
    assert result.status == 0, result.output
    if "ATOLL_CLIENT_ARGS" not in os.environ:
        compatibility.check(result.records)
