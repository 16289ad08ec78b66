"""What an agent does with one sandbox in fifty steps, written as a user of the `e2b` package writes it.

A program of its own: E2B_DOMAIN, E2B_API_KEY and SSL_CERT_FILE say where; E2B_CONNECTION_RETRIES=0 and `retries=0`
leave nothing that could try twice. Prints the sandbox's id, and a line for each step: its name and the milliseconds
that it took. Ends with status 1 and a traceback at the first step that goes wrong.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import sys
import textwrap
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from e2b import (
    CommandExitException,
    CommandHandle,
    FileNotFoundException,
    FileType,
    PtySize,
    Sandbox,
    SandboxQuery,
    TimeoutException,
    Volume,
)

MIB = 1024 * 1024
ASKED_S = 600
WEB, INDEX = 3000, 8099
MOUNT = "/mnt/shared"
PACKAGE = "atoll-greeting"
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{self.path} {os.getpid()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("", 3000), Handler)
print("listening", flush=True)
server.serve_forever()
"""
PLOT = """
import matplotlib; matplotlib.use("Agg")
import matplotlib.pyplot as plt, pandas as pd
frame = pd.read_csv("data/numbers.csv")
frame.plot(x="x", y="square")
plt.savefig("data/plot.png")
print(frame["square"].sum())
"""

Step = Callable[[], None]
STEPS: list[Step] = []
jobs: dict[str, CommandHandle] = {}
noted: dict[str, str] = {}
shared: Volume
box: Sandbox


def step(action: Step) -> Step:
    STEPS.append(action)
    return action


def said(command: str, **more: object) -> str:
    return box.commands.run(command, **more).stdout.strip()


def background(name: str, command: str, until: str, **more: object) -> None:
    """A job that runs on; comes back when it has said `until`."""
    jobs[name] = box.commands.run(command, background=True, timeout=0, **more)
    hear(jobs[name], until)


def failure(action: Callable[[], object]) -> CommandExitException:
    try:
        action()
    except CommandExitException as failed:
        return failed
    raise AssertionError("it did not fail")


def hear(handle: CommandHandle, wanted: str) -> str:
    heard = ""
    for stdout, stderr, terminal in handle:
        heard += stdout or stderr or (terminal or b"").decode()
        if wanted in heard:
            return heard
    raise AssertionError(f"it ended before it had said {wanted!r}: {heard!r}")


def fetch(path: str) -> str:
    with urllib.request.urlopen(f"https://{box.get_host(WEB)}{path}", timeout=30) as answer:
        return str(answer.read().decode())


def wheel(version: str) -> bytes:
    """A package with a module and a program (PEP 427)."""
    name, made = PACKAGE.replace("-", "_"), io.BytesIO()
    place = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f'VERSION = "{version}"\ndef main():\n    print("hello from", VERSION)\n',
        f"{place}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n",
        f"{place}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{place}/entry_points.txt": f"[console_scripts]\ngreet = {name}:main\n",
    }
    lines = [f"{path},sha256={_digest(text.encode())},{len(text)}" for path, text in files.items()]
    files[f"{place}/RECORD"] = "\n".join([*lines, f"{place}/RECORD,,", ""])
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return made.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


# ---- a place to work in


@step
def a_volume_is_made() -> None:
    global shared
    shared = Volume.create(f"session-{os.getpid()}", retries=0)


@step
def a_sandbox_is_made() -> None:
    global box
    box = Sandbox.create(
        "code-interpreter",
        timeout=ASKED_S,
        metadata={"purpose": "fifty steps", "who": f"{os.getpid()}"},
        envs={"GREETING": "hello"},
        volume_mounts={MOUNT: shared},
        retries=0,
    )
    print(box.sandbox_id, flush=True)


@step
def it_runs_and_knows_what_it_was_told() -> None:
    assert box.is_running()
    info = box.get_info()
    assert info.metadata == {"purpose": "fifty steps", "who": f"{os.getpid()}"}
    assert 0 < (info.end_at - info.started_at).total_seconds() <= ASKED_S + 5


@step
def commands_run_as_the_user_at_home() -> None:
    told = said("id -un; pwd; echo $HOME $GREETING $E2B_SANDBOX").split()
    assert told == ["user", "/home/user", "/home/user", "hello", "true"]


@step
def a_command_has_its_own_environment_and_directory() -> None:
    assert said("echo $GREETING; pwd", envs={"GREETING": "other"}, cwd="/tmp").split() == ["other", "/tmp"]


