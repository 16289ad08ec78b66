"""The code of each language runs in that language where it is at hand; all of it runs in tests/root/test_kernels.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from atoll.agent.runner import kernel_env

AWKWARD = 'it\'s "quoted" $HOME `x` \\ \n\té☃'
CHANGE = {"GIVEN": AWKWARD, "CHANGED": "new", "GONE": None}
BEFORE = {"CHANGED": "old", "GONE": "there"}
NAMES = ("GIVEN", "CHANGED", "GONE")


def test_variables_are_set_and_put_back_in_bash(tmp_path):
    row = kernel_env.ROWS["bash"]
    (tmp_path / "set").write_text(row.set({**CHANGE, "no.name": "x"}))
    (tmp_path / "reset").write_text(row.reset([*CHANGE, "no.name"]))
    show = "python3 -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    lines = ["set -u", "PLAIN=1", row.source.format(tmp_path / "set"), show]
    lines += ["CHANGED=own", row.source.format(tmp_path / "reset"), show, "set | grep -c __atoll || true"]
    run = subprocess.run(["bash"], input="\n".join(lines), capture_output=True, text=True, env={**os.environ, **BEFORE})
    assert run.stderr == ""
    during, after, left = run.stdout.splitlines()
    assert {name: json.loads(during).get(name) for name in NAMES} == CHANGE
    assert {name: json.loads(after).get(name) for name in NAMES} == {**BEFORE, "GIVEN": None}
    assert left == "0"


def test_a_shells_own_variable_is_not_exported_afterwards(tmp_path):
    row = kernel_env.ROWS["bash"]
    code = f"OWN=1\n{row.set({'OWN': '2'})}\n{row.reset(['OWN'])}\necho $OWN; env | grep -c ^OWN || true"
    assert subprocess.run(["bash"], input=code, capture_output=True, text=True).stdout == "1\n0\n"


def test_variables_are_set_and_put_back_in_python(monkeypatch):
    row = kernel_env.ROWS["python"]
    for name, value in BEFORE.items():
        monkeypatch.setenv(name, value)
    names: dict[str, object] = {}
    exec(row.set(CHANGE), names)
    assert {name: os.environ.get(name) for name in NAMES} == CHANGE
    exec(row.reset(CHANGE), names)
    assert {name: os.environ.get(name) for name in NAMES} == {**BEFORE, "GIVEN": None}
    assert set(names) == {"__builtins__"}


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_variables_are_set_and_put_back_in_javascript():
    row = kernel_env.ROWS["javascript"]
    show = f"console.log(JSON.stringify({json.dumps(NAMES)}.map((name) => process.env[name] ?? null)));"
    code = "\n".join([row.set(CHANGE), show, row.reset(CHANGE), show])
    run = subprocess.run(["node", "-e", code], capture_output=True, text=True, env={**os.environ, **BEFORE})
    during, after = map(json.loads, run.stdout.splitlines())
    assert during == list(CHANGE.values())
    assert after == [None, "old", "there"]


def test_texts_cannot_leave_their_quotes():
    assert kernel_env._r_text('a"\\\n☃') == '"a\\"\\\\\\U{a}☃"'
    assert kernel_env._java_text('a"\\\n☃\\u0022') == '"a\\042\\134\\012\\u2603\\134u0022"'
    assert kernel_env._java_text("") == '""'
    long = kernel_env._java_text("x" * 40_000)
    assert long.startswith('String.join("", "xxx')
    assert max(map(len, long.split('"'))) <= 16 * 1024
