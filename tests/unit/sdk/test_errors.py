"""Answers as errors, by the two tables."""

from __future__ import annotations

import builtins
import copy
import json
import pickle

import pytest
from script import Said

import atoll
from atoll.sdk._core.errors import AGENT, CONTROL, AtollError, error_of, kind_of

PLANE = {
    (400, "INVALID_REQUEST"): atoll.ValidationError,
    (400, None): atoll.ValidationError,
    (401, "AUTHENTICATION_REQUIRED"): atoll.AuthenticationError,
    (401, "TOKEN_EXPIRED"): atoll.TokenExpiredError,
    (402, None): atoll.APIError,
    (403, "RESOURCE_LIMIT_ERROR"): atoll.ResourceLimitError,
    (403, "FORBIDDEN"): atoll.APIError,
    (404, "RESOURCE_NOT_FOUND"): atoll.NotFoundError,
    (408, None): atoll.TimeoutError,
    (409, "CONFLICT"): atoll.APIError,
    (429, "RATE_LIMIT_EXCEEDED"): atoll.RateLimitError,
    (429, "RESOURCE_LIMIT_ERROR"): atoll.ResourceLimitError,
    (500, "INTERNAL_ERROR"): atoll.ServerError,
    (503, "SERVICE_UNAVAILABLE"): atoll.ServerError,
}
INSIDE = {
    (404, "FILE_NOT_FOUND"): atoll.FileNotFoundError,
    (403, "PATH_NOT_ALLOWED"): atoll.FileOperationError,
    (403, "PERMISSION_DENIED"): atoll.FileOperationError,
    (404, "DIRECTORY_NOT_FOUND"): atoll.FileOperationError,
    (400, "INVALID_PATH"): atoll.FileOperationError,
    (409, "FILE_ALREADY_EXISTS"): atoll.FileOperationError,
    (413, "FILE_TOO_LARGE"): atoll.FileOperationError,
    (413, "FILE_OPERATION_FAILED"): atoll.FileOperationError,
    (400, "EXECUTION_FAILED"): atoll.CodeExecutionError,
    (400, "EXECUTION_TIMEOUT"): atoll.CodeExecutionError,
    (400, "COMMAND_FAILED"): atoll.CommandExecutionError,
    (400, "DESKTOP_NOT_AVAILABLE"): atoll.DesktopNotAvailableError,
    (404, "SANDBOX_NOT_FOUND"): atoll.NotFoundError,
    (401, "TOKEN_EXPIRED"): atoll.TokenExpiredError,
    (401, "INVALID_TOKEN"): atoll.AuthenticationError,
    (408, "AGENT_TIMEOUT"): atoll.TimeoutError,
    (429, "TOO_MANY_REQUESTS"): atoll.RateLimitError,
    (503, "SERVICE_UNAVAILABLE"): atoll.ServerError,
    (409, "SANDBOX_PAUSED"): atoll.AgentError,
    (404, "PROCESS_NOT_FOUND"): atoll.AgentError,
    (418, None): atoll.AgentError,
}


@pytest.mark.parametrize(("table", "rows"), [(CONTROL, PLANE), (AGENT, INSIDE)], ids=["control", "agent"])
def test_every_row_is_an_error_of_its_kind(table, rows):
    assert {key: kind_of(table, *key) for key in rows} == rows
    assert {row.kind for row in table} == set(rows.values()), "a row that no case shows"


def test_what_the_server_of_atoll_can_answer_has_a_kind():
    """The server's own tables, held beside ours."""
    from atoll.dialects.errors import TABLE, Dialect
    from atoll.edge.hopx.errors import TABLE as SURFACE

    for cells in TABLE.values():
        cell = cells[Dialect.HOPX]
        assert issubclass(kind_of(CONTROL, cell.status, cell.code), AtollError)
    generic = {cell.code for cell in SURFACE.values() if kind_of(AGENT, cell.status, cell.code) is atoll.AgentError}
    assert not {code for code in generic if code.startswith("FILE") or "PATH" in code}


def body(**more: object) -> bytes:
    return json.dumps({"error": {"message": "no", "code": "C", "request_id": "req_1", "details": more}}).encode()


def test_message_code_and_request_id_are_those_of_the_answer():
    error = error_of(CONTROL, 409, {"x-request-id": "req_h"}, body(cause="x"))
    assert (error.message, error.code, error.request_id, error.status_code) == ("no", "C", "req_1", 409)
    assert error.details == {"cause": "x"}
    assert str(error) == "[C] no (request_id: req_1)"


