"""`atoll mcp`: what its options come to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import atoll
from atoll.cli import mcp as command
from atoll.core.errors import InvalidInput
from atoll.mcp import server
from atoll.mcp.sandboxes import Order

ACCOUNT = {"ATOLL_BASE_URL": "http://127.0.0.1:1", "ATOLL_API_KEY": "key"}


@pytest.fixture
def run(monkeypatch) -> Any:
    """Runs the command with a server that only notes what it was to serve."""
    served: list[Any] = []
    monkeypatch.setattr(server, "serve_stdio", lambda order: served.append(order))
    monkeypatch.setattr(server, "serve_http", lambda *given: served.append(given[:-1]))

    def call(*arguments: str, **environ: str) -> Any:
        result = CliRunner().invoke(command.mcp, arguments, env={**ACCOUNT, **environ}, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return served.pop()

    return call


def test_without_options_it_serves_stdio_with_the_account_of_the_environment(run):
    assert run() == Order(account={"api_key": "key", "base_url": "http://127.0.0.1:1"})


def test_what_the_operator_decides_is_in_the_order(run, tmp_path):
    order = run(
        *("--template", "base", "--timeout", "600", "--keep", "--any-sandbox", "--share", str(tmp_path)),
        *("--allow", "example.com", "--allow", "*.example.net"),
    )
    policy = {"allow_out": ["example.com", "*.example.net"], "deny_out": ["0.0.0.0/0"]}
    assert (order.template, order.create) == ("base", {"network": policy, "timeout_seconds": 600})
    assert (order.keep, order.any_sandbox, order.shared) == (True, True, tmp_path)
    assert run("--network-off").create == {"allow_internet_access": False}


def test_over_http_the_token_comes_from_the_environment(run):
    assert run("--http", "0.0.0.0:9000", ATOLL_MCP_TOKEN="t")[1:] == ("0.0.0.0", 9000, "t")
    assert run("--http", "[::1]:0")[1:] == ("::1", 0, None)


@pytest.mark.parametrize("place", ["0.0.0.0:9000", "example.com:80", "[::]:1"])
def test_beyond_this_machine_it_needs_a_token(run, place):
    with pytest.raises(InvalidInput, match="ATOLL_MCP_TOKEN"):
        run("--http", place)


@pytest.mark.parametrize("place", ["9000", ":9000", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:²"])
def test_an_address_that_is_none_is_refused(run, place):
    with pytest.raises(InvalidInput, match="HOST:PORT"):
        run("--http", place)


def test_a_shared_directory_has_to_be_one(run, tmp_path):
    with pytest.raises(AssertionError, match="does not exist"):
        run("--share", str(tmp_path / "missing"))


def test_without_the_library_it_says_what_to_install():
    missing = (
        "import sys; sys.modules['mcp'] = None; sys.argv = ['atoll', 'mcp']; from atoll.cli.main import main; main()"
    )
    package = str(Path(atoll.__file__).parents[1])
    run = subprocess.run([sys.executable, "-c", missing], capture_output=True, text=True, env={"PYTHONPATH": package})
    assert run.returncode == 1
    assert "pip install 'atoll[mcp]'" in run.stderr
    assert "Traceback" not in run.stderr
