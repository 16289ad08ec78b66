"""Health, figures, the sandbox-wide environment, and whether anything still runs."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, replace

from atoll import __version__
from atoll.agent import system
from atoll.agent.errors import AgentError, Kind
from atoll.agent.http_server import JsonObject, Request
from atoll.agent.services import Services
from atoll.agent.trust import TrustStore

CACHE_MAX_AGE_S = 30.0  # of its figures among the others: counting its files may take long


async def health(services: Services, request: Request) -> JsonObject:
    del request
    uptime_s = time.monotonic() - services.started
    return {"status": "ok", "version": __version__, "uptime_s": uptime_s, "python": services.contexts.available}


async def stats(services: Services, request: Request) -> JsonObject:
    del request
    kept = (await services.cache.measure(CACHE_MAX_AGE_S)).total
    table = system.read_processes()
    disk = os.statvfs(services.config.workdir if os.path.isdir(services.config.workdir) else "/")
    return {
        "uptime_s": time.monotonic() - services.started,
        "cpu_seconds": system.cpu_seconds(table),
        "memory_bytes": system.memory_bytes(table, services.users),
        "memory_limit_bytes": services.config.memory_limit_bytes,
        "processes": len(_somebodys(services, table)),
        "open_files": system.open_files(services.own_pid),
        "disk_total_bytes": disk.f_blocks * disk.f_frsize,
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        "load1": system.load1(),
        "requests_total": services.counters.requests,
        "errors_total": services.counters.errors,
        "processes_started_total": services.processes.started_total,
        "cells_total": services.contexts.cells_total,
        "cache_hits": services.cache.compiled.hits,
        "cache_misses": services.cache.compiled.misses,
        "cache_bytes": kept.bytes,
        "cache_entries": kept.entries,
        "executing": services.processes.executing + services.contexts.busy,
        "failures_total": services.processes.failed_total + services.contexts.cells_failed_total,
        "vcpus": services.config.vcpus,
    }


async def about(services: Services, request: Request) -> JsonObject:
    """What this place is: the template's system, not the host's."""
    del request
    kernel, workdir = os.uname(), services.config.workdir
    disk = os.statvfs(workdir if os.path.isdir(workdir) else "/")
    return {
        "os": system.os_release(),
        "kernel": kernel.release,
        "arch": kernel.machine,
        "hostname": kernel.nodename,
        "timezone": system.timezone(),
        "cpu_model": system.cpu_model(),
        "vcpus": services.config.vcpus or len(os.sched_getaffinity(0)),
        "memory_limit_bytes": services.config.memory_limit_bytes,
        "disk_total_bytes": disk.f_blocks * disk.f_frsize,
        "addresses": system.addresses(),
        "user": services.users.lookup().name,
        "home": services.users.lookup().home,
        "shell": services.users.lookup().shell,
        "path": services.environment.values.get("PATH", ""),
    }


async def show_cache(services: Services, request: Request) -> JsonObject:
    del request
    measured = await services.cache.measure()
    return {
        "hits": services.cache.compiled.hits,
        "misses": services.cache.compiled.misses,
        "bytes": measured.total.bytes,
        "entries": measured.total.entries,
        "kinds": {kind: asdict(figures) for kind, figures in measured.kinds.items()},
        "complete": measured.complete,
    }


async def clear_cache(services: Services, request: Request) -> JsonObject:
    del request
    return {"removed": await services.cache.clear()}


async def get_env(services: Services, request: Request) -> JsonObject:
    del request
    return {"env": services.environment.values}


async def replace_env(services: Services, request: Request) -> JsonObject:
    services.environment.replace((await request.json()).get("env"))
    return {"env": services.environment.values}


async def merge_env(services: Services, request: Request) -> JsonObject:
    services.environment.merge((await request.json()).get("env"))
    return {"env": services.environment.values}


async def trust(services: Services, request: Request) -> JsonObject:
    services.environment.trust = _trust_store(services).add(await request.json())
    return {}


async def distrust(services: Services, request: Request) -> JsonObject:
    del request
    _trust_store(services).remove()
    services.environment.trust = {}
    return {}


def _trust_store(services: Services) -> TrustStore:
    if services.trust is None:
        raise AgentError(
            Kind.UNSUPPORTED, "this agent is not PID 1 of a sandbox: the trusted authorities are the host's"
        )
    return services.trust


async def set_limits(services: Services, request: Request) -> JsonObject:
    """The kernel enforces them from outside; this is what the figures say from now on."""
    memory = (await request.json()).get("memory_bytes")
    if not isinstance(memory, int) or isinstance(memory, bool) or memory <= 0:
        raise AgentError(Kind.INVALID, "memory_bytes is a number")
    services.config = replace(services.config, memory_limit_bytes=memory)
    return {}


async def activity(services: Services, request: Request) -> JsonObject:
    """As PID 1, whatever lives in the sandbox and is no idle interpreter was started by a call, daemons included."""
    del request
    running = services.processes.running
    if services.own_pid == 1:
        idle = services.contexts.pids()
        inside = _somebodys(services, system.read_processes())
        running = sum(stat.alive and stat.pid not in idle for stat in inside)
    return {"live": running + services.contexts.busy + services.streams}


async def system_processes(services: Services, request: Request) -> JsonObject:
    del request
    uptime_s = system.uptime_s()
    shown = _somebodys(services, system.read_processes())
    return {"processes": [system.process_row(stat, services.users, uptime_s) for stat in shown]}


def _somebodys(services: Services, table: dict[int, system.ProcStat]) -> list[system.ProcStat]:
    """Not the interpreter that waits for a first cell."""
    inside = system.started_in_sandbox(table, services.own_pid)
    return [stat for stat in inside if stat.pid != services.contexts.waiting]
