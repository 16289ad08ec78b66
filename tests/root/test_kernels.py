"""Contexts of every language of the template, and what is left of contexts: nothing. Spoken to the agent itself."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from atoll.wire.frames import FrameDecoder
from stack import Box, Stack

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

CWD = "/home/user/here"


CONNECTIONS = 4


def is_in(namespace: str, process: Path) -> bool:
    try:
        return os.readlink(process / "ns/pid") == namespace
    except OSError:
        return False


def descriptors_of(process: Path) -> int:
    with contextlib.suppress(OSError):  # it has ended
        return len(os.listdir(process / "fd"))
    return 0


def memory_of(pid: int) -> int:
    """Of the control group of this process, whichever version the host has."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("memory", ""):
            root, name = ("/sys/fs/cgroup/memory", "total_rss") if controllers else ("/sys/fs/cgroup", "anon")
            figures = Path(root + path, "memory.stat")
            if figures.exists():
                return int(dict(each.split() for each in figures.read_text().splitlines())[name])
    raise AssertionError(f"process {pid} has no control group")


class Left(NamedTuple):
    """What contexts could have left in their sandbox."""

    processes: int
    descriptors: int
    memory_bytes: int
    """Without what is only cached."""


class Outcome(NamedTuple):
    objects: list[dict[str, Any]]
    pieces: list[str]
    stderr: str
    shown: str
    """What was printed and what was displayed as HTML, in its order."""

    @property
    def stdout(self) -> str:
        return "".join(self.pieces)

    @property
    def status(self) -> str:
        return str(self.objects[-1]["status"])

    @property
    def error(self) -> dict[str, Any]:
        (error,) = [each for each in self.objects if each["type"] == "error"]
        return error


