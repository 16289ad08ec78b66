"""An agent's whole session with the unmodified `e2b` package, fifty steps in one sandbox and nothing tried twice; and a
hundred streams at once.

The client is told to try nothing again (`retries=0`, E2B_CONNECTION_RETRIES=0): whatever would have made it do so is an
error of the step. The edge's log says the same from the other side: each refusal in it is one that a step asks for.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

import leaving
from names import DOMAIN, Resolver
from stack import Stack, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

SESSION = Path(__file__).parent / "sessions" / "e2b_agent.py"
STREAMS = SESSION.with_name("e2b_streams.py")
LARGEST_KIB = 64 * 1024
"""Of the contents that come; both ways of them end with one of that size."""
EDGE_KIB, AGENT_KIB = 64 * 1024, 16 * 1024
"""What a hundred streams may take at most: whoever kept one of the largest would need more."""
STEPS = 50
START = "POST /process.Process/Start"
LEFT = 499
REFUSED = {
    (404, "POST /filesystem.Filesystem/Stat"): 2,  # what is not there, or not any more
    (404, "GET /files"): 1,
    (409, "POST /filesystem.Filesystem/MakeDir"): 1,
    (404, "POST /process.Process/SendSignal"): 1,
    (502, "GET /health"): 2,  # paused, and ended
    (404, "DELETE /sandboxes/ID"): 1,
}


def test_an_agents_session_of_fifty_steps_never_tries_anything_twice(named_stack: Stack, names: Resolver):
    said = names.run(*leaving.PYTHON, str(SESSION), **by_name(named_stack))
    lines = [line.split() for line in said.splitlines()]
    sandbox_id = next(line[0] for line in lines if len(line) == 1)
    assert len(lines) - 1 >= STEPS
    log = named_stack.installation.places.access_log
    last = (404, "DELETE /sandboxes/ID")
    until(lambda: last in requests(log, sandbox_id), "the last answer is in the log")
    answers = Counter(requests(log, sandbox_id))
    # A client leaves streams of its own accord: a command out of time, a job that goes on, what ends with the sandbox.
    assert all(what == START for status, what in answers if status == LEFT)
    refused = {each: count for each, count in answers.items() if each[0] >= 400 and each[0] != LEFT}
    assert refused == REFUSED


def test_a_hundred_streams_at_once_bring_every_byte_in_its_place(named_stack: Stack, names: Resolver):
    (edge,) = named_stack.installation.pids("edge")
    Path(f"/proc/{edge}/clear_refs").write_text("5")  # its peak begins anew
    before = peak_kib(edge)
    streams, size, grown = map(int, names.run(*leaving.PYTHON, str(STREAMS), **by_name(named_stack)).split())
    assert streams == 100
    assert size > 2 * LARGEST_KIB * 1024
    assert grown < AGENT_KIB
    assert peak_kib(edge) - before < EDGE_KIB


def by_name(stack: Stack) -> dict[str, str]:
    """What a user of the package sets, and that it is to try nothing twice."""
    return {
        "E2B_DOMAIN": f"{DOMAIN}:{stack.port}",
        "E2B_API_KEY": stack.installation.api_key,
        "SSL_CERT_FILE": str(stack.installation.places.tls / "ca.pem"),
        "E2B_CONNECTION_RETRIES": "0",
    }


def peak_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def requests(log: Path, sandbox_id: str) -> list[tuple[int, str]]:
    """About the sandbox: the answer's status, and what was asked for."""
    whole, _, _ = log.read_text().rpartition("\n")  # what is behind it may be a line that is being written
    return [
        (line["status"], f"{line['method']} {line['path'].replace(sandbox_id, 'ID')}")
        for line in map(json.loads, whole.splitlines())
        if sandbox_id in (line["sandbox"], *line["path"].split("/"))
    ]
