"""Pictures of the architecture, made from the code: `scripts/docs` writes docs/pictures/*.svg anew.

What a table of the code says is drawn; where it stands is said here. A state, a role or a target that has no place here
is an error.
"""

from __future__ import annotations

import ast
import ipaddress
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from atoll.compose import ROLES
from atoll.core.blocklist import BlockList
from atoll.core.lifecycle import TRANSITIONS, Event, State
from atoll.core.policy import Verdict, judge, parse
from atoll.core.settings import Places
from atoll.edge.routing import Names, Naming, classify
from scripts.drawing import Arrow, Box, box, graph, line, picture, text

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"


# ---- the life of a sandbox

PLACES: dict[State, tuple[float, float]] = {
    State.CREATING: (110, 120),
    State.RUNNING: (400, 120),
    State.PAUSED: (720, 120),
    State.STOPPED: (400, 320),
    State.ERROR: (720, 320),
    State.DELETED: (110, 320),
}
FROM_EVERYWHERE = frozenset(
    event for event in Event if all(TRANSITIONS.get((state, event)) is State.DELETED for state in State)
)
REPORTS = frozenset(event for event in Event if event.value.startswith("found_"))
BENDS: dict[tuple[State, State], tuple[float, float]] = {
    (State.RUNNING, State.PAUSED): (-34, 0.5),
    (State.PAUSED, State.RUNNING): (-34, 0.5),
    (State.RUNNING, State.STOPPED): (40, 0.5),
    (State.STOPPED, State.RUNNING): (40, 0.5),
    (State.RUNNING, State.ERROR): (30, 0.62),
    (State.ERROR, State.RUNNING): (30, 0.62),
    (State.PAUSED, State.STOPPED): (0, 0.3),
}


def lifecycle() -> str:
    ways: dict[tuple[State, State], list[str]] = defaultdict(list)
    for (state, event), after in TRANSITIONS.items():
        if state is not after and event not in FROM_EVERYWHERE | REPORTS:
            ways[state, after].append(event.value)
    boxes = {state.value: _state(state) for state in State}
    arrows = [
        Arrow(start.value, end.value, tuple(events), *BENDS.get((start, end), (0.0, 0.5)))
        for (start, end), events in ways.items()
    ]
    events = ", ".join(event.value for event in Event if event in FROM_EVERYWHERE)
    reports = ", ".join(event.value for event in Event if event in REPORTS)
    parts = [
        text(24, 36, "Life of a sandbox", "title"),
        *graph(boxes, arrows),
        text(110, 362, "from every state:", "small", "middle"),
        text(110, 377, events, "small", "middle"),
        text(
            24,
            418,
            f"What a node reports when it connects ({reports}) counts, whatever was written here last.",
            "small",
        ),
        text(24, 435, "Asking for a state that is reached already changes nothing, and is a success.", "small"),
    ]
    return picture(860, 456, "Life of a sandbox", f"States and events; core/lifecycle.py. {_said(ways)}", parts)


def _state(state: State) -> Box:
    kinds = {
        State.RUNNING: "good",
        State.PAUSED: "key",
        State.STOPPED: "key",
        State.ERROR: "bad",
        State.DELETED: "soft",
    }
    return Box(*PLACES[state], (state.value,), kinds.get(state, ""))


def _said(ways: Mapping[tuple[State, State], list[str]]) -> str:
    return " ".join(f"{start} to {end} by {', '.join(events)}." for (start, end), events in ways.items())


# ---- rooms

PITCH = 22.0


