"""The time limits that a caller may set for a single call: they hold where nobody answers, and do no harm otherwise."""

from __future__ import annotations

import inspect
import time
from concurrent.futures import ThreadPoolExecutor

import hopx_ai
import package
import pytest
from talk import WITH_CREDENTIAL

covers = pytest.mark.covers

# What else such a method needs.
ARGUMENTS = {
    "path": "/workspace/limits/file",
    "content": "text",
    "env_vars": {"LIMITS": "1"},
    "key": "LIMITS",
    "name": "LIMITS",
    "value": "2",
}
# It takes a limit and passes it on to neither of its two requests.
CARELESS = ("EnvironmentVariables.delete",)
RESOURCES = {"files": "Files", "env": "EnvironmentVariables", "cache": "Cache"}


def _limited(sandbox, resource):
    """The methods of a resource that take a limit, with arguments that they accept, and not those that stream."""
    owner = type(getattr(sandbox, resource)._subject)
    for member, function in package.functions(owner):
        names = package.parameters(function)
        if "timeout" in names and not inspect.isasyncgenfunction(inspect.unwrap(function)):
            if {"local_path", "remote_path"} & set(names):
                continue
            given = {name: ARGUMENTS[name] for name in names if name in ARGUMENTS}
            if member == "write_bytes":
                given["content"] = b"bytes"
            yield f"{owner.__name__}.{member}", getattr(getattr(sandbox, resource), member), given


@pytest.mark.parametrize("resource", list(RESOURCES))
def test_a_call_that_is_in_time_is_not_hurt(sandbox, resource):
    before = sandbox.env.get_all()
    for name, call, given in _limited(sandbox, resource):
        sandbox.files.write("/workspace/limits/file", "text")
        if name.endswith((".list", ".mkdir")):
            given = {"path": "/workspace/limits"}
        call(**given, timeout=20)
    sandbox.env.set_all(before)


def test_a_call_that_nobody_answers_ends(client, silent, kind, directory):
    """All at once: the client repeats each three times, with three seconds of pauses."""
    if kind == "async":
        pytest.skip("the async client cannot be pointed at an agent")
    lost = client.debug(silent, "token", "lost")
    found = [each for resource in RESOURCES for each in _limited(lost, resource)]
    calls = [(call, given) for name, call, given in found if name not in CARELESS]
    local = directory / "file"
    local.write_text("x")
    for move in (lost.files.upload, lost.files.download):
        calls.append((move, {"local_path": str(local), "remote_path": "/workspace/file"}))
    started = time.monotonic()
    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(call, **given, timeout=0.3) for call, given in calls]
        ends = [each.exception() or each.result() for each in running]
    assert time.monotonic() - started < 20, "sixty seconds is what it waits by itself"
    assert {type(end) for end in ends} <= {hopx_ai.TimeoutError, bool}, ends


@WITH_CREDENTIAL
@covers("Terminal.connect", "Files.watch")
def test_a_connection_that_is_not_answered_ends(sandbox, silent, monkeypatch):
    """WebSockets go through a proxy that the environment names, and this one says nothing."""
    terminal = sandbox.terminal
    for name in ("http_proxy", "ws_proxy", "all_proxy"):
        monkeypatch.setenv(name, silent)
    monkeypatch.setenv("no_proxy", "")
    started = time.monotonic()
    with pytest.raises((hopx_ai.TimeoutError, TimeoutError)):
        terminal.connect(timeout=0.3)
    with pytest.raises((hopx_ai.TimeoutError, TimeoutError)):
        next(sandbox.files.watch("/workspace", timeout=0.3))
    assert time.monotonic() - started < 8, "ten seconds is what it waits by itself"
