"""Commands and terminals."""

from __future__ import annotations

import inspect
import queue

import e2b
import httpx
import pytest
from talk import accepted, said, since
from waiting import until

covers = pytest.mark.covers


def until_there(place, name):
    """Words of a shell that waits for a file."""
    return f"until [ -e {place}/{name} ]; do sleep 0.01; done"


# ---- run


@covers("Commands.run", "CommandResult.stdout", "CommandResult.stderr", "CommandResult.exit_code")
def test_a_command_has_output_and_ends(sandbox):
    result = sandbox.commands.run("echo out; echo err >&2", timeout=30, request_timeout=30)
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 0)
    assert not result.error


@covers("Commands.run", "14 environment: PATH, HOME, USER, LOGNAME, envs; cwd", "20 default user, home directory")
def test_a_command_has_its_variables_directory_and_user(sandbox):
    assert said(sandbox, "echo $A-$HOME; pwd", envs={"A": "1"}, cwd="/tmp") == "1-/home/user\n/tmp"
    assert said(sandbox, "id -un; echo $USER $LOGNAME $HOME; pwd", user="root") == "root\nroot root /root\n/root"
    assert said(sandbox, "id -un; pwd", cwd="~") == "user\n/home/user"
    assert said(sandbox, "pwd", background=False) == "/home/user"
    assert "/usr/bin" in said(sandbox, "echo $PATH")


@covers("CommandExitException", "Commands.run", "14 killed: exit code and status")
def test_a_command_that_fails_is_an_exception(sandbox):
    with pytest.raises(e2b.CommandExitException) as caught:
        sandbox.commands.run("echo out; echo bad >&2; exit 3")
    found = caught.value
    assert (found.exit_code, found.stdout, found.stderr) == (3, "out\n", "bad\n")
    assert "3" in str(found.error)


@covers("Commands.run", "14 order of output, end after all of it", "22.8 streams: start first, then data, then end")
def test_output_comes_as_it_is_written_and_whole(sandbox, place):
    """The second line is said when the first one has been heard."""
    heard: list[str] = []
    errors: list[str] = []
    url = sandbox.upload_url(f"{place}/heard", user="user")

    def hear(text):
        heard.append(text)
        if len(heard) == 1:
            httpx.post(url, files={"file": b""}, timeout=30).raise_for_status()

    command = f"echo 1; {until_there(place, 'heard')}; echo 2; echo bad >&2; head -c 300000 /dev/zero | tr '\\0' x"
    result = sandbox.commands.run(command, on_stdout=hear, on_stderr=errors.append)
    assert "".join(heard) == result.stdout == "1\n2\n" + "x" * 300000
    assert errors == ["bad\n"]
    assert heard[0] == "1\n"


@covers("14 raw bytes: text that a chunk cuts is whole")
def test_text_of_several_bytes_is_whole(sandbox):
    text = "Grüße 世界 🦆 " * 3000
    sandbox.files.write("/home/user/text", text)
    assert sandbox.commands.run("cat text").stdout == text
    assert sandbox.commands.run("printf 'a\\xff'").stdout == "a�"


@covers("Commands.run")
def test_output_may_be_dropped(sandbox):
    heard: list[str] = []
    result = sandbox.commands.run("echo out", on_stdout=heard.append, retain_output=False)
    assert (result.stdout, result.stderr, heard) == (None, None, ["out\n"])
    running = sandbox.commands.run("sleep 0.2; echo out", background=True, retain_output=False)
    assert sandbox.commands.connect(running.pid, retain_output=False).wait().stdout is None


@covers("TimeoutException", "14 an expired deadline kills the command")
def test_a_command_ends_at_its_time_limit(sandbox):
    with pytest.raises(e2b.TimeoutException):
        sandbox.commands.run("sleep 4321; echo late", timeout=0.5)
    until(lambda: said(sandbox, "pgrep -cf '[s]leep 4321' || true") == "0", "it is killed")


@covers("Commands.run", "InvalidArgumentException", "14 a directory that is not there: cwd 'x' does not exist")
def test_a_directory_that_is_not_there(sandbox):
    with pytest.raises(e2b.InvalidArgumentException, match="cwd '/none' does not exist"):
        sandbox.commands.run("true", cwd="/none")


@covers("12.4 unknown user: invalid username 'x'")
def test_an_unknown_user(sandbox):
    with pytest.raises(e2b.AuthenticationException, match="invalid username: 'nobody-here'"):
        sandbox.commands.run("true", user="nobody-here")
    with pytest.raises(e2b.AuthenticationException, match="invalid username: 'nobody-here'"):
        sandbox.files.read("/etc/hostname", user="nobody-here")


# ---- in the background


