from __future__ import annotations

import pytest

from atoll.agent.env import Environment, checked
from atoll.agent.errors import AgentError
from atoll.agent.users import User

USER = User("user", 1000, 1000, (1000,), "/home/user", "/bin/bash")
ROOT = User("root", 0, 0, (0,), "/root", "/bin/sh")


def environment(**values: str) -> Environment:
    return Environment(USER, "/workspace", values)


def test_base_values_are_there_at_the_start():
    values = environment(A="1").values
    assert values.items() >= {"HOME": "/home/user", "USER": "user", "PWD": "/workspace", "A": "1"}.items()
    assert values.keys() >= {"PATH", "SHELL", "LANG", "TERM"}


def test_the_request_wins_over_the_sandbox_and_the_sandbox_over_the_base():
    env = environment(LANG="de_DE", A="sandbox", B="sandbox").for_program(USER, "/w", {"B": "request"})
    assert (env["LANG"], env["A"], env["B"], env["PWD"]) == ("de_DE", "sandbox", "request", "/w")


def test_root_has_roots_home_unless_the_caller_chose_one():
    env = environment().for_program(ROOT, "/", {})
    assert (env["HOME"], env["USER"], env["LOGNAME"], env["SHELL"]) == ("/root", "root", "root", "/bin/sh")
    assert environment(HOME="/chosen").for_program(ROOT, "/", {})["HOME"] == "/chosen"


def test_replacing_forgets_and_merging_keeps_and_null_removes():
    env = environment(A="1", B="2")
    env.merge({"B": None, "C": "3", "D": None})
    assert env.values.items() >= {"A": "1", "C": "3"}.items()
    assert "B" not in env.values
    env.replace({"X": "y"})
    assert env.values == {"X": "y"}
    assert env.for_program(USER, "/", {})["PATH"]


@pytest.mark.parametrize("values", ["x", [], {"A": 1}, {"": "x"}, {"A=B": "x"}, {"A": "\0"}, {"A\0": ""}])
def test_what_is_no_environment_is_invalid_and_changes_nothing(values):
    env = environment(A="1")
    before = dict(env.values)
    for change in (env.replace, env.merge):
        with pytest.raises(AgentError) as error:
            change(values)
        assert error.value.kind == "invalid"
    assert env.values == before


THOUSAND = {f"V{number}": "" for number in range(1000)}
MEBIBYTE = {f"V{number:02}": "x" * (64 * 1024 - 5) for number in range(16)}


@pytest.mark.parametrize(
    "values",
    [
        {**THOUSAND, "ONE": ""},
        {**MEBIBYTE, "V00": "x" * (64 * 1024 - 4)},
        {"A": "x" * (128 * 1024 - 2)},
        {"A": "\ud800"},
    ],
    ids=["count", "bytes", "one", "surrogate"],
)
def test_what_is_too_much_is_invalid_and_changes_nothing(values):
    with pytest.raises(AgentError):
        checked(values)
    env = environment(A="1")
    before = dict(env.values)
    for change in (env.replace, env.merge):
        with pytest.raises(AgentError) as error:
            change(values)
        assert error.value.kind == "invalid"
    assert env.values == before


@pytest.mark.parametrize("values", [THOUSAND, MEBIBYTE, {"A": "x" * (128 * 1024 - 3)}], ids=["count", "bytes", "one"])
def test_the_limits_are_reached_beside_the_base_values(values):
    template = {"MPLBACKEND": "agg"}
    env = Environment(USER, "/workspace", template, template)
    env.merge(values)
    env.replace(dict(env.values))
    assert env.values.items() >= {**values, **template}.items()
    assert env.values["HOME"] == "/home/user"


def test_bytes_are_counted_not_letters():
    with pytest.raises(AgentError):
        checked({"A": "ü" * (64 * 1024)})


async def test_programs_see_the_sandbox_wide_variables(start_agent):
    agent = start_agent(env={"FROM_CONFIG": "1"})
    assert (await agent.request("GET", "/env")).json()["env"]["FROM_CONFIG"] == "1"
    await agent.request("PATCH", "/env", {"env": {"A": "patched", "FROM_CONFIG": None}})
    result = await agent.run("sh", "-c", "echo $A:$B:$FROM_CONFIG", env={"B": "request"})
    assert result.stdout == b"patched:request:\n"
    reply = await agent.request("PUT", "/env", {"env": {"ONLY": "x"}})
    assert reply.json() == {"env": {"ONLY": "x"}}
    assert (await agent.run("sh", "-c", "echo $A:$ONLY:${PATH:+path}")).stdout == b":x:path\n"
    assert (await agent.request("PUT", "/env", {"env": {"A": 1}})).status == 400