def rooms() -> str:
    allowed = _allowed()
    order = _outer_first(allowed)
    left, top = 190.0, 150.0
    size = PITCH * len(order)
    parts = [
        text(24, 36, "Rooms: who may import whom", "title"),
        text(24, 58, "A row's room may import the rooms of its dots. All dots are above the diagonal:", "small"),
        text(24, 74, "arrows point one way.", "small"),
    ]
    for number, name in enumerate(order):
        middle = PITCH * number + PITCH / 2
        parts += [
            text(left - 12, top + middle + 4, name, "code", "end"),
            text(left + middle + 4, top - 10, name, "code", turn=-60),
            line(left, top + middle, left + size, top + middle),
            line(left + middle, top, left + middle, top + size),
        ]
    for row, name in enumerate(order):
        corner = PITCH * row + 4
        parts.append(
            f'<rect class="box key" x="{left + corner:g}" y="{top + corner:g}" width="14" height="14" rx="3"/>'
        )
        parts += [
            f'<circle class="dot" cx="{left + PITCH * column + 11:g}" cy="{top + PITCH * row + 11:g}" r="4.5"/>'
            for column, other in enumerate(order)
            if other in allowed[name]
        ]
    said = " ".join(f"{name}: {', '.join(sorted(allowed[name])) or 'nobody'}." for name in order)
    return picture(left + size + 90, top + size + 24, "Rooms", f"tests/test_architecture.py. {said}", parts)


def _allowed() -> dict[str, set[str]]:
    """The table of the test, which may need packages that are not here."""
    for node in ast.parse((ROOT / "tests" / "test_architecture.py").read_text()).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "ALLOWED":
            assert isinstance(node.value, ast.Dict)
            return {
                ast.literal_eval(key): _names(value)
                for key, value in zip(node.value.keys, node.value.values, strict=True)
            }
    raise LookupError("tests/test_architecture.py has no table ALLOWED")


def _names(value: ast.expr) -> set[str]:
    return set() if isinstance(value, ast.Call) else set(ast.literal_eval(value))


def _outer_first(allowed: Mapping[str, set[str]]) -> list[str]:
    """Each before those that it imports; of the rest, who is further from the bottom, then by name."""

    def depth(name: str) -> int:
        return 1 + max((depth(other) for other in allowed[name]), default=-1)

    return sorted(allowed, key=lambda name: (-depth(name), name))


# ---- processes

PROCESSES: dict[str, tuple[float, float, tuple[str, ...]]] = {
    "client": (90, 120, ("client",)),
    "edge": (445, 120, ("edge", "listener, agent surface,", "the way in to programs")),
    "server": (110, 300, ("server", "control plane, store")),
    "node": (445, 300, ("node", "sandboxes of this machine")),
    "launcher": (445, 470, ("launcher", "host root: births, rules")),
    "egress": (835, 470, ("egress", "names, DNS, the log;", "a user of its own")),
    "sandbox": (835, 120, ("sandbox", "agent = PID 1, programs")),
    "internet": (835, 590, ("internet",)),
}
DAEMONS = ("launcher", "egress")
"""Started by the node; they outlive it."""
OUTSIDE = ("client", "sandbox", "internet")


def processes() -> str:
    places = Places(Path("DATA"), Path("RUN"))
    missing = set(PROCESSES) ^ {*ROLES, *DAEMONS, *OUTSIDE}
    if missing:
        raise LookupError(f"processes without a place, or places without a process: {sorted(missing)}")
    boxes = {name: Box(x, y, lines, _kind(name)) for name, (x, y, lines) in PROCESSES.items()}
    arrows = [
        Arrow("client", "edge", ("HTTP, WebSocket",)),
        Arrow("edge", "sandbox", (str(places.agent_socket("ID")),)),
        Arrow("edge", "server", (str(places.server_socket),)),
        Arrow("edge", "node", (str(places.dial_socket), "call-backs")),
        Arrow("server", "node", (str(places.node_socket),)),
        Arrow("node", "launcher", (str(places.launcher_socket),)),
        Arrow("node", "egress", (str(places.egress_socket),)),
        Arrow("launcher", "sandbox", ("is born by fork",), 40, 0.8),
        Arrow("sandbox", "egress", ("names, port 53",), -50, 0.5),
        Arrow("egress", "internet"),
        Arrow("egress", "edge", (str(places.ingress_socket), "URLs of sandboxes"), -40, 0.74),
    ]
    parts = [
        text(24, 36, "Processes of atoll up", "title"),
        text(24, 58, "Blue ones have no privileges, red ones act on the host. At the arrows: their sockets.", "small"),
        *graph(boxes, arrows),
    ]
    return picture(975, 630, "Processes of atoll up", "Roles of compose.py, with their sockets.", parts)


