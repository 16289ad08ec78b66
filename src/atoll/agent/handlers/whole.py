"""Health, figures, the sandbox-wide environment, and whether anything still runs."""

from __future__ import annotations

import os
import time

from atoll import __version__
from atoll.agent import system
from atoll.agent.http_server import JsonObject, Request
from atoll.agent.services import Services


async def health(services: Services, request: Request) -> JsonObject:
    del request
    uptime_s = time.monotonic() - services.started
    return {"status": "ok", "version": __version__, "uptime_s": uptime_s, "python": services.contexts.available}


async def stats(services: Services, request: Request) -> JsonObject:
    del request
    table = system.read_processes()
    disk = os.statvfs(services.config.workdir if os.path.isdir(services.config.workdir) else "/")
    return {
        "cpu_seconds": system.cpu_seconds(table),
        "memory_bytes": system.memory_bytes(table, services.users),
        "memory_limit_bytes": services.config.memory_limit_bytes,
        "processes": len(system.started_in_sandbox(table, services.own_pid)),
        "open_files": system.open_files(services.own_pid),
        "disk_total_bytes": disk.f_blocks * disk.f_frsize,
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        "load1": system.load1(),
        "requests_total": services.counters.requests,
        "errors_total": services.counters.errors,
        "processes_started_total": services.processes.started_total,
        "cells_total": services.contexts.cells_total,
    }


async def get_env(services: Services, request: Request) -> JsonObject:
    del request
    return {"env": services.environment.values}


async def replace_env(services: Services, request: Request) -> JsonObject:
    services.environment.replace((await request.json()).get("env"))
    return {"env": services.environment.values}


async def merge_env(services: Services, request: Request) -> JsonObject:
    services.environment.merge((await request.json()).get("env"))
    return {"env": services.environment.values}


async def activity(services: Services, request: Request) -> JsonObject:
    """As PID 1, whatever lives in the sandbox and is no idle interpreter was started by a call, daemons included."""
    del request
    running = services.processes.running
    if services.own_pid == 1:
        idle = services.contexts.pids()
        inside = system.started_in_sandbox(system.read_processes(), services.own_pid)
        running = sum(stat.alive and stat.pid not in idle for stat in inside)
    return {"live": running + services.contexts.busy + services.streams}


async def system_processes(services: Services, request: Request) -> JsonObject:
    del request
    uptime_s = system.uptime_s()
    shown = system.started_in_sandbox(system.read_processes(), services.own_pid)
    return {"processes": [system.process_row(stat, services.users, uptime_s) for stat in shown]}
