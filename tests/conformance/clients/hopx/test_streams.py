"""Streams over WebSockets: output of code, terminals."""

from __future__ import annotations

import pytest
from talk import WITH_CREDENTIAL
from waiting import until

covers = pytest.mark.covers
pytestmark = WITH_CREDENTIAL


@covers("Sandbox.run_code_stream")
def test_output_streams_as_it_comes(sandbox):
    """The second half is printed when the first one has been heard."""
    wait = "while not os.path.exists('/workspace/heard'): time.sleep(0.01)"
    code = f"import os, time\nprint('a', end='', flush=True)\n{wait}\nprint('b')\nraise SystemExit(3)"
    found = []
    for message in sandbox.run_code_stream(code=code):
        found.append(message)
        if message["type"] == "stdout" and message["data"] == "a":
            sandbox.files.write("/workspace/heard", "")
    assert "".join(message["data"] for message in found if message["type"] == "stdout") == "ab\n"
    assert [message["type"] for message in found][-2:] == ["result", "complete"]
    assert found[-1]["success"] is False


@covers("Sandbox.run_code_stream")
def test_a_stream_has_language_and_time_limit(sandbox):
    found = list(sandbox.run_code_stream("echo begun; sleep 60", language="bash", timeout=3))
    assert "".join(each["data"] for each in found if each["type"] == "stdout") == "begun\n"
    (result,) = [each for each in found if each["type"] == "result"]
    assert result["exit_code"] == 124


@covers("Sandbox.run_code_stream")
def test_a_stream_has_variables_and_a_directory(sandbox):
    found = list(sandbox.run_code_stream('echo "$PWD $A"', language="bash", env={"A": "1"}, working_dir="/tmp"))
    assert "".join(each["data"] for each in found if each["type"] == "stdout") == "/tmp 1\n"


def test_a_stream_that_is_left_interrupts_the_code(sandbox):
    code = (
        "import time\ntry:\n    print('go', flush=True)\n    time.sleep(30)\n"
        "except KeyboardInterrupt:\n    open('/workspace/left', 'w').close()\n    raise"
    )
    stream = sandbox.run_code_stream(code)
    assert next(stream)["data"].startswith("go")
    stream.close()
    until(lambda: sandbox.files.exists("/workspace/left"), "the code is interrupted")


@covers("Sandbox.terminal", "Terminal.connect", "Terminal.send_input", "Terminal.resize", "Terminal.iter_output")
def test_a_terminal_is_a_login_shell_on_a_pty(sandbox, loop):
    terminal = sandbox.terminal
    ws = terminal.connect(timeout=20)
    terminal.resize(ws=ws, cols=101, rows=33)
    terminal.send_input(ws=ws, data="tty; stty size; pwd; shopt -q login_shell && echo lo''gin; echo ü; exit 5\n")
    text, code = "", None
    for message in terminal.iter_output(ws=ws):
        text += message.get("data", "")
        code = message.get("code", code)
    loop.run(ws.close())
    assert code == 5
    for wanted in ("/dev/pts/", "33 101", "/workspace", "login", "ü"):
        assert wanted in text


def test_ctrl_c_in_a_terminal_interrupts(sandbox, loop):
    terminal = sandbox.terminal
    ws = terminal.connect()
    terminal.send_input(ws, 'python3 -c \'import time; print("be" "gun"); time.sleep(600)\'; exit 9\n')
    text, codes = "", []
    for message in terminal.iter_output(ws):
        text += message.get("data", "")
        if "begun" in text:
            text = ""
            terminal.send_input(ws, "\x03")
            terminal.send_input(ws, "exit 4\n")
        codes += [message["code"]] if message["type"] == "exit" else []
    loop.run(ws.close())
    assert codes == [4]