def _kind(name: str) -> str:
    if name in ROLES:
        return "bad" if ROLES[name].privileged else "key"
    return {"launcher": "bad", "egress": "key", "sandbox": "good"}.get(name, "")


# ---- the way in

ID = "a1b2c3d4e5f6a7b8c9d0"
DOMAIN = "atoll.example"
ASKED: tuple[tuple[str, str, Naming], ...] = (
    (f"3000-{ID}.{DOMAIN}", "/any", Naming()),
    (f"7777-{ID}.{DOMAIN}", "/any", Naming()),
    (f"49983-{ID}.{DOMAIN}", "/any", Naming()),
    (f"49999-{ID}.{DOMAIN}", "/any", Naming()),
    (f"{ID}.{DOMAIN}", "/any", Naming()),
    (f"anything.{DOMAIN}", "/any", Naming()),
    (DOMAIN, "/any", Naming(sandbox_id=ID, port="3000")),
    (DOMAIN, "/", Naming()),
    (DOMAIN, "/docs", Naming()),
    (DOMAIN, "/docs/agent", Naming()),
    (DOMAIN, f"/v1/sandboxes/{ID}/metrics/stream", Naming()),
    (DOMAIN, "/v1/sandboxes", Naming()),
    (DOMAIN, "/sandboxes", Naming()),
    (DOMAIN, "/volumecontent/VOLUME/path", Naming()),
    (DOMAIN, f"/s/{ID}/3000/any", Naming()),
    (DOMAIN, f"/s/{ID}/execute", Naming()),
    (DOMAIN, "/terminal", Naming()),
    (DOMAIN, "/execute", Naming(access_token=True)),
    (DOMAIN, "/any", Naming(access_token=True)),
    (DOMAIN, "/files", Naming()),
    (DOMAIN, "/any", Naming()),
    (DOMAIN, "/internal/routes", Naming()),
)
"""In the order of the rules; what becomes of each is `classify`'s word."""
TARGETS: dict[str, tuple[str, str]] = {
    "Port": ("a program in the sandbox", "good"),
    "AgentSurface": ("the sandbox's agent surface", "key"),
    "WebHost": ("its web port; its agent, with its token", "good"),
    "NoSuchSandbox": ("refused: no such sandbox", "bad"),
    "Landing": ("a friendly page", ""),
    "ControlPlane": ("the control plane", "key"),
    "Reference": ("the description of the agent surface", ""),
    "TokenSocket": ("a WebSocket of the token's sandbox", "key"),
    "TokenPort": ("E2B's agent surface of the token's sandbox", "key"),
    "TokenCode": ("the code interpreter of the token's sandbox", "key"),
    "CodeSurface": ("the sandbox's code interpreter", "key"),
    "EnvdSurface": ("the sandbox's agent surface, in E2B's words", "key"),
    "SignedFiles": ("a file of the sandbox, where it is signed", "key"),
    "VolumeContent": ("the files of a volume", ""),
    "E2B's ControlPlane": ("the control plane, in E2B's words", "key"),
    "Unknown": ("refused: nothing is there", "bad"),
}


LEFT_OUT = ("NoSuchPort", "BadNaming")
"""What is wrong in itself: a port that is none, fields that name nothing."""


