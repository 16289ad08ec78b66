"""The main job, end to end, through the unmodified `hopx-ai` package. Each step says what it took; the first wrong
answer ends the demo with status 1. Atoll runs on a free port of 127.0.0.1 with a data directory of its own, kept: the
templates in it are built once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hopx_ai import Sandbox
from hopx_ai.errors import NotFoundError
from rich.console import Console
from rich.markup import escape

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "demo-output"
TEMPLATE = "code-interpreter"
START_LIMIT_S = 1200
STOP_LIMIT_S = 60
PNG = b"\x89PNG\r\n\x1a\n"

console = Console(highlight=False, soft_wrap=True)


class Wrong(Exception):
    """Something is not as it should be."""


def expect(condition: object, what: str, seen: object = "") -> None:
    if not condition:
        raise Wrong(f"{what}; seen: {seen!r}" if seen != "" else what)


# ---- Atoll


def data_dir() -> Path:
    chosen = os.environ.get("ATOLL_DATA_DIR")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else cache / "atoll" / "demo"


@contextlib.contextmanager
def atoll() -> Iterator[tuple[str, str]]:
    """URL and key of an Atoll that is ended with the block. Ready is when its file of variables appears."""
    with tempfile.TemporaryDirectory() as directory:
        variables = Path(directory) / "env"
        arguments = ("--listen", "127.0.0.1:0", "--data-dir", str(data_dir()), "--print-env", str(variables))
        arguments += ("--uplink", "none")
        process = subprocess.Popen(
            [sys.executable, "-m", "atoll.cli.main", "up", "--quiet", *arguments], start_new_session=True
        )
        try:
            lines = await_file(variables, process).split()
            values = dict(line.split("=", 1) for line in lines)
            yield values["ATOLL_BASE_URL"], values["ATOLL_API_KEY"]
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                status = None
        expect(status == 0, "atoll up does not stop cleanly", status)


def await_file(path: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_LIMIT_S
    while not path.exists():
        expect(process.poll() is None, "atoll up ended before it served", process.returncode)
        expect(time.monotonic() < deadline, f"atoll up does not serve within {START_LIMIT_S} s")
        time.sleep(0.01)
    return path.read_text()


# ---- the steps


@dataclass
class Demo:
    url: str
    key: str
    sandboxes: list[Sandbox] = field(default_factory=list)

    def create(self) -> Sandbox:
        sandbox = Sandbox.create(template=TEMPLATE, api_key=self.key, base_url=self.url)
        self.sandboxes.append(sandbox)
        return sandbox

    @property
    def first(self) -> Sandbox:
        return self.sandboxes[0]


Step = Callable[[Demo], str]
STEPS: list[tuple[str, Step]] = []


def step(title: str) -> Callable[[Step], Step]:
    """A step does one thing and returns what is worth reading about it."""

    def add(function: Step) -> Step:
        STEPS.append((title, function))
        return function

    return add


def run_code(sandbox: Sandbox, code: str, language: str = "python") -> str:
    result = sandbox.run_code(code, language=language)
    expect(result.success and result.exit_code == 0, f"{language} failed", result.stderr or result.stdout)
    return result.stdout.strip()


def shell(sandbox: Sandbox, command: str) -> str:
    result = sandbox.commands.run(command)
    expect(result.exit_code == 0, f"{command!r} failed", result.stderr or result.stdout)
    return result.stdout.strip()


@step("create a sandbox")
def create(demo: Demo) -> str:
    return demo.create().sandbox_id


@step("numpy and pandas")
def science(demo: Demo) -> str:
    output = run_code(
        demo.first,
        "import numpy as np, pandas as pd\n"
        "df = pd.DataFrame({'city': ['Oslo', 'Rome', 'Oslo'], 'rain': np.array([3, 1, 5])})\n"
        "print(df.groupby('city').rain.sum().to_dict())",
    )
    expect(output == "{'Oslo': 8, 'Rome': 1}", "a group-by gives something else", output)
    return output


@step("state is kept between cells")
def state(demo: Demo) -> str:
    output = run_code(demo.first, "print(len(df))")
    expect(output == "3", "the data frame of the cell before is not there", output)
    return f"len(df) == {output}"


@step("a matplotlib figure")
def figure(demo: Demo) -> str:
    import base64

    result = demo.first.run_code(
        "import matplotlib.pyplot as plt\n"
        "x = np.linspace(0, 6.28, 200)\n"
        "plt.plot(x, np.sin(x)); plt.title('drawn in a sandbox'); plt.show()"
    )
    images = [output.data["image/png"] for output in result.rich_outputs if "image/png" in output.data]
    expect(len(images) == 1, "one figure gives one PNG", result.stderr or len(images))
    png = base64.b64decode(images[0])
    expect(png.startswith(PNG), "the figure is no PNG", png[:16])
    OUTPUT.mkdir(exist_ok=True)
    (OUTPUT / "figure.png").write_bytes(png)
    return f"{len(png)} bytes → {(OUTPUT / 'figure.png').relative_to(ROOT)}"


@step("bash")
def bash(demo: Demo) -> str:
    output = run_code(demo.first, 'for i in 1 2 3; do echo -n "$i "; done; id -un', "bash")
    expect(output == "1 2 3 user", "bash says something else", output)
    return output


@step("JavaScript")
def javascript(demo: Demo) -> str:
    output = run_code(demo.first, "console.log([1, 2, 3].map(n => n * n).join(' '))", "javascript")
    expect(output == "1 4 9", "node says something else", output)
    return output


@step("Go")
def go(demo: Demo) -> str:
    output = run_code(demo.first, 'package main\nimport "fmt"\nfunc main() { fmt.Println("go", 6*7) }', "go")
    expect(output == "go 42", "Go says something else", output)
    return output


@step("an error is a result")
def failure(demo: Demo) -> str:
    result = demo.first.run_code("1 / 0")
    expect(not result.success and "ZeroDivisionError" in result.stderr, "no traceback", result.stderr)
    return result.stderr.strip().splitlines()[-1]


@step("write, read and list files")
def files(demo: Demo) -> str:
    files = demo.first.files
    files.write("/workspace/notes/hello.txt", "hello from outside\n")
    files.write_bytes("/workspace/notes/raw.bin", bytes(range(256)))
    expect(files.read("/workspace/notes/hello.txt") == "hello from outside\n", "a text comes back changed")
    expect(files.read_bytes("/workspace/notes/raw.bin") == bytes(range(256)), "bytes come back changed")
    names = sorted(entry.name for entry in files.list("/workspace/notes"))
    expect(names == ["hello.txt", "raw.bin"], "the list is another", names)
    seen = shell(demo.first, "cat /workspace/notes/hello.txt")
    expect(seen == "hello from outside", "programs see another text", seen)
    return ", ".join(names)


@step("watch files")
def watch(demo: Demo) -> str:
    async def first_event() -> dict[str, object]:
        events = demo.first.files.watch("/workspace")
        waiting = asyncio.ensure_future(anext(events))
        number = 0
        while not waiting.done():  # the client does not say when its watch has begun, so the writer repeats itself
            number += 1
            await asyncio.to_thread(demo.first.files.write, f"/workspace/watched-{number}.txt", "x")
            await asyncio.wait((waiting,), timeout=0.05)
        event = await waiting
        await events.aclose()
        return event

    event = asyncio.run(asyncio.wait_for(first_event(), 20))
    expect("/workspace/watched-" in str(event.get("path")), "an event of another file", event)
    return f"{event['event']} {event['path']}"


@step("run commands")
def commands(demo: Demo) -> str:
    output = shell(demo.first, "uname -s && sudo -n id -u && pwd")
    expect(output.splitlines() == ["Linux", "0", "/workspace"], "the commands say something else", output)
    refused = demo.first.commands.run("exit 7")
    expect(refused.exit_code == 7, "the exit code is lost", refused.exit_code)
    return "sudo works, exit codes come back"


@step("environment variables")
def environment(demo: Demo) -> str:
    demo.first.env.set("GREETING", "hei")
    output = shell(demo.first, "echo $GREETING")
    expect(output == "hei", "a command does not see the variable", output)
    in_python = run_code(demo.first, "import os; print(os.environ['GREETING'])")
    expect(in_python == "hei", "a cell does not see the variable", in_python)
    demo.first.env.delete("GREETING")
    expect("GREETING" not in demo.first.env.get_all(), "the variable is still there")
    return "set, seen by commands and cells, deleted"


@step("list and kill a background process")
def background(demo: Demo) -> str:
    started = demo.first.run_code_background("import time; time.sleep(600)", name="sleeper")
    found = {each["process_id"]: each["status"] for each in demo.first.list_processes()}
    expect(found.get(started["process_id"]) == "running", "it is not listed as running", found)
    demo.first.kill_process(started["process_id"])
    after = {each["process_id"]: each["status"] for each in demo.first.list_processes()}
    expect(after.get(started["process_id"]) != "running", "it still runs", after)
    return f"{started['process_id']} killed"


@step("a second sandbox sees nothing of the first")
def isolation(demo: Demo) -> str:
    first, second = demo.first, demo.create()
    shell(first, "echo secret > /workspace/secret.txt")
    expect(not second.files.exists("/workspace/secret.txt"), "it sees the first one's file")
    address = shell(first, "hostname -I | cut -d' ' -f1")
    expect(re.fullmatch(r"\d+(\.\d+){3}", address), "no address", address)
    server = first.run_code_background(
        "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=8123, bind='0.0.0.0')"
    )
    ask = "curl -s -o /dev/null --max-time 2 http://{}:8123/"
    shell(first, f"for i in $(seq 100); do {ask.format(address)} && exit 0; sleep 0.05; done; exit 1")
    for host in (address, "127.0.0.1"):
        result = second.commands.run(ask.format(host))
        expect(result.exit_code != 0, f"it reaches the first one's server at {host}")
    processes = shell(second, "ps -ef")
    expect("8123" not in processes and "http.server" not in processes, "it sees the first one's processes", processes)
    first.kill_process(server["process_id"])
    return f"file, process and {address}:8123 are out of its reach"


@step("set_timeout")
def timeout(demo: Demo) -> str:
    demo.first.set_timeout(600)
    information = demo.first.get_info()
    left = demo.first.get_time_to_expiry()
    expect(information.timeout_seconds == 600, "the timeout is another", information.timeout_seconds)
    expect(left is not None and 590 <= left <= 600, "the end is another", left)
    return f"{left} s left"


@step("pause and resume")
def pause(demo: Demo) -> str:
    demo.first.pause()
    expect(demo.first.get_info().status == "paused", "it is not paused", demo.first.get_info().status)
    demo.first.resume()
    expect(demo.first.get_info().status == "running", "it is not running", demo.first.get_info().status)
    output = run_code(demo.first, "print(len(df))")
    expect(output == "3", "its memory is lost", output)
    return "its memory is still there"


@step("kill")
def kill(demo: Demo) -> str:
    for sandbox in demo.sandboxes:
        sandbox.kill()
        try:
            status = sandbox.get_info().status
        except NotFoundError:
            continue
        raise Wrong(f"a killed sandbox is {status}")
    return f"{len(demo.sandboxes)} sandboxes are gone"


# ---- the show


@contextlib.contextmanager
def timed(title: str) -> Iterator[list[str]]:
    words: list[str] = []
    started = time.perf_counter()
    try:
        yield words
    except BaseException:
        console.print(f"[red]✗[/] {title}")
        raise
    milliseconds = (time.perf_counter() - started) * 1000
    console.print(f"[green]✓[/] {title:<42} [bold]{milliseconds:>8.1f} ms[/]  [dim]{escape(' '.join(words))}[/]")


def main() -> int:
    started = time.perf_counter()
    try:
        with contextlib.ExitStack() as stack:
            with timed("start Atoll") as words:
                url, key = stack.enter_context(atoll())
                words.append(url)
            demo = Demo(url, key)
            for title, act in STEPS:
                with timed(title) as words:
                    words.append(act(demo))
            with timed("stop Atoll"):
                stack.close()
    except KeyboardInterrupt:
        return 130
    except Wrong as wrong:
        console.print(f"[bold red]Not as it should be:[/] {escape(str(wrong))}")
        return 1
    except Exception:
        console.print_exception(show_locals=False)
        return 1
    console.print(f"[bold green]All as it should be[/] in {time.perf_counter() - started:.1f} s.")
    console.print(f"To serve with what was built here: ./scripts/atoll up --data-dir {data_dir()}", style="dim")
    return 0


if __name__ == "__main__":
    sys.exit(main())