@step
def root_is_asked_for_by_name() -> None:
    assert said("id -un", user="root") == "root"
    assert said("sudo -n id -un") == "root"


@step
def a_failure_comes_with_its_output() -> None:
    failed = failure(lambda: box.commands.run("echo out; echo err >&2; exit 7"))
    assert (failed.exit_code, failed.stdout, failed.stderr) == (7, "out\n", "err\n")


@step
def a_command_that_takes_too_long_is_ended() -> None:
    try:
        box.commands.run("exec -a overlong sleep 600", timeout=0.5)
    except TimeoutException:
        said("while pgrep -f ^overlong; do sleep 0.05; done")
    else:
        raise AssertionError("sleep 600 ended within half a second")


@step
def output_comes_while_it_is_made() -> None:
    heard: list[str] = []
    box.commands.run("for i in 1 2 3; do echo $i; done; echo e >&2", on_stdout=heard.append, on_stderr=heard.append)
    assert sorted("".join(heard).split()) == ["1", "2", "3", "e"]


# ---- files


@step
def text_is_written_and_read() -> None:
    assert box.files.write("project/notes.txt", "a ü 🐚\n").path == "/home/user/project/notes.txt"
    assert box.files.read("project/notes.txt") == "a ü 🐚\n"


@step
def bytes_are_written_and_read() -> None:
    every = bytes(range(256)) * 16
    box.files.write("project/every.bin", every)
    assert bytes(box.files.read("project/every.bin", format="bytes")) == every


@step
def many_files_are_written_at_once() -> None:
    box.files.write_files([{"path": f"project/src/m{number}.py", "data": f"N = {number}\n"} for number in range(20)])
    assert said("cat project/src/*.py | wc -l") == "20"


@step
def a_directory_is_listed() -> None:
    names = [entry.name for entry in box.files.list("project", depth=1)]
    assert names == ["every.bin", "notes.txt", "src"]
    assert len(box.files.list("project", depth=2)) == 23


@step
def a_file_has_a_description() -> None:
    box.files.write("project/tagged.txt", "x", metadata={"author": "agent"})
    info = box.files.get_info("project/tagged.txt")
    assert (info.type, info.size, info.owner, info.permissions) == (FileType.FILE, 1, "user", "-rw-r--r--")
    assert info.metadata == {"author": "agent"}


@step
def what_is_missing_is_said_to_be() -> None:
    assert box.files.exists("project/notes.txt")
    assert not box.files.exists("project/nothing")
    try:
        box.files.read("project/nothing")
    except FileNotFoundException:
        return
    raise AssertionError("a missing file was read")


@step
def directories_are_made_renamed_and_removed() -> None:
    assert box.files.make_dir("project/new")
    assert not box.files.make_dir("project/new")
    box.files.rename("project/new", "project/newer")
    box.files.remove("project/newer")
    assert not box.files.exists("project/newer")


@step
def a_file_is_read_as_a_stream() -> None:
    said("seq 200000 > project/numbers.txt")
    with box.files.read("project/numbers.txt", format="stream") as pieces:
        lines = b"".join(pieces).split()
    assert lines == [b"%d" % number for number in range(1, 200001)]


@step
def a_directory_is_watched() -> None:
    watched = box.files.watch_dir("project", recursive=True)
    box.files.write("project/src/seen.txt", "1")
    seen: set[str] = set()
    deadline = time.monotonic() + 10
    while "src/seen.txt" not in seen:
        assert time.monotonic() < deadline, seen
        seen |= {event.name for event in watched.get_new_events()}
    watched.stop()


@step
def a_signed_address_reads_a_file() -> None:
    url = box.download_url("project/notes.txt", use_signature_expiration=60)
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read().decode() == "a ü 🐚\n"


@step
def a_signed_address_takes_a_file() -> None:
    boundary = "c3e1"
    disposition = 'Content-Disposition: form-data; name="file"; filename="notes.txt"'
    body = f"--{boundary}\r\n{disposition}\r\n\r\nby form\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(box.upload_url("project/form.txt"), body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)[0]["path"] == "/home/user/project/form.txt"
    assert box.files.read("project/form.txt") == "by form"


# ---- packages, data, a plot


