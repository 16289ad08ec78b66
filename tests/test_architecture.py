"""The rooms of `src/atoll` and the arrows between them: who may import whom, and why the missing arrows are missing.

An arrow counts wherever it stands: in a function, or for type checkers only, it is still knowledge of the other room.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "atoll"

ALLOWED: dict[str, set[str]] = {
    "core": set(),
    "wire": set(),
    "agent": {"wire"},
    "engines": {"core", "wire", "rpc"},
    "storage": {"core"},
    "egress": {"core", "wire", "rpc", "confinement"},
    "edge": {"core", "wire", "reference"},
    "node": {"core", "wire", "engines", "storage", "egress", "rpc", "listening"},
    "control": {"core", "rpc"},
    "store": {"core"},
    "dialects": {"core", "control", "reference"},
    "reference": set(),
    "sdk": {"wire"},
    "mcp": {"sdk"},
    "cli": {"sdk", "mcp", "core", "compose", "supervisor"},
    "dashboard": set(),
    "testing": {"core", "wire", "rpc", "listening"},
    # single modules
    "rpc": {"core", "wire"},
    "listening": {"core"},
    "confinement": {"engines"},
    "server": {"core", "control", "store", "dialects", "rpc"},
    "compose": {"core", "control", "store", "storage", "engines", "node", "edge", "server", "confinement"},
    "supervisor": {"core", "compose", "node", "rpc", "listening", "background"},
    "background": {"core", "compose", "node"},
}

BOTTOM = "it is the bottom: pure, known by everybody and knowing nobody"
HOSTILE = "it lives with the enemy inside the sandbox: no code of the host side goes in there"
BELOW_HTTP = "below dialects and edge nobody knows HTTP or any dialect"
ONE_MODEL = "dialects parse, call one use case and render; machines and sockets are behind the use cases"
CLIENT = "the command line is a client: it composes or it calls the API, it does not reach into rooms"
ROOT = "only the composition root knows the configuration and everything that is built"
NO_MACHINE = "the control plane speaks to nodes through the Protocols of core, wherever they are"
ONE_DISK = "it acts on this machine for the node; who asked and why is not its business"
TRAFFIC = "the edge believes its routing table and carries bytes; it holds no database and owns no sandbox"
FAKES = "fakes stand in for rooms, so they cannot be built from them"
OUTSIDE = "it uses the public API from outside, like any program"

REASONS: dict[str, str] = {
    "core": BOTTOM,
    "wire": BOTTOM,
    "agent": HOSTILE,
    "engines": ONE_DISK,
    "storage": ONE_DISK,
    "egress": ONE_DISK,
    "edge": TRAFFIC,
    "node": "the node owns sandboxes; keys, quotas, dialects and clients are the server's and the edge's",
    "control": NO_MACHINE,
    "store": "it keeps what it is given; rules are in control",
    "dialects": ONE_MODEL,
    "reference": "it turns a description into a document and a page; what is described is the surfaces' own",
    "sdk": OUTSIDE,
    "mcp": OUTSIDE,
    "cli": CLIENT,
    "dashboard": OUTSIDE,
    "testing": FAKES,
    "rpc": BOTTOM,
    "listening": BOTTOM,
    "confinement": "it gives up powers before anything else is there",
    "server": "the server is control plane and store behind a dialect; machines are the node's",
    "compose": "it starts the parts; the command line and the supervisor are above it",
    "supervisor": "it keeps processes; what they do is composed in compose",
    "background": "it runs one command of ours beside the roles and tells what became of it",
}

# One missing arrow can matter more than its room's general reason.
SPECIAL: dict[tuple[str, str], str] = {
    ("control", "dialects"): BELOW_HTTP,
    ("node", "dialects"): BELOW_HTTP,
    ("node", "compose"): ROOT,
    ("edge", "compose"): ROOT,
    ("server", "compose"): ROOT,
    ("node", "store"): "nodes report to the server and hold no database password",
    (
        "edge",
        "dialects",
    ): "the in-sandbox surfaces of the edge answer for agents; control-plane dialects are the server's",
    ("dialects", "store"): "a dialect has no rules and no rows of its own",
}

# Single files that may know one room more than their own room may.
EXCEPTIONS: dict[tuple[str, str], str] = {
    (
        "engines/native/agent_zygote.py",
        "agent",
    ): "a zygote is what it will bear: it loads the agent before the first fork",
    ("engines/native/interpreter_zygote.py", "agent"): "the same for the runner of cells",
    ("engines/native/zygote.py", "agent"): "and for what its forks need to share its memory with it again",
    **{
        ("testing/plane.py", room): "a real control plane around a fake node: a small composition root"
        for room in ("control", "store", "server")
    },
}

# These are standard library and their own room only: they run where nothing is installed.
STDLIB_ONLY = ("core", "wire", "reference", "agent", "engines", "rpc", "listening", "confinement")
BUNDLED: dict[str, set[str]] = {
    # The runner is loaded by the template's interpreter and shows what the template has, if it has it.
    "agent/runner": {"IPython", "matplotlib", "matplotlib_inline", "numpy", "pandas", "PIL", "traitlets"},
}


@dataclass(frozen=True)
class Import:
    path: Path
    line: int
    module: str

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(PACKAGE.parent)}:{self.line}"


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path: Path) -> Iterator[Import]:
    package = ["atoll", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "atoll":
                for alias in node.names:
                    yield Import(path, node.lineno, f"atoll.{alias.name}")
            else:
                yield Import(path, node.lineno, module)


def target(module: str) -> str | None:
    """The room an import leads to; None for the package's own face (its version) and for other packages."""
    parts = module.split(".")
    if parts[0] != "atoll" or len(parts) < 2 or parts[1].startswith("__"):
        return None
    return parts[1]