def test_the_agents_text_and_the_headers_request_id_do_as_well():
    error = error_of(AGENT, 409, {"x-request-id": "req_h"}, b'{"error": "paused", "code": "SANDBOX_PAUSED"}')
    assert (error.message, error.request_id) == ("paused", "req_h")


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b"null", b'{"error": 3}', b"[" * 100_000, b"\xff"])
def test_an_answer_that_is_none_of_ours_is_still_an_error(raw):
    error = error_of(CONTROL, 502, {}, raw)
    assert isinstance(error, atoll.ServerError)
    assert error.message


def test_errors_have_their_own_fields():
    limit = error_of(CONTROL, 403, {}, body(limit=3, current=3, available=0).replace(b'"C"', b'"RESOURCE_LIMIT_ERROR"'))
    assert isinstance(limit, atoll.ResourceLimitError)
    assert (limit.limit, limit.current, limit.available) == (3, 3, 0)
    rate = error_of(CONTROL, 429, {"retry-after": "7"}, body(retry_after_seconds=9))
    assert isinstance(rate, atoll.RateLimitError)
    assert rate.retry_after == 7
    wrong = error_of(CONTROL, 400, {}, body(field="limit"))
    assert isinstance(wrong, atoll.ValidationError)
    assert wrong.field == "limit"
    missing = error_of(AGENT, 404, {}, b'{"error": "no", "code": "FILE_NOT_FOUND", "path": "/x"}')
    assert isinstance(missing, atoll.FileNotFoundError)
    assert missing.path == "/x"
    desktop = error_of(AGENT, 400, {}, b'{"code": "DESKTOP_NOT_AVAILABLE", "missing_dependencies": ["xvfb", 3]}')
    assert isinstance(desktop, atoll.DesktopNotAvailableError)
    assert desktop.missing_dependencies == ["xvfb"]


def test_pythons_own_names_catch_them_too():
    assert issubclass(atoll.TimeoutError, builtins.TimeoutError)
    assert issubclass(atoll.FileNotFoundError, builtins.FileNotFoundError)
    assert atoll.HopxError is atoll.AtollError


@pytest.mark.parametrize("kind", sorted({row.kind for row in (*CONTROL, *AGENT)}, key=lambda kind: kind.__name__))
def test_errors_cross_processes(kind):
    error = kind("no", code="C", request_id="req_1", status_code=400, details={"a": 1})
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert (str(again), again.__dict__) == (str(error), error.__dict__)


def test_a_template_that_is_not_there_says_which_are(form, server, account):
    refused = {"error": {"message": "template cod-interpreter not found", "code": "RESOURCE_NOT_FOUND"}}
    server.answers = [Said(refused, 404), Said({"data": [{"name": "code-interpreter"}, {"name": "base"}]})]
    with pytest.raises(atoll.TemplateNotFoundError) as caught:
        form.run(lambda: form.sandbox.create("cod-interpreter", **account))
    assert caught.value.suggested_template == "code-interpreter"
    assert caught.value.available_templates == ["code-interpreter", "base"]
    assert "Did you mean 'code-interpreter'?" in str(caught.value)


def test_a_secret_that_is_not_there_is_no_missing_template(form, server, account):
    server.answers = [Said({"error": {"message": "secret k not found"}}, 404)]
    with pytest.raises(atoll.NotFoundError) as caught:
        form.run(lambda: form.sandbox.create("busybox", secrets={"K": "k"}, **account))
    assert not isinstance(caught.value, atoll.TemplateNotFoundError)


def test_a_server_that_is_not_there_is_a_network_error_that_says_what_to_do(form, server, environment):
    environment.setattr("atoll.sdk._async.client.sleep", _no_time)
    environment.setattr("atoll.sdk._sync.client.sleep", lambda seconds: None)
    with pytest.raises(atoll.NetworkError, match="ATOLL_BASE_URL"):
        form.run(lambda: form.sandbox("sb1", api_key="k", base_url="http://127.0.0.1:1").get_info())


def test_a_stream_that_cannot_be_opened_says_where_and_what_to_do(form):
    box = form.sandbox("sb1", api_key="k", base_url="http://127.0.0.1:1")
    with pytest.raises(atoll.NetworkError, match=r"127\.0\.0\.1:1/s/sb1/terminal: .*ATOLL_BASE_URL"):
        form.run(lambda: box.terminal.connect())


async def _no_time(seconds: float) -> None:
    pass


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b""])
def test_another_server_is_noticed(form, server, account, raw):
    server.answers = [Said(raw)]
    with pytest.raises(atoll.ServerError, match="base URL"):
        form.run(lambda: form.sandbox("sb1", **account).get_info())