@covers("Commands.list", "CommandHandle.kill", "CommandHandle.pid", "ProcessInfo.cmd")
def test_processes_are_listed_and_killed(sandbox):
    running = sandbox.commands.run("sleep 1000", background=True, envs={"MARK": "1"}, cwd="/tmp")
    (found,) = [each for each in sandbox.commands.list(request_timeout=30) if each.pid == running.pid]
    assert (found.cmd, found.args) == ("/bin/bash", ["-l", "-c", "sleep 1000"])
    assert (found.tag or None, found.cwd, found.envs.get("MARK")) == (None, "/tmp", "1")
    assert running.kill() is True
    with pytest.raises(e2b.CommandExitException):
        running.wait()
    assert running.kill() is False


@covers("Commands.kill", "14 kill: False for what is not there")
def test_kill_by_number(sandbox):
    running = sandbox.commands.run("sleep 1000", background=True)
    assert sandbox.commands.kill(running.pid, request_timeout=30) is True
    with pytest.raises(e2b.CommandExitException) as caught:
        running.wait()
    assert "killed" in str(caught.value.error)
    assert sandbox.commands.kill(999999) is False


@covers("Commands.connect", "CommandHandle.disconnect", "CommandHandle.wait", "14 leaving does not kill")
def test_leave_and_connect_again(sandbox, place, kind):
    wait = until_there(place, "connected")
    running = sandbox.commands.run(f"{wait}; echo later; echo bad >&2", background=True)
    running.disconnect()
    heard: list[str] = []
    errors: list[str] = []
    callbacks = {"on_stdout": heard.append, "on_stderr": errors.append}
    if kind == "async":
        again = sandbox.commands.connect(running.pid, timeout=30, request_timeout=30, **callbacks)
    else:
        again = sandbox.commands.connect(running.pid, timeout=30, request_timeout=30)
    said(sandbox, f"touch {place}/connected")
    result = again.wait(**(callbacks if kind == "sync" else {}))
    assert (result.stdout, heard, errors) == ("later\n", ["later\n"], ["bad\n"])


@covers("14 several listeners each hear all", "14 connect within 30 s of the end")
def test_several_listeners_and_a_late_one(sandbox, place):
    running = sandbox.commands.run(f"{until_there(place, 'connected')}; echo all", background=True)
    second = sandbox.commands.connect(running.pid)
    said(sandbox, f"touch {place}/connected")
    assert running.wait().stdout == second.wait().stdout == "all\n"
    assert sandbox.commands.connect(running.pid).wait().exit_code == 0


@covers("NotFoundException", "14 connect to an unknown number: process with pid N not found")
def test_connect_to_nothing(sandbox):
    with pytest.raises(e2b.NotFoundException, match="999999"):
        sandbox.commands.connect(999999)


@covers("AsyncCommandHandle.stdout", "AsyncCommandHandle.stderr", "AsyncCommandHandle.exit_code")
def test_a_handle_keeps_what_it_heard(sandbox, kind):
    if kind == "sync":
        pytest.skip("the sync handle hears when it is waited for")
    running = sandbox.commands.run("echo out; echo err >&2; exit 2", background=True)
    with pytest.raises(e2b.CommandExitException):
        running.wait()
    assert (running.stdout, running.stderr, running.exit_code) == ("out\n", "err\n", 2)
    assert "2" in running.error


# ---- stdin


@covers("Commands.send_stdin", "Commands.run")
def test_a_line_of_stdin(sandbox):
    running = sandbox.commands.run("read line; echo got $line", background=True, stdin=True)
    sandbox.commands.send_stdin(running.pid, "one\n", request_timeout=30)
    assert running.wait().stdout == "got one\n"


@covers("Commands.send_stdin", "Commands.close_stdin", "Commands.run")
def test_stdin_by_number(sandbox):
    running = sandbox.commands.run("cat", background=True, stdin=True)
    sandbox.commands.send_stdin(running.pid, "one\n", request_timeout=30)
    sandbox.commands.send_stdin(running.pid, "two\n")
    sandbox.commands.close_stdin(running.pid, request_timeout=30)
    assert running.wait().stdout == "one\ntwo\n"


@covers("CommandHandle.send_stdin", "CommandHandle.close_stdin")
def test_stdin_by_handle(sandbox):
    running = sandbox.commands.run("wc -c", background=True, stdin=True)
    running.send_stdin("x" * 100_000, **dict.fromkeys({"request_timeout"} & accepted(running.send_stdin), 30))
    running.close_stdin(**dict.fromkeys({"request_timeout"} & accepted(running.close_stdin), 30))
    assert running.wait().stdout.strip() == "100000"


@covers("Commands.stream_input")
def test_stdin_as_a_stream(sandbox, kind):
    running = sandbox.commands.run("head -n 2", background=True, stdin=True)
    if kind == "async":
        stream = sandbox.commands.stream_input(running.pid, timeout=30)
        stream.send(data="one\n")
        stream.send(b"two\n")
        stream.close()
    else:
        sandbox.commands.stream_input(running.pid, data=["one\n", b"two\n"], timeout=30)
    assert running.wait().stdout == "one\ntwo\n"