def way_in() -> str:
    parts = [
        text(24, 36, "Where a request goes", "title"),
        text(24, 58, "From its head alone; the first rule that fits. Then, for a sandbox: who may enter?", "small"),
    ]
    y = 96.0
    for host, path, named in ASKED:
        words, kind = TARGETS[target_of(host, path, named)]
        parts += [
            text(24, y + 4, _shown(host, path), "code"),
            *_note(named, y),
            line(500, y, 536, y, "arrow"),
            f'<path class="head" d="M542 {y:g}L533 {y - 4:g}L533 {y + 4:g}Z"/>',
            *box(Box(712, y, (words,), kind, 330)),
        ]
        y += 44
    return picture(902, y + 4, "Where a request goes", "Requests and what edge/routing.py makes of them.", parts)


def target_of(host: str, path: str, named: Naming) -> str:
    found = classify(host, path, Names(DOMAIN), named)
    return f"E2B's {type(found).__name__}" if getattr(found, "e2b", False) else type(found).__name__


def _shown(host: str, path: str) -> str:
    return f"{host}{path}".replace(ID, "ID").replace(DOMAIN, "DOMAIN")


def _note(named: Naming, y: float) -> Iterator[str]:
    if named.sandbox_id is not None:
        yield text(488, y + 4, "with E2b-Sandbox-Id, -Port", "small", "end")
    elif named.access_token:
        yield text(488, y + 4, "with X-Access-Token", "small", "end")


# ---- the way out


@dataclass(frozen=True)
class Question:
    words: str
    address: str
    name: str | None
    """A destination that this question decides, although all later ones could have an answer too."""


DECIDED = (
    Question("Is the destination never reachable?", "10.0.0.1", "api.example.com"),
    Question("Is it on the operator's block list?", "203.0.113.66", "api.example.com"),
    Question("Does allow_out have its address?", "203.0.113.10", "api.example.com"),
    Question("Does allow_out have the name that was read?", "203.0.113.20", "api.example.com"),
    Question("Does deny_out have its address, or is access off?", "203.0.113.20", None),
)
POLICY = parse(
    {"allow_out": ["10.0.0.0/8", "203.0.113.66", "203.0.113.10", "api.example.com"], "deny_out": ["ALL_TRAFFIC"]}
)
BLOCKED = BlockList(networks=(ipaddress.ip_network("203.0.113.66/32"),))


def verdict(question: Question) -> Verdict:
    return judge(POLICY, ipaddress.ip_address(question.address), "tcp", 443, question.name, blocked=BLOCKED)


def way_out() -> str:
    parts = [
        text(24, 36, "What a sandbox reaches", "title"),
        text(24, 58, "For each connection, in this order; the first yes decides. The log shows the rule.", "small"),
    ]
    y = 106.0
    for question in DECIDED:
        found = verdict(question)
        parts += [
            *box(Box(240, y, (question.words,), width=400)),
            text(462, y - 5, "yes", "small", "middle"),
            line(440, y, 482, y, "arrow"),
            f'<path class="head" d="M488 {y:g}L479 {y - 4:g}L479 {y + 4:g}Z"/>',
            *box(Box(660, y, _outcome(found), "good" if found.allowed else "bad", 330)),
            line(240, y + 19, 240, y + 49, "arrow"),
            f'<path class="head" d="M240 {y + 55:g}L236 {y + 46:g}L244 {y + 46:g}Z"/>',
            text(250, y + 40, "no", "small"),
        ]
        y += 76
    end = judge(parse({}), ipaddress.ip_address("203.0.113.20"), "tcp", 443)
    parts += box(Box(240, y + 8, _outcome(end), "good", 400))
    return picture(850, y + 60, "What a sandbox reaches", "The order of core/policy.py, judge.", parts)


def _outcome(found: Verdict) -> tuple[str, str]:
    return "allowed" if found.allowed else "refused", f"log: {found.rule}"


# ---- all of them

ALL: Mapping[str, Callable[[], str]] = {
    "lifecycle": lifecycle,
    "rooms": rooms,
    "processes": processes,
    "way-in": way_in,
    "way-out": way_out,
}


def place(name: str) -> Path:
    return PICTURES / f"{name}.svg"


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    for name, draw in ALL.items():
        place(name).write_text(draw())


if __name__ == "__main__":
    main()
