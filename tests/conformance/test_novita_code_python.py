"""The code interpreter of the unmodified Python package `novita-sandbox`, by the suite of the one that it is a fork of
(clients/code). It is reached by a domain with TLS: the package knows no other way."""

from __future__ import annotations

import e2b_online
import pytest
from python_versions import NOVITA_CODE, TIMEOUT_S, environment, run

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * TIMEOUT_S)]
VERSIONS = [NOVITA_CODE.newest, pytest.param(NOVITA_CODE.oldest, marks=pytest.mark.long)]
BY_ADDRESS = """
import httpx
from novita_sandbox.code_interpreter import Sandbox
sandbox = Sandbox.create()
try:
    print(sandbox.commands.run("echo here").stdout.strip())
    sandbox.run_code("1 + 1")
except httpx.ConnectError as error:
    print(str(error.request.url).replace(sandbox.sandbox_id, "ID"))
finally:
    sandbox.kill()
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_by_plain_http_code_is_asked_of_a_name_below_the_domain_alone(stack, code_interpreter_v1, names, version):
    """As docs/compatibility/novita.md says; a domain that does not exist keeps it from Novita's servers."""
    account = e2b_online.by_address(stack.installation, "NOVITA")
    package = str(environment(NOVITA_CODE, version))
    said = names.python(BY_ADDRESS, PYTHONPATH=package, NOVITA_DOMAIN="none.invalid", **account)
    assert said.split() == ["here", "https://49999-ID.none.invalid/execute"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_member_and_parameter(stack, named_e2b, code_interpreter_v1, names, tmp_path, version):
    account = e2b_online.by_domain(named_e2b, "NOVITA")
    place = {"way": "domain", "domain": account["NOVITA_DOMAIN"], "key": account["NOVITA_API_KEY"]}
    place["SSL_CERT_FILE"] = account["SSL_CERT_FILE"]
    run(NOVITA_CODE, version, place, tmp_path, names.before).check()
