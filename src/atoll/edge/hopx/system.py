"""Health, facts and figures of a sandbox."""

from __future__ import annotations

import time
from collections.abc import Collection

from aiohttp import web

from atoll.edge.agent_link import AgentLink
from atoll.edge.figures import read
from atoll.edge.frames_in import mapping, number, objects, text, texts, whole

from . import cache
from .call import Call, Object, answer, timestamp, timestamp_or_none
from .errors import Kind, SurfaceError
from .languages import LANGUAGES

AGENT_PORT = 7777
SPEAKS = "3.1.0"  # the HopX agent whose routes these are; clients ask for at least this
MISSING_DESKTOP = ["xvfb", "x11vnc", "xdotool"]

FEATURES = {
    "code_execution": True,
    "file_operations": True,
    "terminal_access": True,
    "websocket_streaming": True,
    "rich_output": True,
    "background_jobs": True,
    "async_webhooks": True,
    "system_metrics": True,
    "desktop": False,
}

ENDPOINTS = {
    "health": "/health",
    "info": "/info",
    "system": "/system",
    "execute": "/execute",
    "execute_async": "/execute/async",
    "execute_background": "/execute/background",
    "execute_processes": "/execute/processes",
    "execute_stream": "/execute/stream",
    "commands": "/commands/run",
    "commands_background": "/commands/background",
    "files": "/files",
    "files_watch": "/files/watch",
    "terminal": "/terminal",
    "env": "/env",
    "processes": "/processes",
    "metrics": "/metrics/snapshot",
    "cache": "/cache/stats",
    "jupyter_sessions": "/jupyter/sessions",
}


def version_of(found: Object) -> str:
    """Ours is a local version of the one we speak: equal to it, or above, by PEP 440 and by semver."""
    return f"{SPEAKS}+atoll.{text(found.get('version'))[:32]}"


def features(python: bool) -> Object:
    names = [language.name for language in LANGUAGES]
    return {**FEATURES, "ipython_kernel": python, "languages": names}


async def health(call: Call) -> web.StreamResponse:
    """Without a token only the word that readiness gates wait for."""
    found = await call.agent.call("GET", "/health", timeout_s=5.0)
    if found.get("status") != "ok":
        raise SurfaceError(Kind.AGENT_FAILED, "The sandbox's agent is not healthy")
    if not call.authorized:
        return answer({"status": "healthy"})
    return answer(
        {
            "status": "healthy",
            "agent": "atoll",
            "version": version_of(found),
            "uptime": number(found.get("uptime_s")),
            "uptime_seconds": number(found.get("uptime_s")),
            "go_version": "",
            "vm_id": call.route.id,
            "features": features(call.route.python),
            "active_streams": call.agent.open_calls,
            "timestamp": timestamp(),
        }
    )


async def facts(call: Call) -> web.StreamResponse:
    found, about = await call.agent.call("GET", "/health"), await call.agent.call("GET", "/system")
    uptime, version, release = number(found.get("uptime_s")), version_of(found), mapping(about.get("os"))
    address = next(iter(texts(about.get("addresses"))), "127.0.0.1")
    return answer(
        {
            "vm_id": call.route.id,
            "agent": "atoll",
            "agent_version": version,
            "version": version,
            "os": "linux",
            "platform": "linux",
            "os_name": text(release.get("name")),
            "os_version": text(release.get("version_id")),
            "kernel": text(about.get("kernel")),
            "arch": text(about.get("arch")),
            "go_version": "",
            "vm_ip": address,
            "ip": address,
            "vm_port": AGENT_PORT,
            "port": AGENT_PORT,
            "workdir": call.route.workdir,
            "start_time": timestamp_or_none(time.time() - uptime),
            "uptime": uptime,
            "uptime_seconds": uptime,
            "endpoints": ENDPOINTS,
            "features": features(call.route.python),
        }
    )


async def about(call: Call) -> web.StreamResponse:
    found = await call.agent.call("GET", "/system")
    release = mapping(found.get("os"))
    return answer(
        {
            "os": {
                "name": text(release.get("pretty_name")) or text(release.get("name")),
                "id": text(release.get("id")),
                "version": text(release.get("version_id")),
                "kernel": text(found.get("kernel")),
                "arch": text(found.get("arch")),
                "hostname": text(found.get("hostname")),
                "timezone": text(found.get("timezone")),
            },
            "hardware": {
                "cpu_cores": whole(found.get("vcpus")),
                "cpu_model": text(found.get("cpu_model")),
                "memory_mb": whole(found.get("memory_limit_bytes")) // 2**20,
                "disk_mb": whole(found.get("disk_total_bytes")) // 2**20,
            },
            "network": {"addresses": texts(found.get("addresses")), "internet_access": call.route.internet_access},
            "environment": {
                "user": text(found.get("user")),
                "home": text(found.get("home")),
                "shell": text(found.get("shell")),
                "path": text(found.get("path")),
                "workdir": call.route.workdir,
            },
            "capabilities": sorted(name for name, there in features(call.route.python).items() if there is True),
            "timestamp": timestamp(),
        }
    )


