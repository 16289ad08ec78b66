"""Ceilings for cpu, memory and processes, freezing, and the certain end of everything in a sandbox.

Version 2 where its controllers are there, version 1 (hybrid) otherwise. Either way a sandbox has one
directory per hierarchy: `atoll-INSTALLATION/ID`. Values come from `plan`, which is pure.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atoll.core.limits import Limits

from .privileges import acting_as

ROOT = Path("/sys/fs/cgroup")
MOST_TCP_MIB = 128
CONTROLLERS = ("cpu", "memory", "pids")
V1_HIERARCHIES = (*CONTROLLERS, "freezer")
MEMORY_LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}
CPU_PERIOD_US = 100_000
FREEZE_TIMEOUT_S = 5.0
REMOVE_TIMEOUT_S = 10.0
LOOKS_AT_ONCE = 20
"""A freeze takes some tens of microseconds when there is little to freeze."""
EVACUATED = "init"
EVACUATIONS = 5
"""A process may fork while the others move."""


class CgroupUnavailable(RuntimeError):
    pass


@dataclass(frozen=True)
class Setting:
    controller: str
    file: str
    value: str
    optional: bool = False
    """Swap accounting is a boot option on many kernels."""


def plan(limits: Limits, version: int) -> tuple[Setting, ...]:
    quota = str(limits.vcpu * CPU_PERIOD_US)
    memory = str(limits.memory_mib << 20)
    if version == 2:
        return (
            Setting("cpu", "cpu.max", f"{quota} {CPU_PERIOD_US}"),
            Setting("memory", "memory.max", memory),
            Setting("memory", "memory.swap.max", "0", optional=True),
            Setting("pids", "pids.max", str(limits.processes)),
        )
    return (
        Setting("cpu", "cpu.cfs_period_us", str(CPU_PERIOD_US)),
        Setting("cpu", "cpu.cfs_quota_us", quota),
        Setting("memory", "memory.limit_in_bytes", memory),
        Setting("memory", "memory.memsw.limit_in_bytes", memory, optional=True),
        Setting("memory", "memory.swappiness", "0", optional=True),
        Setting("memory", "memory.kmem.tcp.limit_in_bytes", str(tcp_memory(limits)), optional=True),
        Setting("pids", "pids.max", str(limits.processes)),
    )


def memory_plan(limits: Limits, version: int, raised: bool) -> tuple[Setting, ...]:
    """Of a group that is in use. Version 1 wants memory and swap together never below memory alone, so which of the two
    goes first depends on the direction."""
    settings = [setting for setting in plan(limits, version) if setting.controller == "memory"]
    if version == 1 and raised:
        settings.sort(key=lambda setting: "memsw" not in setting.file)
    if version == 2:
        settings.append(Setting("memory", "memory.high", "max"))  # of a change that was cut off
    return tuple(settings)


def tcp_memory(limits: Limits) -> int:
    """What waits in a sandbox's sockets. The kernel's memory for TCP is one for the whole host, and version 1 does not
    count it with the other; version 2 does."""
    return min(limits.memory_mib // 4, MOST_TCP_MIB) << 20


def detect_version(root: Path = ROOT) -> int:
    controllers = root / "cgroup.controllers"
    if controllers.exists():
        missing = set(CONTROLLERS) - set(controllers.read_text().split())
        if missing:
            raise CgroupUnavailable(f"cgroup v2 lacks the controllers {', '.join(sorted(missing))}")
        return 2
    missing = {name for name in V1_HIERARCHIES if not (root / name / "tasks").exists()}
    if missing:
        raise CgroupUnavailable(f"no cgroup hierarchy for {', '.join(sorted(missing))} under {root}")
    return 1


class Cgroups:
    def __init__(self, installation: str, root: Path = ROOT) -> None:
        self.version = detect_version(root)
        self.root = root
        self.parent_name = f"atoll-{installation}"
        if self.version == 2:
            _enable_controllers(root)
        for parent in self._parents():
            parent.mkdir(exist_ok=True)
        if self.version == 2:
            _enable_controllers(root / self.parent_name)

    def _parents(self) -> list[Path]:
        if self.version == 2:
            return [self.root / self.parent_name]
        return [self.root / name / self.parent_name for name in V1_HIERARCHIES]

    def of(self, sandbox_id: str) -> Cgroup:
        return Cgroup(self.version, {parent.parent.name: parent / sandbox_id for parent in self._parents()})

    def names(self) -> set[str]:
        return {
            entry.name for parent in self._parents() if parent.is_dir() for entry in parent.iterdir() if entry.is_dir()
        }

    def remove(self) -> None:
        """The parents themselves, when nothing is left below them."""
        for parent in self._parents():
            with contextlib.suppress(OSError):
                parent.rmdir()


def _enable_controllers(directory: Path) -> None:
    control = directory / "cgroup.subtree_control"
    missing = set(CONTROLLERS) - set(control.read_text().split())
    if not missing:
        return
    for _ in range(EVACUATIONS):
        try:
            _write(control, " ".join(f"+{name}" for name in sorted(missing)))
            return
        except OSError as error:
            if error.errno != errno.EBUSY or not (directory / "cgroup.type").exists():
                raise
            _evacuate(directory)
    raise CgroupUnavailable(f"processes keep appearing in {directory}, so its children get no controllers")


def _evacuate(directory: Path) -> None:
    """Version 2 gives controllers to the children of a group without processes only, the machine's root excepted
    (which has no `cgroup.type`). So it is met in a container, whose processes are in what it sees as the root:
    they go to a child of it."""
    child = directory / EVACUATED
    child.mkdir(exist_ok=True)
    for pid in (directory / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            _write(child / "cgroup.procs", pid)


class Cgroup:
    def __init__(self, version: int, directories: dict[str, Path]) -> None:
        self.version = version
        self.directories = directories

    def _directory(self, controller: str) -> Path:
        return next(iter(self.directories.values())) if self.version == 2 else self.directories[controller]

    def create(self, limits: Limits) -> None:
        self.make()
        self._apply(plan(limits, self.version))

    def _apply(self, settings: tuple[Setting, ...]) -> None:
        for setting in settings:
            try:
                _write(self._directory(setting.controller) / setting.file, setting.value)
            except OSError:
                if not setting.optional:
                    raise

    def set_memory(self, limits: Limits) -> bool:
        """Of a group that is in use. False: more is used than can be taken back, and nothing has changed. It may take
        a while, in which the kernel looks for memory that can go."""
        now = int((self._directory("memory") / MEMORY_LIMIT[self.version]).read_text())
        wanted = limits.memory_mib << 20
        if wanted < now and not self._gives_back(wanted):
            return False
        try:
            self._apply(memory_plan(limits, self.version, wanted > now))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    def _gives_back(self, wanted: int) -> bool:
        """Version 1 refuses a limit below what is used; version 2 would kill programs until it holds."""
        if self.version == 1:
            return True
        directory = self._directory("memory")
        _write(directory / "memory.high", str(wanted))
        try:
            return int((directory / "memory.current").read_text()) <= wanted
        finally:
            self.unthrottle()

    def unthrottle(self) -> None:
        """After a change of memory that may have been ended half way."""
        if self.version == 2:
            with contextlib.suppress(FileNotFoundError):
                _write(self._directory("memory") / "memory.high", "max")

    def make(self, processes: int | None = None) -> None:
        """Without limits, or with that one alone: a name for whoever is in it."""
        for directory in self.directories.values():
            directory.mkdir(exist_ok=True)
        if processes is not None:
            self._apply((Setting("pids", "pids.max", str(processes)),))

    def enter(self) -> None:
        """By a process that is root of the host still."""
        for directory in self.directories.values():
            _write(directory / ("cgroup.procs" if self.version == 2 else "tasks"), "0")

    def doors(self, owner: int) -> list[int]:
        """Version 1: descriptors by which a single-threaded process of `owner` puts itself in, by writing 0.

        Moving another process takes a lock that waits for an RCU grace period (8.5 ms here, median);
        a thread that moves itself does not. The kernel checks the rights of who opened the file. Opened by root they
        would be doors for any process of the host, and whoever holds them runs a template's files.
        """
        if self.version == 2:
            return []
        with acting_as(owner):
            return [os.open(directory / "tasks", os.O_WRONLY | os.O_CLOEXEC) for directory in self.directories.values()]

    def attach(self, pid: int) -> None:
        """Version 2, from outside."""
        if self.version == 2:
            _write(self._directory("cpu") / "cgroup.procs", str(pid))

    def pids(self) -> Iterator[int]:
        for directory in self.directories.values():
            with contextlib.suppress(OSError):
                yield from (int(line) for line in (directory / "cgroup.procs").read_text().split())

    async def freeze(self) -> None:
        """All or nothing: a sandbox that cannot be frozen in time runs on."""
        try:
            await self._freeze()
        except BaseException:
            with contextlib.suppress(OSError):
                await self.thaw()
            raise

    async def _freeze(self) -> None:
        if self.version == 2:
            directory = self._directory("freezer")
            _write(directory / "cgroup.freeze", "1")
            await _until(lambda: "frozen 1" in (directory / "cgroup.events").read_text(), FREEZE_TIMEOUT_S)
        else:
            state = self._directory("freezer") / "freezer.state"
            _write(state, "FROZEN")
            await _until(lambda: state.read_text().strip() == "FROZEN", FREEZE_TIMEOUT_S)

    async def thaw(self) -> None:
        if self.version == 2:
            _write(self._directory("freezer") / "cgroup.freeze", "0")
        else:
            _write(self._directory("freezer") / "freezer.state", "THAWED")

    async def thaw_if_frozen(self) -> None:
        """A killed process dies when it thaws. Asked first: thawing what is not frozen takes 4 ms on version 1."""
        if self.frozen():
            with contextlib.suppress(OSError):
                await self.thaw()

    def frozen(self) -> bool:
        """Or about to be."""
        with contextlib.suppress(OSError):
            if self.version == 2:
                return (self._directory("freezer") / "cgroup.freeze").read_text().strip() == "1"
            return (self._directory("freezer") / "freezer.state").read_text().strip() != "THAWED"
        return False

    def usage(self) -> dict[str, int | float]:
        if self.version == 2:
            stat = dict(line.split() for line in (self._directory("cpu") / "cpu.stat").read_text().splitlines())
            cpu, memory, cache = int(stat["usage_usec"]) / 1e6, "memory.current", "file"
        else:
            # cpuacct is mounted apart from cpu on some hosts; the processes' own clocks serve everywhere.
            cpu, memory, cache = sum(map(_cpu_seconds, set(self.pids()))), "memory.usage_in_bytes", "total_cache"
        kinds = dict(line.split() for line in (self._directory("memory") / "memory.stat").read_text().splitlines())
        return {
            "cpu_seconds": cpu,
            "memory_bytes": int((self._directory("memory") / memory).read_text()),
            "memory_cache_bytes": int(kinds.get(cache, 0)),
            "processes": int((self._directory("pids") / "pids.current").read_text()),
        }

    async def destroy(self) -> None:
        """Kills what is left and removes the directories. Idempotent."""
        self._kill()
        await self.thaw_if_frozen()
        await _until(self.remove, REMOVE_TIMEOUT_S)

    def kill(self) -> None:
        """All at once, beside PID 1 and not after it. Who forks meanwhile ends with PID 1."""
        if self.version == 2:
            self._kill()
            return
        with contextlib.suppress(OSError):
            for line in (self._directory("pids") / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(line), signal.SIGKILL)

    def _kill(self) -> None:
        if self.version == 2:
            # All at once: who forks meanwhile does not escape.
            with contextlib.suppress(FileNotFoundError):
                _write(self._directory("pids") / "cgroup.kill", "1")
            return
        for pid in set(self.pids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self) -> bool:
        """False while something still runs in it."""
        for directory in self.directories.values():
            try:
                directory.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno == errno.EBUSY:
                    return False
                raise
        return True


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _write(path: Path, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


async def _until(condition: object, timeout_s: float) -> None:
    """cgroup v1 has no event for 'frozen' or 'empty', so its files are read again until they say so."""
    assert callable(condition)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    delay, looks = 0.0005, 1
    while not condition():
        if loop.time() > deadline:
            raise TimeoutError("the kernel did not reach the asked state of a cgroup in time")
        await asyncio.sleep(delay if looks > LOOKS_AT_ONCE else 0)
        delay, looks = min(delay * 2, 0.02) if looks > LOOKS_AT_ONCE else delay, looks + 1
