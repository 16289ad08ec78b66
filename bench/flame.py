"""Where the processor time of a create goes: of each process, and as a flame graph (bench/results/create.svg).

What a process used is the kernel's account. What it did with it py-spy has seen, from outside, some hundred times a
second: samples in which it waited are left out, and the others share the process's time. Sandboxes live on until the
end, so that all that their own processes used belongs to their creates. Slots made anew for those that were taken are
in it; what the kernel does in threads of its own is not.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path

from bursts import client, kill_all
from drawing import Stack, flame_graph
from quiet import children, family, settle, used_ms
from report import Report

from atoll.testing.installation import Installation

PICTURE = Path(__file__).parent / "results" / "create.svg"
RATE_HZ = 200
ROLES = ("edge", "server", "node", "launcher")
ZYGOTES = {"agent_zygote": "agent zygotes", "interpreter_zygote": "interpreter zygotes", "slot_helper": "slot helpers"}
INSIDE = "in the sandboxes"
REST = "the rest"
NOISE = ("<frozen ", "asyncio/", "click/", "threading.py", "concurrent/", "uvloop/", "selectors.py", "contextlib.py")
"""Files whose frames say nothing about a create."""
LIBRARIES = {name: name for name in ("uvicorn", "sqlalchemy", "aiohttp", "pydantic", "json", "h11", "httptools")}
LIBRARIES |= dict.fromkeys(("fastapi", "starlette"), "fastapi, starlette")
"""One frame each, however deep they go."""
WAITING = (
    "select (selectors.py)",
    "_worker (concurrent",
    "receive_message (",
    "_do_waitpid (",
    "Runner.run (",
    "run (uvloop",
)


def bench_flame(report: Report, server: Installation, creates: int) -> None:
    program = shutil.which("py-spy")
    if program is None:
        raise RuntimeError("py-spy is missing: ./scripts/bench installs it")
    while (drawn := measured(server, creates, program)) is None:
        print("helpers were replaced meanwhile: once more")
    used: Counter[str] = Counter()
    for (role, *_), each in drawn:
        used[role] += each
    for role, each in used.most_common():
        report.put(f"flame: {role}", [each], "ms")
    report.put("flame: all of them", [used.total()], "ms")
    PICTURE.write_text(flame_graph(drawn, f"processor time of a create: {used.total():.1f} ms"))
    print(f"written to {PICTURE.relative_to(PICTURE.parents[2])}")


def measured(server: Installation, creates: int, program: str) -> list[Stack] | None:
    """None: a helper has ended meanwhile, and what it used is not known."""
    client(server.url, server.api_key, in_turn=3, kill=True)
    settle(server)
    roles = roles_of(server)
    before = used_ms(list(roles))
    with tempfile.TemporaryDirectory() as scratch:
        with ExitStack() as watched:
            for pid, role in roles.items():
                if role not in (INSIDE, REST):
                    watched.enter_context(watching(program, pid, Path(scratch)))
            made = client(server.url, server.api_key, in_turn=creates, code=None, kill=False)
        if made["failed"]:
            raise RuntimeError(f"{len(made['failed'])} creates failed: {made['failed'][0]}")
        ids = made["ids"]
        settle(server)
        now = roles_of(server) | roles
        after = used_ms(list(now))
        stacks = {pid: samples(Path(scratch) / str(pid)) for pid in roles}
    kill_all(server, ids)
    if not all(pid in after for pid, role in roles.items() if role != INSIDE):
        return None
    drawn: list[Stack] = []
    for pid, role in now.items():
        each = (after.get(pid, before.get(pid, 0.0)) - before.get(pid, 0.0)) / len(ids)
        drawn += shares(role, stacks.get(pid, Counter()), each)
    return drawn


def roles_of(server: Installation) -> dict[int, str]:
    """Each process's part. A sandbox's are children of a zygote, whose name they bear."""
    found = dict.fromkeys(family(server), REST)
    known = {pid: role for role in ROLES for pid in server.pids(role)}
    below = children()
    for launcher in server.pids("launcher"):
        for child in below[launcher]:
            known[child] = _zygote(child)
            left = list(below[child])
            while left:
                known[pid := left.pop()] = INSIDE
                left += below[pid]
    return {pid: known.get(pid, role) for pid, role in found.items()}


def _zygote(pid: int) -> str:
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
        return next((name for mark, name in ZYGOTES.items() if mark in command), REST)
    return REST


@contextmanager
def watching(program: str, pid: int, directory: Path) -> Iterator[None]:
    """Of a process that it cannot read – one that runs through a loader of its own – there will be no samples."""
    command = [program, "record", "--pid", str(pid), "--format", "raw", "--rate", str(RATE_HZ), "--nolineno"]
    command += ["--nonblocking", "--duration", "600", "--output", str(directory / str(pid))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun, or failed
        yield
        process.send_signal(signal.SIGINT)
        process.communicate()


def samples(file: Path) -> Counter[tuple[str, ...]]:
    """Stacks, outermost first, without those that waited."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in file.read_text().splitlines() if file.exists() else ():
        stack, _, number = line.rpartition(" ")
        frames = stack.split(";")
        if not _waits(frames[-1]):
            shown = [_named(frame) for frame in frames if not _is_noise(frame)]
            found[tuple(name for name, _ in groupby(shown))] += int(number)
    return found


def _waits(frame: str) -> bool:
    return frame.startswith(WAITING) or any(f".{mark}" in frame for mark in WAITING)


def _named(frame: str) -> str:
    name, _, file = frame.rstrip(")").partition(" (")
    library = file.partition("/")[0]
    return LIBRARIES.get(library) or f"{name} ({file.removeprefix('atoll/')})"


def _is_noise(frame: str) -> bool:
    return frame.startswith("<module>") or frame.partition(" (")[2].startswith(NOISE)


def shares(role: str, found: Counter[tuple[str, ...]], ms: float) -> list[Stack]:
    if not found:
        return [((role,), ms)]
    total = found.total()
    return [((role, *frames), ms * number / total) for frames, number in found.items()]