async def ping(call: Call) -> web.StreamResponse:
    return answer({"status": "ok", "agent": "atoll", "vm_id": call.route.id, "timestamp": timestamp()})


async def metrics(call: Call) -> web.StreamResponse:
    return answer(await figures(call.agent))


async def figures(agent: AgentLink) -> Object:
    stats, share = await read(agent)
    return render_metrics(stats, agent, share)


def percent(part: float, whole_: float) -> float:
    return round(100.0 * part / whole_, 2) if whole_ > 0 else 0.0


def nearly_slowest(seconds: Collection[float]) -> float:
    """95 of a hundred are not longer."""
    return sorted(seconds)[(len(seconds) * 95 - 1) // 100] if seconds else 0.0


def render_metrics(stats: Object, agent: AgentLink, cpu_share: float) -> Object:
    """`usage_percent` of the processors is of those that the sandbox has, in the last moments. Programs that failed are
    errors for `error_count` alone: `total_errors` counts requests, as `total_requests` does."""
    memory, memory_limit = number(stats.get("memory_bytes")), number(stats.get("memory_limit_bytes"))
    disk, free = number(stats.get("disk_total_bytes")), number(stats.get("disk_free_bytes"))
    errors = whole(stats.get("errors_total"))
    return {
        "uptime_seconds": number(stats.get("uptime_s")),
        "total_requests": whole(stats.get("requests_total")),
        "total_errors": errors,
        "error_count": errors + whole(stats.get("failures_total")),
        "active_executions": whole(stats.get("executing")),
        "total_executions": whole(stats.get("cells_total")) + whole(stats.get("processes_started_total")),
        "requests_total": dict(agent.calls),
        "avg_duration_ms": {path: round(1000 * agent.seconds[path] / count, 3) for path, count in agent.calls.items()},
        "p95_duration_ms": round(1000 * nearly_slowest(agent.latest), 3),
        "system": {
            "cpu": {
                "usage_percent": percent(cpu_share, number(stats.get("vcpus")) or 1.0),
                "cores": number(stats.get("vcpus")) or None,
                "seconds": number(stats.get("cpu_seconds")),
                "load1": number(stats.get("load1")),
            },
            "memory": {
                "usage_percent": percent(memory, memory_limit),
                "total": whole(memory_limit),
                "used": whole(memory),
                "free": max(0, whole(memory_limit) - whole(memory)),
                "used_bytes": whole(memory),
                "total_bytes": whole(memory_limit) or None,
            },
            "disk": {
                "usage_percent": percent(disk - free, disk),
                "total": whole(disk),
                "used": whole(disk - free),
                "free": whole(free),
                "total_bytes": whole(disk),
                "free_bytes": whole(free),
            },
        },
        "process": {
            "count": whole(stats.get("processes")),
            "running": whole(stats.get("executing")),
            "open_files": whole(stats.get("open_files")),
        },
        "cache": cache.of_stats(stats),
        "timestamp": timestamp(),
    }


async def prometheus(call: Call) -> web.StreamResponse:
    stats = await call.agent.call("GET", "/stats")
    lines = [f"atoll_sandbox_{name} {number(value):g}" for name, value in sorted(stats.items()) if name.isidentifier()]
    return web.Response(text="\n".join(lines) + "\n", content_type="text/plain")


async def jupyter_sessions(call: Call) -> web.StreamResponse:
    contexts = objects((await call.agent.call("GET", "/contexts")).get("contexts"))
    sessions = [
        {
            "kernel_id": text(context.get("id")),
            "name": text(context.get("language")),
            "execution_state": text(context.get("status")),
            "connections": 1 if context.get("status") == "busy" else 0,
            "last_activity": timestamp_or_none(context.get("last_activity_at")),
            "pid": context.get("pid"),
        }
        for context in contexts
    ]
    return answer({"sessions": sessions, "count": len(sessions)})


async def desktop(call: Call) -> web.StreamResponse:
    raise SurfaceError(
        Kind.DESKTOP_NOT_AVAILABLE,
        "This sandbox has no desktop",
        missing_dependencies=MISSING_DESKTOP,
    )
