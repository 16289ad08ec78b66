"""Answers as values: whatever comes, a value of the right type or none."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.sdk._core import models
from atoll.sdk._core.agent import is_last, message, socket_url
from atoll.sdk._core.read import moment, whole_or_none

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
READERS = {
    "sandbox_info": (models.sandbox_info, "id status resources network metadata secrets expires_at organization_id"),
    "template": (models.template, "id name features tags default_resources is_active created_at"),
    "execution_result": (models.execution_result, "stdout exit_code rich_outputs png json execution_time timestamp"),
    "command_result": (lambda data: models.command_result(data, "ls"), "stdout exit_code pid success"),
    "file_info": (models.file_info, "name path size is_directory modified_time permissions mode"),
    "link": (models.link, "url port expires_at"),
    "egress_log": (models.egress_log, "entries cursor"),
    "secret": (models.secret, "id name version hosts metadata"),
    "vnc_info": (models.vnc_info, "url port running"),
    "window_info": (models.window_info, "id title x"),
    "recording_info": (models.recording_info, "status duration file_size"),
    "display_info": (models.display_info, "width displays"),
}


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_answer_breaks_a_reader(name, data):
    read, fields = READERS[name]
    value = read(data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(fields.split(), JSON))))
    assert dataclasses.is_dataclass(value)
    assert repr(value)


@given(JSON)
def test_no_value_breaks_resolutions_and_moments(value):
    models.resolutions(value)
    assert moment(value) is None or moment(value).tzinfo is not None
    assert whole_or_none(value) is None or isinstance(whole_or_none(value), int)


def test_all_figures_of_a_cell_are_kept():
    two = [{"type": "image/png", "data": {"image/png": "a"}}, {"type": "image/png", "data": {"image/png": "b"}}]
    result = models.execution_result({"success": True, "png": "b", "rich_outputs": two})
    assert [each.data["image/png"] for each in result.rich_outputs] == ["a", "b"]
    assert (result.png, result.rich_count, result.has_rich_output) == ("b", 2, True)


def test_what_is_printed_of_a_result_has_no_pictures():
    given = dict.fromkeys(("png", "html", "markdown", "svg", "json"), "x" * 99)
    rich = [{"type": "image/png", "data": {"image/png": "x" * 99}}]
    shown = repr(models.execution_result({"success": True, "stdout": "seen", **given, "rich_outputs": rich}))
    assert "seen" in shown
    assert "image/png" in shown
    assert "xx" not in shown


def test_a_server_that_lists_none_has_one_of_each_kind():
    result = models.execution_result({"png": "a", "html": "<b>", "json": {"x": 1}})
    assert {each.type for each in result.rich_outputs} == {"image/png", "text/html", "application/json"}


def test_an_answer_without_success_goes_by_its_exit_code():
    assert models.execution_result({"exit_code": 1}).success is False
    assert models.command_result({"exit_code": 0}, "ls").success is True


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("left", "expired", "soon"), [(-1, True, True), (0, True, True), (300, False, True), (301, False, False)]
)
def test_expiry(left, expired, soon):
    found = models.expiry_info(NOW + timedelta(seconds=left), NOW, 300)
    assert (found.is_expired, found.is_expiring_soon, found.time_to_expiry) == (expired, soon, max(0, left))
    assert models.expiry_info(None, NOW, 300) == models.ExpiryInfo()


@pytest.mark.parametrize("raw", ["", "x", "[]", "null", b"\xff", "[" * 100_000])
def test_what_is_no_message_is_skipped(raw):
    assert message(raw) is None


def test_messages_and_their_end():
    assert message('{"type": "stdout", "data": "x"}') == {"type": "stdout", "data": "x"}
    assert [is_last({"type": each}) for each in ("stdout", "result", "complete", "exit")] == [False, False, True, True]
    assert socket_url("https://a/s/x", "/terminal") == "wss://a/s/x/terminal"
    assert socket_url("http://a/s/x", "/terminal") == "ws://a/s/x/terminal"


def test_an_error_in_a_stream_is_raised():
    from atoll import FileNotFoundError

    with pytest.raises(FileNotFoundError) as caught:
        message('{"type": "error", "error": "no", "code": "FILE_NOT_FOUND", "path": "/x", "request_id": "r"}')
    assert (caught.value.path, caught.value.request_id, caught.value.status_code) == ("/x", "r", None)