def reason(room: str, other: str) -> str:
    return SPECIAL.get((room, other), REASONS[room])


def test_every_room_is_in_the_table_with_a_reason() -> None:
    rooms = {room_of(path) for path in sources()}
    assert rooms - ALLOWED.keys() == set()
    assert ALLOWED.keys() == REASONS.keys()
    assert all(others <= ALLOWED.keys() for others in ALLOWED.values())


def test_the_arrows_point_one_way() -> None:
    """Followed from any room, no path of arrows leads back to it."""

    def reachable(room: str, seen: set[str]) -> set[str]:
        for other in ALLOWED[room] - seen:
            seen.add(other)
            reachable(other, seen)
        return seen

    assert [room for room in ALLOWED if room in reachable(room, set())] == []


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    wrong = [
        f"{each.place} imports {each.module}: {reason(room, other)}"
        for path in sources()
        if room_of(path) == room
        for each in imports(path)
        if (other := target(each.module)) is not None
        and other not in ALLOWED[room] | {room}
        and (path.relative_to(PACKAGE).as_posix(), other) not in EXCEPTIONS
    ]
    assert not wrong, "\n".join(wrong)


def test_a_dialect_never_imports_another() -> None:
    dialects = [path.name for path in (PACKAGE / "dialects").iterdir() if path.is_dir() and path.name[0] != "_"]
    wrong = [
        f"{each.place} imports {each.module}"
        for dialect in dialects
        for path in (PACKAGE / "dialects" / dialect).rglob("*.py")
        for each in imports(path)
        for other in dialects
        if other != dialect and f"{each.module}.".startswith(f"atoll.dialects.{other}.")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", STDLIB_ONLY)
def test_the_small_trusted_parts_need_the_standard_library_only(room: str) -> None:
    import sys

    wrong = [
        f"{each.place} imports {each.module}: it runs where nothing of ours is installed"
        for path in sources()
        if room_of(path) == room
        for each in imports(path)
        if (top := each.module.split(".")[0]) not in sys.stdlib_module_names | {"atoll"} and not bundled(path, top)
    ]
    assert not wrong, "\n".join(wrong)


def bundled(path: Path, top: str) -> bool:
    place = path.relative_to(PACKAGE).as_posix()
    return any(place.startswith(f"{prefix}/") and top in names for prefix, names in BUNDLED.items())


# ---- bans


@dataclass(frozen=True)
class Ban:
    name: str
    """Dotted, as it is written."""
    why: str
    rooms: tuple[str, ...] = ()
    """Where it is banned; everywhere when empty."""
    but: tuple[str, ...] = ()


ENVIRONMENT = (
    *("compose", "cli/main.py", "agent", "engines/native/interpreter_zygote.py", "testing/installation.py"),
    "sdk/_core/config.py",  # the SDK's own one place
)
BANS = (
    Ban("os.environ", "configuration is read in one place and handed on as data", but=ENVIRONMENT),
    Ban("os.getenv", "configuration is read in one place and handed on as data", but=ENVIRONMENT),
    Ban("os.environb", "configuration is read in one place and handed on as data", but=ENVIRONMENT),
    Ban("time.time", "a decision takes the time as an argument", ("core", "wire")),
    Ban("time.monotonic", "a decision takes the time as an argument", ("core", "wire")),
    Ban("datetime.now", "a decision takes the time as an argument", ("core", "wire")),
    Ban("datetime.utcnow", "a decision takes the time as an argument", ("core", "wire")),
    Ban("os.system", "a shell reads its input as a program"),
    Ban("os.popen", "a shell reads its input as a program"),
    Ban("asyncio.create_subprocess_shell", "a shell reads its input as a program"),
    Ban("subprocess.getoutput", "a shell reads its input as a program"),
)


def dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)) is not None:
        return f"{base}.{node.attr}"
    return None


def uses(path: Path) -> Iterator[tuple[int, str]]:
    """Names as they are written, and as `from module import name` hides them."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Attribute) and (name := dotted(node)) is not None:
            yield node.lineno, name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def is_in(path: Path, places: tuple[str, ...]) -> bool:
    place = path.relative_to(PACKAGE).as_posix()
    return any(place in (each, f"{each}.py") or place.startswith(f"{each}/") for each in places)


@pytest.mark.parametrize("ban", BANS, ids=lambda ban: ban.name)
def test_banned_names_are_not_used(ban: Ban) -> None:
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{line} uses {name}: {ban.why}"
        for path in sources()
        if (not ban.rooms or is_in(path, ban.rooms)) and not is_in(path, ban.but)
        for line, name in uses(path)
        if name == ban.name or name.endswith(f".{ban.name}") or name.startswith(f"{ban.name}.")
    ]
    assert not wrong, "\n".join(wrong)


def test_no_command_goes_through_a_shell() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{node.lineno} passes shell=: a shell reads its input as a program"
        for path in sources()
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and any(keyword.arg == "shell" for keyword in node.keywords)
    ]
    assert not wrong, "\n".join(wrong)


def test_core_and_wire_do_nothing_by_themselves() -> None:
    """Pure: no socket, process, loop or clock, so that every decision can be tested as a function."""
    banned = {
        *("asyncio", "socket", "subprocess", "threading", "select", "selectors", "signal", "ssl"),
        *("http.client", "http.server", "urllib.request"),
    }
    wrong = [
        f"{each.place} imports {each.module}"
        for path in sources()
        if room_of(path) in ("core", "wire")
        for each in imports(path)
        if {each.module, each.module.split(".")[0]} & banned
    ]
    assert not wrong, "\n".join(wrong)
