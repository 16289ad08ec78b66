"""The command line against a real installation, as people and programs use it."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import pty
import re
import select
import signal
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from atoll.cli.main import cli
from stack import Box, Stack, until

pytestmark = pytest.mark.root

COMMAND = (sys.executable, "-m", "atoll.cli.main")
DEADLINE_S = 30.0


@dataclass
class Atoll:
    """`here`: in this process, for what is printed at once; `run`: as a program, with its streams and exit code."""

    stack: Stack

    @property
    def place(self) -> dict[str, str]:
        return {"ATOLL_BASE_URL": self.stack.url, "ATOLL_API_KEY": self.stack.installation.api_key}

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ATOLL_", "HOPX_", "E2B_"))}
        return {**kept, **self.place, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color"}

    def here(self, *words: object, code: int = 0) -> str:
        done = CliRunner(env=self.place).invoke(cli, [*map(str, words)], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return str(done.stdout)

    def json(self, *words: object) -> object:
        return json.loads(self.here(*words, "--json"))

    def run(self, *words: object, input: bytes = b"", code: int | None = 0) -> subprocess.CompletedProcess[bytes]:
        command = [*COMMAND, *map(str, words)]
        done = subprocess.run(command, input=input, capture_output=True, timeout=DEADLINE_S, env=self.environment)
        assert code is None or done.returncode == code, (done.returncode, done.stdout[-500:], done.stderr[-2000:])
        return done


@pytest.fixture(scope="module")
def atoll(stack: Stack) -> Atoll:
    return Atoll(stack)


@pytest.fixture(scope="module")
def box(stack: Stack) -> Iterator[Box]:
    """One for the tests of this module; each keeps to names of its own."""
    with stack.box("code-interpreter") as made:
        yield made


# ---- run


def test_run_shows_what_is_printed_and_ends_with_the_programs_code(atoll: Atoll, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text('echo "out $NAME"; echo err >&2; exit 7')
    done = atoll.run("run", script, "--template", "busybox", "--env", "NAME=x", code=7)
    assert (done.stdout, done.stderr) == (b"out x\n", b"err\n")


def test_run_leaves_no_sandbox_behind_unless_it_is_kept(atoll: Atoll) -> None:
    before = {each["id"] for each in atoll.json("ps")}
    code = ("run", "-l", "bash", "-c", "true", "--template", "busybox")
    atoll.run(*code)
    assert {each["id"] for each in atoll.json("ps")} <= before
    kept = atoll.run(*code, "--keep").stderr.decode().strip().removeprefix("Kept: ")
    assert {each["id"] for each in atoll.json("ps")} - before == {kept}
    atoll.here("kill", kept)


def test_run_in_a_sandbox_goes_on_with_its_variables_and_shows_errors(atoll: Atoll, box: Box) -> None:
    atoll.here("run", "-s", box.id, "-c", "kept = 41")
    assert atoll.here("run", "-s", box.id[:6], "-c", "kept + 1") == "42\n"
    done = atoll.run("run", "-s", box.id, "-c", "1 / 0", code=1)
    assert done.stdout == b""
    assert b"ZeroDivisionError: division by zero" in done.stderr


def test_run_for_programs_is_a_message_a_line(atoll: Atoll, box: Box) -> None:
    said = [json.loads(line) for line in atoll.here("run", "-s", box.id, "-c", "print(1); 2", "--json").splitlines()]
    assert "".join(each["data"] for each in said if each["type"] == "stdout") == "1\n"
    assert [(each["type"], each.get("data"), each.get("exit_code")) for each in said if each["type"] != "stdout"] == [
        ("display", "2", None),
        ("result", None, 0),
        ("complete", None, None),
    ]


def test_run_ends_in_time_with_124(atoll: Atoll, box: Box) -> None:
    done = atoll.run("run", "-s", box.id, "-l", "bash", "-c", "echo begun; sleep 60", "--timeout", "2", code=124)
    assert done.stdout == b"begun\n"


def test_figures_are_saved_and_tables_are_text(atoll: Atoll, box: Box, tmp_path: Path) -> None:
    code = "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()\nimport pandas; pandas.DataFrame({'a': [1]})"
    shown = atoll.here("run", "-s", box.id, "-c", code, "--save", tmp_path / "figures")
    assert shown.split() == ["a", "0", "1"]
    saved = {each.suffix: each.read_bytes() for each in (tmp_path / "figures").iterdir()}
    assert saved[".png"].startswith(b"\x89PNG")
    assert b"<table" in saved[".html"]


def test_ctrl_c_ends_what_runs_inside(atoll: Atoll, box: Box) -> None:
    mark = "43210"
    for words in (["run", "-s", box.id, "-l", "bash", "-c"], ["exec", box.id, "--", "sh", "-c"]):
        line = f"echo begun; exec sleep {mark}"
        command = [*COMMAND, *words, line]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=atoll.environment
        ) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == b"begun\n"
            running.send_signal(signal.SIGINT)
            running.communicate(timeout=DEADLINE_S)
        assert running.returncode == 130
        until(lambda: not box.run(f"pgrep -f 'sleep [4]{mark[1:]}'")["stdout"], "the program is gone")


def test_run_that_is_told_to_end_leaves_no_sandbox_behind(atoll: Atoll) -> None:
    before = {each["id"] for each in atoll.json("ps")}
    command = [*COMMAND, "run", "-l", "bash", "-c", "echo begun; sleep 60", "--template", "busybox"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=atoll.environment) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"begun\n"
        running.terminate()
        assert running.wait(DEADLINE_S) == 128 + signal.SIGTERM
    assert {each["id"] for each in atoll.json("ps")} <= before


# ---- exec


def test_exec_keeps_streams_apart_and_bytes_whole(atoll: Atoll, box: Box) -> None:
    every = bytes(range(256)) * 1000
    done = atoll.run(
        "exec", box.id[:5], "-e", "A=b", "-w", "/tmp", "--", "sh", "-c", "cat; echo $A:$PWD >&2", input=every
    )
    assert done.stdout == every
    assert done.stderr == b"b:/tmp\n"


def test_exec_ends_with_the_programs_code(atoll: Atoll, box: Box) -> None:
    atoll.run("exec", box.id, "--", "sh", "-c", "exit 77", code=77)
    assert b"command not found" in atoll.run("exec", box.id, "no-such-program", code=127).stderr
    atoll.run("exec", "--timeout", "0.3", box.id, "sleep", "60", code=124)
    assert atoll.run("exec", "--user", "root", box.id, "id", "-u").stdout == b"0\n"


def test_what_runs_on_its_own_is_followed_later(atoll: Atoll, box: Box) -> None:
    script = "echo first; while [ ! -e /tmp/go-on ]; do sleep 0.05; done; echo last; exit 3"
    run = atoll.here("exec", "-d", box.id, "--", "sh", "-c", script).strip()
    until(lambda: "first" in atoll.here("logs", box.id, run[:8]), "its first words are in the log")
    (listed,) = [each for each in atoll.json("logs", box.id) if each["process_id"] == run]
    assert (listed["status"], listed["stdout"]) == ("running", "first\n")
    command = [*COMMAND, "logs", box.id, run, "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=atoll.environment) as left:
        assert left.stdout is not None
        assert left.stdout.readline() == b"first\n"
        left.send_signal(signal.SIGINT)
        assert left.wait(DEADLINE_S) == 130
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=atoll.environment) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"first\n"
        box.run("touch /tmp/go-on")
        assert following.communicate(timeout=DEADLINE_S)[0] == b"last\n"
    assert following.returncode == 3


# ---- files


def test_a_tree_goes_in_and_comes_out_as_it_was(atoll: Atoll, box: Box, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "script").write_bytes(b"#!/bin/sh\n")
    (tree / "a" / "script").chmod(0o750)
    (tree / "a" / "b" / "up").symlink_to("../script")
    (tree / "big").write_bytes(os.urandom(MIB) * 50)
    (tree / "wörter mit lücken").write_bytes(b"")
    atoll.here("cp", tree, f"{box.id}:/tmp/trees/")
    inside = box.sh("cd /tmp/trees/tree && stat -c '%a %n' a/script && readlink a/b/up && md5sum big && ls")
    assert inside.splitlines()[:2] == ["750 a/script", "../script"]
    assert atoll.here("cp", f"{box.id}:/tmp/trees/tree", tmp_path / "back") == ""
    compared = subprocess.run(["diff", "-r", "--no-dereference", tree, tmp_path / "back"], capture_output=True)
    assert (compared.returncode, compared.stdout) == (0, b"")
    assert (tmp_path / "back" / "empty").is_dir()
    assert stat.S_IMODE((tmp_path / "back" / "a" / "script").stat().st_mode) == 0o750


MIB = 2**20


@pytest.mark.parametrize("template", ["busybox", "code-interpreter"])
def test_one_file_goes_where_it_is_told(atoll: Atoll, stack: Stack, box: Box, tmp_path: Path, template: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"contents")
    source.chmod(0o600)
    with stack.box("busybox") if template == "busybox" else contextlib.nullcontext(box) as place:
        for target, there in [
            ("named", "/workspace/named"),
            ("/tmp", "/tmp/source"),
            ("new/", "/workspace/new/source"),
        ]:
            atoll.here("cp", source, f"{place.id}:{target}")
            assert atoll.run("cat", f"{place.id}:{there}").stdout == b"contents"
        (tmp_path / "directory").mkdir()
        atoll.here("cp", f"{place.id}:named", tmp_path / "directory")
        assert (tmp_path / "directory" / "named").read_bytes() == b"contents"
        assert stat.S_IMODE((tmp_path / "directory" / "named").stat().st_mode) == 0o600


def test_a_copy_that_cannot_be_says_why(atoll: Atoll, box: Box, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    for words, why in [
        ((f"{box.id}:/nowhere", tmp_path), "there is no /nowhere"),
        ((tmp_path / "nothing", f"{box.id}:"), "there is no "),
        ((source, f"{box.id}:/etc/shadow/"), "in the sandbox: "),
        ((f"{box.id}:/etc/shadow", tmp_path), "in the sandbox: "),
        ((f"{box.id}:/tmp", tmp_path / "a" / "b"), "there is no directory"),
    ]:
        assert why in atoll.run("cp", *words, code=1).stderr.decode()
    assert atoll.run("cp", source, source, code=2).stderr


def test_a_copy_shows_how_far_it_is_on_a_terminal(atoll: Atoll, box: Box, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(8 * MIB))
    assert "/8.4 MB" in on_a_terminal(atoll, "cp", tmp_path / "big", f"{box.id}:/tmp/shown")
    assert "/8.4 MB" in on_a_terminal(atoll, "cp", f"{box.id}:/tmp/shown", tmp_path / "back")
    assert on_a_terminal(atoll, "cp", "--quiet", tmp_path / "big", f"{box.id}:/tmp/shown") == ""


def on_a_terminal(atoll: Atoll, *words: object) -> str:
    """What stands there of its errors and progress."""
    master, slave = pty.openpty()
    with subprocess.Popen([*COMMAND, *map(str, words)], stderr=slave, env=atoll.environment) as running:
        os.close(slave)
        shown = b""
        with open(master, "rb", buffering=0) as screen, contextlib.suppress(OSError):  # EIO: nobody writes any more
            while piece := screen.read(65536):
                shown += piece
        assert running.wait(DEADLINE_S) == 0, shown
    return shown.decode()


def test_a_sandbox_whose_tar_lies_writes_nothing_outside(atoll: Atoll, stack: Stack, tmp_path: Path) -> None:
    """Root inside has replaced the program that packs."""
    lies = (
        "import io, sys, tarfile\n"
        "out = tarfile.open(fileobj=sys.stdout.buffer, mode='w|')\n"
        "link = tarfile.TarInfo('link'); link.type = tarfile.SYMTYPE; link.linkname = '..'; out.addfile(link)\n"
        "for name in ('link/precious', '../precious'):\n"
        "    file = tarfile.TarInfo(name); file.size = 6; out.addfile(file, io.BytesIO(b'theirs'))\n"
        "out.close()\n"
    )
    (tmp_path / "precious").write_text("mine")
    with stack.box("code-interpreter") as place:
        place.python(f"open('/tmp/tar', 'w').write({'#!/usr/bin/python3' + chr(10) + lies!r})")
        place.sh("chmod +x /tmp/tar && sudo mv /tmp/tar $(command -v tar) && mkdir things")
        assert "not unpacked" in atoll.run("cp", f"{place.id}:things", tmp_path / "out", code=1).stderr.decode()
    assert (tmp_path / "precious").read_text() == "mine"
    assert {each.name for each in tmp_path.iterdir()} == {"precious", "out"}
    assert not (tmp_path / "out" / "link").is_symlink()


def test_ls_shows_hostile_names_harmlessly(atoll: Atoll, box: Box) -> None:
    box.sh("mkdir -p /tmp/names && touch \"$(printf '/tmp/names/\\033[31mred')\"")
    assert "\x1b" not in atoll.here("ls", f"{box.id}:/tmp/names")
    assert "\\x1b[31mred" in atoll.here("ls", f"{box.id}:/tmp/names")
    (entry,) = atoll.json("ls", f"{box.id}:/tmp/names")
    assert entry["name"] == "\x1b[31mred"


# ---- a terminal


class Terminal:
    """`atoll shell` on a pty of ours, as on a person's screen."""

    def __init__(self, atoll: Atoll, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(90, 30)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.seen = b""

        def own_it() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [*COMMAND, "shell", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=own_it,
            env=atoll.environment,
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, cols: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, pattern: str) -> re.Match[bytes]:
        """What is seen of it from here on."""
        deadline = time.monotonic() + DEADLINE_S
        while (found := re.search(pattern.encode(), self.seen)) is None:
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} is not in {self.seen[-2000:]!r}"
            self.seen += os.read(self.master, 65536)
        self.seen = self.seen[found.end() :]
        return found

    def is_as_it_was(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before


def test_a_terminal_is_resized_left_and_come_back_to(atoll: Atoll, box: Box) -> None:
    with Terminal(atoll, box.id) as first:
        name = first.until(r"Terminal (\w+) in").group(1).decode()
        first.until(r"\$ ")
        assert not first.is_as_it_was()
        first.type("stty size; kept=$((40 + 2))\r")
        first.until("30 90")
        for cols, rows in ((101, 41), (77, 33)):
            first.resize(cols, rows)
            first.type(
                f"until [ \"$(stty size)\" = '{rows} {cols}' ]; do sleep 0.05; done; echo $((1 + {rows})) rows\r"
            )
            first.until(f"{rows + 1} rows")
        first.type("echo \x1d")  # only the first of the keys that leave it: it is passed on
        first.type("x\r\x1dd")
        first.until("It goes on")
        assert first.process.wait(DEADLINE_S) == 0
        assert first.is_as_it_was()
    with Terminal(atoll, box.id, "--attach") as again:
        again.until(name)
        again.until("34 rows")  # what was on the screen before
        again.type("echo the answer is $kept\r")
        again.until("the answer is 42")
        again.type("exit 5\r")
        assert again.process.wait(DEADLINE_S) == 5
        assert again.is_as_it_was()
    assert "no terminal runs there" in _shell_error(atoll, box.id, "--attach")


def _shell_error(atoll: Atoll, *words: str) -> str:
    with Terminal(atoll, *words) as failing:
        failing.until("Error: ")
        found = failing.until(r"[^\n]*\n").group(0).decode()
        assert failing.process.wait(DEADLINE_S) == 1
    return found


def test_a_terminal_whose_screen_is_closed_goes_on_and_leaves_ours_as_it_was(atoll: Atoll, box: Box) -> None:
    with Terminal(atoll, box.id) as lost:
        name = lost.until(r"Terminal (\w+) in").group(1).decode()
        lost.until(r"\$ ")
        lost.process.send_signal(signal.SIGTERM)
        assert lost.process.wait(DEADLINE_S) == 128 + signal.SIGTERM
        assert lost.is_as_it_was()
    (row,) = [each for each in atoll.json("ps", box.id) if each.get("terminal")]
    assert row["process_id"] == name
    with Terminal(atoll, box.id, "--attach", name[:6]) as again:
        again.until(r"Terminal \w+ in")
        again.type("exit\r")
        assert again.process.wait(DEADLINE_S) == 0


def test_a_terminal_without_a_sandbox_has_one_of_its_own(atoll: Atoll) -> None:
    with Terminal(atoll, "--template", "busybox") as shell:
        made = shell.until(r"Terminal \w+ in (\w+)\.").group(1).decode()
        assert atoll.json("info", made)["template_name"] == "busybox"
        shell.type("exit\r")
        assert shell.process.wait(DEADLINE_S) == 0
    assert made not in atoll.here("ps", "--json")


# ---- sandboxes


def test_a_sandbox_from_its_creation_to_its_end(atoll: Atoll) -> None:
    made = atoll.here("create", "--template", "busybox", "-m", "owner=me", "--timeout", "500").strip()
    short = made[:7]
    try:
        found = atoll.json("info", short)
        assert (found["id"], found["metadata"], found["timeout_seconds"]) == (made, {"owner": "me"}, 500)
        assert "traffic_access_token" not in found
        assert made in atoll.here("ps")
        for verb, state in [("pause", "paused"), ("resume", "running"), ("stop", "stopped"), ("start", "running")]:
            assert atoll.here(verb, short) == made + "\n"
            assert atoll.json("info", made)["status"] == state
        atoll.here("timeout", short, 900)
        assert atoll.json("info", made)["timeout_seconds"] == 900
        atoll.here("network", short, "--off")
        assert atoll.json("network", short)["internet_access"] is False
        atoll.here("network", short, "--allow", "192.0.2.7")
        reach = atoll.json("network", short)
        assert (reach["allow_out"], reach["deny_out"]) == (["192.0.2.7"], ["0.0.0.0/0"])
        assert "memory" in atoll.here("top", short)
        assert atoll.json("top", short)["system"]["memory"]["total"] > 0
    finally:
        atoll.here("kill", made)
    assert atoll.run("kill", short, code=1).stderr.decode().startswith("Error: no sandbox has an id that begins with")


def test_secrets_are_kept_listed_and_forgotten(atoll: Atoll) -> None:
    made = atoll.run("secret", "create", "cli-test", "--host", "api.example.com", input=b"s3cret\n")
    assert made.stdout == b"cli-test\n"
    (kept,) = [each for each in atoll.json("secret", "list") if each["name"] == "cli-test"]
    assert (kept["version"], kept["hosts"]) == (1, ["api.example.com"])
    atoll.run("secret", "update", "cli-test", input=b"newer")
    assert "cli-test" in atoll.here("secret", "list")
    assert "s3cret" not in atoll.here("secret", "list", "--json")
    atoll.here("secret", "delete", "cli-test")
    assert "cli-test" not in atoll.here("secret", "list")


def test_this_machine_is_enough_where_others_need_names_and_an_authority(named_stack: Stack) -> None:
    """By --data-dir alone: neither a URL, nor a key, nor a name that has to be resolved."""
    data = ("--data-dir", named_stack.installation.places.data)
    kept = {name: value for name, value in Atoll(named_stack).environment.items() if not name.startswith("ATOLL_")}
    command = [*COMMAND, "run", *map(str, data), "-l", "bash", "-c", "echo $((6 * 7))"]
    done = subprocess.run(command, capture_output=True, env=kept, timeout=DEADLINE_S)
    assert (done.returncode, done.stdout) == (0, b"42\n"), done.stderr
    with named_stack.box() as place:
        command = [*COMMAND, "exec", *map(str, data), place.id, "--", "echo", "here"]
        done = subprocess.run(command, capture_output=True, env=kept, timeout=DEADLINE_S, stdin=subprocess.DEVNULL)
        assert (done.returncode, done.stdout) == (0, b"here\n"), done.stderr
    authority = {"ATOLL_CA_FILE": str(named_stack.installation.places.tls / "ca.pem")}
    with named_stack.box() as place:
        by_name = {**kept, **authority, "ATOLL_BASE_URL": f"https://localhost:{named_stack.port}"}
        by_name["ATOLL_API_KEY"] = named_stack.installation.api_key
        command = [*COMMAND, "exec", place.id, "--", "echo", "over TLS"]
        done = subprocess.run(command, capture_output=True, env=by_name, timeout=DEADLINE_S, stdin=subprocess.DEVNULL)
        assert (done.returncode, done.stdout) == (0, b"over TLS\n"), done.stderr


def test_one_that_fails_keeps_no_other_from_it(atoll: Atoll) -> None:
    made = atoll.here("create", "--template", "busybox").strip()
    done = atoll.run("kill", "a" * 20, made, code=1)
    assert done.stdout.decode() == made + "\n"
    assert done.stderr.decode().startswith(f"Error: {'a' * 20}: ")


def test_a_url_opens_what_listens(atoll: Atoll, box: Box) -> None:
    box.sh("mkdir -p /tmp/site && echo hello > /tmp/site/index.html")
    atoll.here("exec", "-d", box.id, "--", "python3", "-m", "http.server", "8123", "-d", "/tmp/site")
    box.sh("for i in $(seq 100); do curl -s localhost:8123 > /dev/null && break; sleep 0.05; done")
    url = atoll.here("url", box.id, 8123).strip()
    assert url == f"{atoll.stack.url}/s/{box.id}/8123/"
    link = urlsplit(atoll.here("link", box.id, 8123).strip())
    assert (link.netloc, link.path) == (urlsplit(url).netloc, urlsplit(url).path)
    with contextlib.closing(http.client.HTTPConnection(link.netloc, timeout=DEADLINE_S)) as browser:
        browser.request("GET", f"{link.path}?{link.query}")
        answer = browser.getresponse()
        answer.read()
        cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
        browser.request("GET", link.path, headers={"Cookie": cookie})
        assert browser.getresponse().read() == b"hello\n"


def test_templates_and_processes_for_programs(atoll: Atoll, box: Box) -> None:
    assert {"busybox", "code-interpreter"} <= {each["name"] for each in atoll.json("templates")}
    assert "busybox" in atoll.here("templates")
    box.run("sleep 4321 >/dev/null 2>&1 &")
    until(lambda: [each for each in atoll.json("ps", box.id) if each["command"] == "sleep 4321"], "it is that program")
    assert "sleep 4321" in atoll.here("ps", box.id)


def test_ids_and_templates_are_completed_by_asking(atoll: Atoll, box: Box) -> None:
    def completed(words: str) -> list[str]:
        asked = {"_ATOLL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        done = subprocess.run(COMMAND, capture_output=True, env={**atoll.environment, **asked}, timeout=DEADLINE_S)
        return [line.partition(",")[2] for line in done.stdout.decode().splitlines()]

    assert completed(f"atoll info {box.id[:4]}") == [box.id]
    assert completed("atoll create --template bus") == ["busybox"]
    assert "exec" in completed("atoll ex")
