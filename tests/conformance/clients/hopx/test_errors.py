"""Each error of the client, out of the situation that it is for."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from datetime import datetime, timedelta

import hopx_ai
import pytest
from talk import IMPOSSIBLE_ID

covers = pytest.mark.covers
PLACE = json.loads(os.environ["ATOLL_CONFORMANCE"])


@covers("TemplateNotFoundError")
def test_an_unknown_template_is_answered_with_a_suggestion(client, account):
    with pytest.raises(hopx_ai.TemplateNotFoundError) as caught:
        client.create(template="code-interpretor", **account)
    assert caught.value.template_name == "code-interpretor"
    assert "base" in caught.value.available_templates
    assert caught.value.suggested_template == "code-interpreter"
    assert caught.value.status_code == 404


@covers("NotFoundError", "HopxError", "APIError")
def test_an_error_says_what_and_which_request(client, account):
    with pytest.raises(hopx_ai.NotFoundError) as caught:
        client.create(template_id="291", **account)
    assert "291" in caught.value.message
    assert (caught.value.status_code, bool(caught.value.code), bool(caught.value.request_id)) == (404, True, True)
    assert isinstance(caught.value.details, dict)
    with pytest.raises(hopx_ai.NotFoundError):
        client.connect(IMPOSSIBLE_ID, **account)


@covers("AuthenticationError")
@pytest.mark.parametrize("key", ["nonsense", "e2b_" + "0" * 40, "hopx_live_" + "0" * 40])
def test_a_wrong_key_is_refused(client, account, key):
    with pytest.raises(hopx_ai.AuthenticationError) as caught:
        client.create(template="base", base_url=account["base_url"], api_key=key)
    assert caught.value.status_code == 401


def test_without_a_key_nothing_is_sent(client, silent):
    with pytest.raises(ValueError, match="API key"):
        client.create(template="base", base_url=silent)


def test_the_same_digits_are_a_key_in_every_form(client, account):
    digits = account["api_key"].rpartition("_")[2]
    for prefix in ("e2b_", "hopx_live_", "hopx_test_"):
        assert client.list_templates(api_key=prefix + digits, base_url=account["base_url"])


def test_the_key_may_come_from_the_environment(client, account, monkeypatch):
    monkeypatch.setenv("HOPX_API_KEY", account["api_key"])
    assert client.list_templates(base_url=account["base_url"] + "/")


@covers("ValidationError")
@pytest.mark.parametrize("seconds", [0, -5, 10**7])
def test_an_impossible_timeout_is_refused(client, account, seconds):
    with pytest.raises(hopx_ai.ValidationError) as caught:
        client.create(template="base", timeout_seconds=seconds, **account)
    assert caught.value.status_code == 400
    assert caught.value.field is None, "no version of the client fills it"


@covers("NetworkError")
def test_nobody_listens(client):
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    gone = client(IMPOSSIBLE_ID, api_key="any", base_url=f"http://127.0.0.1:{port}", max_retries=0)
    with pytest.raises(hopx_ai.NetworkError):
        gone.get_info()


@covers("TimeoutError")
def test_nobody_answers(client, silent):
    waiting = client(IMPOSSIBLE_ID, api_key="any", base_url=silent, timeout=0.2, max_retries=0)
    with pytest.raises(hopx_ai.TimeoutError):
        waiting.get_info()


@covers("DesktopNotAvailableError", "Sandbox.desktop")
def test_without_a_desktop_the_client_says_so(sandbox):
    with pytest.raises(hopx_ai.DesktopNotAvailableError) as caught:
        sandbox.desktop.screenshot()
    assert caught.value.missing_dependencies
    assert "apt-get" in caught.value.install_command


@covers("AgentError", "Sandbox.kill_process")
def test_an_error_of_the_agent_has_its_code(sandbox):
    with pytest.raises(hopx_ai.AgentError) as caught:
        sandbox.kill_process(process_id="no-such-process")
    assert type(caught.value) is hopx_ai.AgentError


@covers("FileNotFoundError")
def test_a_missing_file(sandbox):
    for call in (sandbox.files.read, sandbox.files.list):
        with pytest.raises(hopx_ai.FileNotFoundError) as caught:
            call("/workspace/nope")
        assert caught.value.path == "/workspace/nope"


@covers("FileOperationError")
def test_a_file_that_is_not_ones_own(sandbox, kind):
    if kind == "async":
        pytest.skip("the async client answers this code with a TypeError of its own")
    for call in (lambda: sandbox.files.read("/etc/shadow"), lambda: sandbox.files.write("/etc/passwd", "x")):
        with pytest.raises(hopx_ai.FileOperationError) as caught:
            call()
        assert "file" in caught.value.operation


@covers("SandboxExpiredError", "Sandbox.ensure_healthy", "Sandbox.run_code")
def test_a_client_whose_clock_is_ahead_sees_an_expired_sandbox(own, monkeypatch, kind):
    """Ours is deleted when its time is over, so `get_info` says 404: only clocks that differ lead here."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=2)

    made = own(timeout_seconds=3600)
    made.ensure_healthy()
    monkeypatch.setattr(sys.modules[type(made._subject).__module__], "datetime", Ahead)
    with pytest.raises(hopx_ai.SandboxExpiredError) as caught:
        made.ensure_healthy()
    found = caught.value.metadata
    assert (found.sandbox_id, found.status) == (made.sandbox_id, "running")
    assert found.created_at < found.expires_at
    assert found.time_to_live is None, "no version of the client fills it"
    with pytest.raises(hopx_ai.SandboxExpiredError):
        made.run_code("1", preflight=True)


@covers("RateLimitError")
def test_a_key_that_called_too_often(client, sandbox, account):
    """The key may call once in a minute, and this form of the client may have been the first."""
    limited = client(sandbox.sandbox_id, api_key=PLACE["rare_key"], base_url=account["base_url"], max_retries=0)
    with contextlib.suppress(hopx_ai.RateLimitError):
        limited.get_info()
    with pytest.raises(hopx_ai.RateLimitError) as caught:
        limited.get_info()
    assert caught.value.status_code == 429
    assert 0 < caught.value.retry_after <= 60


@covers("ResourceLimitError")
def test_a_key_whose_quota_is_used_up(client, account):
    with pytest.raises(hopx_ai.ResourceLimitError) as caught:
        client.create(template="base", api_key=PLACE["poor_key"], base_url=account["base_url"])
    found = caught.value
    assert found.status_code == 403
    assert (found.limit, found.current, found.available) == (0, 0, 0)
    assert found.upgrade_url is None