@step
def packages_are_laid_out_in_an_index() -> None:
    name = PACKAGE.replace("-", "_")
    wheels = {f"{name}-{version}-py3-none-any.whl": wheel(version) for version in ("1.0", "2.0")}
    links = "".join(
        f'<a href="{file}#sha256={hashlib.sha256(data).hexdigest()}">{file}</a>\n' for file, data in wheels.items()
    )
    place = f"index/simple/{PACKAGE}"
    files = {"index.html": f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), **wheels}
    box.files.write_files([{"path": f"{place}/{file}", "data": data} for file, data in files.items()])


@step
def the_index_is_served() -> None:
    background("index", f"python3 -u -m http.server {INDEX} --directory index", until="Serving HTTP")


@step
def a_package_is_installed() -> None:
    assert "Successfully installed" in said(f"{pip('install')} {PACKAGE}==1.0")


@step
def it_is_there() -> None:
    assert said("python3 -m pip show atoll-greeting | grep ^Version") == "Version: 1.0"
    assert said("greet") == "hello from 1.0"


@step
def it_is_upgraded() -> None:
    said(f"{pip('install')} --upgrade {PACKAGE}")
    assert said("greet") == "hello from 2.0"


def pip(action: str) -> str:
    index = f"--index-url http://127.0.0.1:{INDEX}/simple/"
    return f"python3 -m pip {action} --disable-pip-version-check --no-cache-dir --retries 0 {index}"


@step
def data_is_made() -> None:
    rows = "".join(f"{x},{x * x}\n" for x in range(100))
    box.files.write("data/numbers.csv", f"x,square\n{rows}")


@step
def a_plot_is_made() -> None:
    box.files.write("plot.py", PLOT)
    assert said("python3 plot.py") == "328350"


@step
def the_plot_is_fetched() -> None:
    image = bytes(box.files.read("data/plot.png", format="bytes"))
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    assert image[12:16] == b"IHDR"
    assert image.endswith(b"IEND\xaeB\x60\x82")


@step
def a_database_is_filled_and_asked() -> None:
    code = """
    import sqlite3
    base = sqlite3.connect("data/squares.db")
    base.execute("create table squares (x integer primary key, square integer)")
    base.executemany("insert into squares values (?, ?)", ((x, x * x) for x in range(1000)))
    base.commit()
    print(base.execute("select sum(square) from squares").fetchone()[0])
    """
    box.files.write("database.py", textwrap.dedent(code))
    assert said("python3 database.py") == "332833500"


@step
def another_language_works_with_it() -> None:
    code = "console.log(require('fs').readFileSync('data/numbers.csv', 'utf8').trim().split('\\n').length)"
    assert said(f'node -e "{code}"') == "101"


# ---- servers and jobs


@step
def a_server_is_started() -> None:
    box.files.write("server.py", SERVER)
    background("web", "python3 server.py", until="listening")


@step
def the_server_is_reached_by_its_name() -> None:
    assert fetch("/first").startswith("/first ")


@step
def it_is_reached_from_inside() -> None:
    assert said(f"curl -sS http://localhost:{WEB}/inside").startswith("/inside ")


@step
def it_answers_many_at_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(fetch, (f"/{number}" for number in range(32))))
    assert [answer.split()[0] for answer in answers] == [f"/{number}" for number in range(32)]


@step
def a_job_counts_in_the_background() -> None:
    background("counter", "for i in $(seq 1 100000); do echo tick $i; sleep 0.02; done", until="tick 1")


@step
def the_jobs_are_listed() -> None:
    listed = {process.pid: " ".join(process.args) for process in box.commands.list()}
    assert {job.pid for job in jobs.values()} <= listed.keys()
    assert "server.py" in listed[jobs["web"].pid]


@step
def a_job_is_joined_again() -> None:
    jobs["counter"].disconnect()
    jobs["counter"] = box.commands.connect(jobs["counter"].pid)
    hear(jobs["counter"], "tick")


@step
def a_job_is_killed() -> None:
    counter = jobs.pop("counter")
    assert box.commands.kill(counter.pid)
    assert failure(counter.wait).error == "signal: killed"
    assert counter.pid not in [process.pid for process in box.commands.list()]
    assert not box.commands.kill(counter.pid)


@step
def a_program_reads_its_input() -> None:
    handle = box.commands.run("tr a-z A-Z", background=True, stdin=True)
    box.commands.send_stdin(handle.pid, "one ")
    box.commands.send_stdin(handle.pid, "two\n")
    box.commands.close_stdin(handle.pid)
    assert handle.wait().stdout == "ONE TWO\n"