class Agent:
    """The agent of a sandbox, at its socket on the host."""

    def __init__(self, stack: Stack, box: Box) -> None:
        self.pid = stack.host_pid(box)
        socket = stack.installation.places.run / "s" / f"{box.id}.sock"
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket), limits=httpx.Limits(max_connections=64)),
            base_url="http://agent",
            timeout=120,
        )

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        response = self._client.request(method, path, json=body)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def refused(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        response = self._client.request(method, path, json=body)
        assert response.status_code >= 400, response.text
        return dict(response.json())

    def execute(self, context: str, code: str, **more: Any) -> Outcome:
        decoder, objects, printed, shown = FrameDecoder(), [], {b"O": [], b"E": []}, []
        body = {"code": code, **more}
        with self._client.stream("POST", f"/contexts/{context}/execute", json=body) as response:
            assert response.status_code == 200, response.read()
            for data in response.iter_bytes():
                for frame in decoder.feed(data):
                    if frame.type == b"J":
                        objects.append(frame.json())
                        shown.append(objects[-1].get("data", {}).get("text/html", ""))
                    else:
                        printed[frame.type].append(frame.payload.decode())
                        shown.append(frame.payload.decode())
        return Outcome(objects, printed[b"O"], "".join(printed[b"E"]), "".join(shown))

    def leave(self, context: str, code: str) -> None:
        """As soon as the cell has begun."""
        with self._client.stream("POST", f"/contexts/{context}/execute", json={"code": code}) as response:
            next(response.iter_bytes())

    def come_and_go(self, number: int) -> None:
        name = f"c{number}"
        self.call("POST", "/contexts", {"id": name})
        if number % 20 == 0:
            assert self.execute(name, "import subprocess; subprocess.Popen(['sleep', '1000'])").status == "ok"
        self.call("DELETE", f"/contexts/{name}")

    def left(self) -> Left:
        namespace = os.readlink(f"/proc/{self.pid}/ns/pid")
        inside = [each for each in Path("/proc").iterdir() if each.name.isdigit() and is_in(namespace, each)]
        descriptors = sum(map(descriptors_of, inside))
        return Left(self.call("GET", "/stats")["processes"], descriptors, memory_of(self.pid))

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def place(stack: Stack, code_interpreter_v1: str) -> Iterator[Box]:
    with stack.box(code_interpreter_v1, memory_mib=4096) as box:
        yield box


@pytest.fixture(scope="module")
def agent(stack: Stack, place: Box) -> Iterator[Agent]:
    """Its languages' contexts are started together: that costs what the slowest one does."""
    made = Agent(stack, place)
    with ThreadPoolExecutor(len(LANGUAGES)) as pool:
        wishes = [{"id": language, "language": language, "cwd": CWD} for language in LANGUAGES]
        list(pool.map(lambda wish: made.call("POST", "/contexts", wish), wishes))
    yield made
    made.close()


PROGRAMS: dict[str, dict[str, str]] = {
    "javascript": {
        "print": "console.log(6 * 7)",
        "remember": "globalThis.kept = 5",
        "recall": "console.log(kept)",
        "fail": "throw new RangeError('too far')",
        "spin": "for (;;) {}",
        "env": "console.log(process.env.GIVEN ?? 'none')",
        "where": "console.log(Deno.cwd())",
        "die": "Deno.exit(3)",
    },
    "typescript": {
        "print": "const answer: number = 6 * 7; console.log(answer)",
        "remember": "var kept: number = 5",
        "recall": "console.log(kept)",
        "fail": "throw new RangeError('too far')",
        "spin": "for (;;) {}",
        "env": "console.log(Deno.env.get('GIVEN') ?? 'none')",
        "where": "console.log(Deno.cwd())",
        "die": "Deno.exit(3)",
    },
    "bash": {
        "print": "echo $((6 * 7))",
        "remember": "kept=5",
        "recall": "echo $kept",
        "fail": "ls /none-such 2>/dev/null",
        "spin": "while :; do :; done",
        "env": "echo ${GIVEN-none}",
        "where": "pwd",
        "die": "kill -9 $PPID",
    },
    "r": {
        "print": "cat(6 * 7, '\\n', sep = '')",
        "remember": "kept <- 5",
        "recall": "cat(kept, '\\n', sep = '')",
        "fail": "stop('too far')",
        "spin": "while (TRUE) {}",
        "env": "cat(Sys.getenv('GIVEN', 'none'), '\\n', sep = '')",
        "where": "cat(getwd(), '\\n', sep = '')",
        "die": "tools::pskill(Sys.getpid(), 9)",
    },
    "java": {
        "print": "System.out.println(6 * 7);",
        "remember": "int kept = 5;",
        "recall": "System.out.println(kept);",
        "fail": 'throw new IllegalStateException("too far");',
        "spin": "while (true) {}",
        "env": 'System.out.println(System.getenv("GIVEN") == null ? "none" : System.getenv("GIVEN"));',
        "where": 'System.out.println(new java.io.File(".").getCanonicalPath());',
        "die": "System.exit(3);",
    },
}
LANGUAGES = tuple(PROGRAMS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_prints_remembers_and_starts_in_its_directory(agent, language):
    program = PROGRAMS[language]
    for code, printed in (("print", "42\n"), ("remember", ""), ("recall", "5\n"), ("where", f"{CWD}\n")):
        done = agent.execute(language, program[code])
        assert (done.stdout, done.stderr, done.status) == (printed, "", "ok"), code


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_error_is_told_with_name_value_and_traceback(agent, language):
    done = agent.execute(language, PROGRAMS[language]["fail"])
    assert done.status == "error"
    assert set(done.error) == {"type", "name", "value", "traceback"}
    assert done.error["value"] == "2" if language == "bash" else "too far" in done.error["value"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_variables_of_one_execution_are_taken_back(agent, language):
    value = 'it\'s "quoted" $HOME `x` \\ é☃'
    assert agent.execute(language, PROGRAMS[language]["env"], env={"GIVEN": value}).stdout == f"{value}\n"
    assert agent.execute(language, PROGRAMS[language]["env"]).stdout == "none\n"


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_endless_cell_ends_at_its_time_limit_and_the_state_stays(agent, language):
    agent.execute(language, PROGRAMS[language]["remember"])
    assert agent.execute(language, PROGRAMS[language]["spin"], timeout_s=0.3).status == "timed_out"
    assert agent.execute(language, PROGRAMS[language]["recall"]).stdout == "5\n"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_caller_that_leaves_at_once_interrupts_the_cell_and_the_state_stays(agent, language):
    agent.execute(language, PROGRAMS[language]["remember"])
    agent.leave(language, "sleep 1000" if language == "bash" else PROGRAMS[language]["spin"])
    assert agent.execute(language, PROGRAMS[language]["recall"], wait=True).stdout == "5\n"


@pytest.mark.parametrize("language", ["javascript", "r", "bash"])
def test_all_output_arrives_before_the_end(agent, language):
    many = {
        "javascript": "for (let n = 0; n < 5000; n++) console.log(n)",
        "r": "for (n in 0:4999) cat(n, '\\n', sep = '')",
        "bash": "seq 0 4999",
    }
    expected = "".join(f"{n}\n" for n in range(5000))
    assert agent.execute(language, many[language]).stdout == expected


def test_displays_and_output_keep_their_order(agent):
    code = "\n".join(f"cat('{n}\\n')\nIRdisplay::display_html('<{n}>')" for n in range(20))
    assert agent.execute("r", code).shown == "".join(f"{n}\n<{n}>" for n in range(20))


def test_the_last_value_is_the_result(agent):
    for language, code in (("javascript", "6 * 7"), ("typescript", "6 * 7"), ("java", "6 * 7")):
        (result,) = [each for each in agent.execute(language, code).objects if each["type"] == "result"]
        assert result["data"]["text/plain"] == "42"


def test_what_each_piece_of_output_was_is_kept(agent):
    assert agent.execute("java", 'System.out.println("a"); System.out.println("b");').pieces == ["a", "\n", "b", "\n"]


def test_the_ports_of_kernels_are_no_services(place, agent):
    listening = dict(line.rsplit(":", 1)[::-1] for line in place.sh("ss -ltnH | awk '{print $4}'").split())
    theirs = [int(port) for port, address in listening.items() if address not in ("127.0.0.1", "[::1]")]
    assert len(theirs) == 5 * len(LANGUAGES)
    assert agent.call("GET", "/ports") == {"ports": []}
    assert agent.refused("POST", f"/ports/{theirs[0]}/connect")["kind"] == "not_found"


def test_a_language_without_a_kernel_is_refused_by_what_there_is(agent):
    told = agent.refused("POST", "/contexts", {"language": "julia"})
    assert told["kind"] == "unsupported"
    assert told["message"].endswith(
        "there are: python, and the kernels bash, deno (typescript), ir (r), java, javascript"
    )


@pytest.mark.parametrize("language", ["javascript", "typescript"])
def test_code_that_deno_cannot_parse_is_told_with_its_place(agent, language):
    error = agent.execute(language, "1\nlet x = ;").error
    assert (error["name"], error["value"]) == ("SyntaxError", "Expression expected")
    assert error["traceback"].endswith("2 | let x = ;\n  |         ~\n    at <anonymous>:2:9")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_kernel_that_dies_is_told_and_comes_anew(agent, language):
    """The last test of each: the kernels' next starts are the price."""
    done = agent.execute(language, PROGRAMS[language]["die"])
    assert (done.error["name"], done.status) == ("ContextDied", "died")


def test_kernels_that_are_removed_leave_nothing(place, agent):
    """Also not what has made itself independent."""
    agent.execute("bash", "mktemp -p $TMPDIR 2>/dev/null; setsid sleep 1000 & disown")
    agent.execute("r", "writeLines('x', tempfile())")
    before = set(place.sh("ls -A /tmp").split())
    for context in agent.call("GET", "/contexts")["contexts"]:
        agent.call("DELETE", f"/contexts/{context['id']}")
    running = place.sh("ps -eo ppid,args").splitlines()
    assert not [line for line in running if re.search(r"sleep 1000|jupyter|kernel[.]py|exec/R|jshell", line)]
    assert not any(name.startswith("atoll-kernel") for name in place.sh("ls -A /tmp").split()), before
    assert agent.call("GET", "/stats")["processes"] == 0


def test_a_thousand_contexts_leave_nothing(stack, code_interpreter_v1):
    with stack.box(code_interpreter_v1) as box:
        agent = Agent(stack, box)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(agent.come_and_go, range(40)))  # what grows once and stays
            before = agent.left()
            list(pool.map(agent.come_and_go, range(1000)))
            after = agent.left()
        agent.close()
        assert after.descriptors <= before.descriptors + CONNECTIONS
        assert after.processes == before.processes == 0
        assert after.memory_bytes - before.memory_bytes < 4 * 2**20, "4 KiB for each: less than one that was forgotten"
        assert box.sh("ls -A /tmp") == ""