@covers("AsyncCommandInputHandle.send", "AsyncCommandInputHandle.close")
def test_a_stream_of_input_says_what_it_did(sandbox, kind):
    if kind == "sync":
        pytest.skip("the sync client sends a whole iterable")
    running = sandbox.commands.run("cat", background=True, stdin=True)
    with sandbox.commands.stream_input(running.pid) as stream:
        stream.send(data="sent\n")
    sandbox.commands.close_stdin(running.pid)
    assert running.wait().stdout == "sent\n"


@covers("14 stdin that is not enabled: an error that says so")
def test_stdin_that_is_not_there(sandbox):
    running = sandbox.commands.run("sleep 1000", background=True)
    with pytest.raises(e2b.SandboxException, match="stdin not enabled or closed"):
        sandbox.commands.send_stdin(running.pid, "x")
    running.kill()


# ---- terminals


class Screen:
    """What a terminal showed."""

    def __init__(self):
        self.heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.text = ""

    def __call__(self, data):
        self.heard.put(data)

    def wait_for(self, wanted):
        while wanted not in self.text:
            self.text += self.heard.get(timeout=20).decode(errors="replace")


def listen(handle, screen, kind):
    """The sync client hears while somebody waits."""
    if kind == "sync":
        import threading

        threading.Thread(target=_wait, args=(handle, screen), daemon=True).start()


def _wait(handle, screen):
    try:
        handle.wait(on_pty=screen)
    except Exception:
        screen(b"<ended>")


@covers("Pty.create", "Pty.send_stdin", "Pty.resize", "Pty.kill", "14 a terminal: size, resize, bash")
def test_a_terminal(sandbox, kind):
    screen = Screen()
    heard = {"on_data": screen} if kind == "async" else {}
    terminal = sandbox.pty.create(
        size=e2b.PtySize(rows=24, cols=80),
        user="root",
        cwd="/tmp",
        envs={"MARK": "mine"},
        timeout=60,
        request_timeout=30,
        **heard,
    )
    listen(terminal, screen, kind)
    sandbox.pty.send_stdin(terminal.pid, b'echo "[$MARK $(id -un) $(pwd) $TERM $(stty size)]"\n', request_timeout=30)
    screen.wait_for("[mine root /tmp xterm-256color 24 80]")
    sandbox.pty.resize(terminal.pid, size=e2b.PtySize(rows=40, cols=100), request_timeout=30)
    sandbox.pty.send_stdin(terminal.pid, b'echo "[$(stty size)]"\n')
    screen.wait_for("[40 100]")
    assert sandbox.pty.kill(terminal.pid, request_timeout=30) is True
    until(lambda: sandbox.pty.kill(terminal.pid) is False, "it has ended")


@covers("Pty.connect")
def test_a_terminal_again(sandbox, kind):
    first, screen = Screen(), Screen()
    terminal = sandbox.pty.create(e2b.PtySize(24, 80), **({"on_data": first} if kind == "async" else {}))
    terminal.disconnect()
    heard = {"on_data": screen} if kind == "async" else {}
    again = sandbox.pty.connect(terminal.pid, timeout=60, request_timeout=30, **heard)
    listen(again, screen, kind)
    sandbox.pty.send_stdin(terminal.pid, b"echo [$((6*7))]\n")
    screen.wait_for("[42]")
    sandbox.pty.kill(terminal.pid)


@covers("Pty.stream_input")
def test_input_of_a_terminal_as_a_stream(sandbox, kind):
    screen = Screen()
    terminal = sandbox.pty.create(e2b.PtySize(24, 80), **({"on_data": screen} if kind == "async" else {}))
    listen(terminal, screen, kind)
    if kind == "async":
        stream = sandbox.pty.stream_input(terminal.pid, timeout=30)
        stream.send(b"echo [$((6*")
        stream.send(b"7))]\n")
        stream.close()
    else:
        sandbox.pty.stream_input(terminal.pid, data=[b"echo [$((6*", b"7))]\n"], timeout=30)
    screen.wait_for("[42]")
    sandbox.pty.kill(terminal.pid)


@since("2.40")
def test_a_handle_of_a_terminal_ends_with_it(sandbox, kind):
    screen = Screen()
    terminal = sandbox.pty.create(e2b.PtySize(24, 80), **({"on_data": screen} if kind == "async" else {}))
    sandbox.pty.send_stdin(terminal.pid, b"exit 0\n")
    more = {"on_pty": screen} if "on_pty" in inspect.signature(terminal.wait).parameters else {}
    assert terminal.wait(**more).exit_code == 0