@step
def input_is_streamed() -> None:
    handle = box.commands.run("wc -c", background=True, stdin=True)
    box.commands.stream_input(handle.pid, (b"x" * 1000 for _ in range(50)))
    box.commands.close_stdin(handle.pid)
    assert handle.wait().stdout.strip() == "50000"


@step
def a_terminal_is_typed_into() -> None:
    terminal = box.pty.create(PtySize(rows=24, cols=80), timeout=0)
    box.pty.send_stdin(terminal.pid, b"stty size; echo en''d\n")
    assert "24 80" in hear(terminal, "end\r\n")
    box.pty.resize(terminal.pid, PtySize(rows=30, cols=100))
    box.pty.send_stdin(terminal.pid, b"stty size; echo a''gain\n")
    assert "30 100" in hear(terminal, "again\r\n")
    assert box.pty.kill(terminal.pid)


@step
def work_is_put_under_version_control() -> None:
    box.git.init("project", initial_branch="main")
    box.git.configure_user("Agent", "agent@example.com", scope="local", path="project")
    box.git.add("project")
    box.git.commit("project", "what was done")
    assert box.git.status("project").is_clean
    assert said("git -C project log --format=%an:%s") == "Agent:what was done"


@step
def a_branch_is_made() -> None:
    box.git.create_branch("project", "idea")
    found = box.git.branches("project")
    assert (found.current_branch, sorted(found.branches)) == ("idea", ["idea", "main"])


@step
def commands_run_side_by_side() -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: said(f"echo {number}"), range(64)))
    assert answers == [str(number) for number in range(64)]


# ---- much data


@step
def much_is_printed() -> None:
    printed = box.commands.run("seq 500000").stdout
    assert printed == "".join(f"{number}\n" for number in range(1, 500001))


def sixty_four_mib() -> bytes:
    return hashlib.sha256(b"seed").digest() * (64 * MIB // 32)


@step
def sixty_four_mib_go_in() -> None:
    noted["digest"] = hashlib.sha256(sixty_four_mib()).hexdigest()
    box.files.write("data/large.bin", io.BytesIO(sixty_four_mib()))
    assert said("sha256sum data/large.bin").split()[0] == noted["digest"]


@step
def sixty_four_mib_come_out() -> None:
    digest = hashlib.sha256()
    with box.files.read("data/large.bin", format="stream") as pieces:
        for piece in pieces:
            digest.update(piece)
    assert digest.hexdigest() == noted["digest"]


@step
def the_volume_is_the_same_inside_and_outside() -> None:
    said(f"echo from inside > {MOUNT}/inside.txt")
    assert shared.read_file("/inside.txt") == "from inside\n"
    shared.write_file("/outside.txt", "from outside\n")
    assert said(f"cat {MOUNT}/outside.txt") == "from outside"


# ---- its life


@step
def it_is_measured() -> None:
    metrics = box.get_metrics()
    assert metrics
    assert metrics[-1].mem_total > 0
    assert metrics[-1].disk_total > 0


@step
def it_is_found_by_what_it_was_told() -> None:
    found = list(_all(Sandbox.list(query=SandboxQuery(metadata={"who": f"{os.getpid()}"}), retries=0)))
    assert [each.sandbox_id for each in found] == [box.sandbox_id]


def _all(pages: object) -> Iterator[object]:
    while pages.has_next:
        yield from pages.next_items()


@step
def it_is_paused() -> None:
    noted["boot"], noted["web"] = said("cat /proc/sys/kernel/random/boot_id"), fetch("/before").split()[1]
    assert box.pause()
    assert not box.is_running()


@step
def it_goes_on_where_it_was() -> None:
    global box
    box = Sandbox.connect(box.sandbox_id, timeout=ASKED_S, retries=0)
    assert said("cat /proc/sys/kernel/random/boot_id; echo $GREETING").split() == [noted["boot"], "hello"]
    assert fetch("/after") == f"/after {noted['web']}"
    assert box.files.read("project/notes.txt") == "a ü 🐚\n"


@step
def its_time_is_made_shorter() -> None:
    box.set_timeout(60)
    info = box.get_info()
    assert 0 < info.end_at.timestamp() - time.time() <= 61


@step
def it_ends() -> None:
    assert box.kill()
    assert not box.is_running()
    assert not Sandbox.kill(box.sandbox_id, retries=0)
    assert Volume.destroy(shared.volume_id, retries=0)


def main() -> None:
    for action in STEPS:
        begun = time.perf_counter()
        action()
        print(f"{action.__name__} {(time.perf_counter() - begun) * 1000:.0f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
