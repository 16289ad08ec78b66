"""Health, facts and figures of a sandbox."""

from __future__ import annotations

import platform
import time

from aiohttp import web

from atoll.edge.agent_link import AgentLink
from atoll.edge.frames_in import number, objects, text, whole

from .call import Call, Object, answer, timestamp, timestamp_or_none
from .errors import Kind, SurfaceError
from .languages import LANGUAGES

AGENT_PORT = 7777
MISSING_DESKTOP = ["xvfb", "x11vnc", "xdotool"]

FEATURES = {
    "code_execution": True,
    "file_operations": True,
    "terminal_access": True,
    "websocket_streaming": True,
    "rich_output": True,
    "background_jobs": True,
    "system_metrics": True,
    "desktop": False,
}

ENDPOINTS = {
    "execute": "/execute",
    "execute_stream": "/execute/stream",
    "commands": "/commands/run",
    "files": "/files",
    "terminal": "/terminal",
    "env": "/env",
    "metrics": "/metrics/snapshot",
}


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
            "version": text(found.get("version")),
            "uptime": number(found.get("uptime_s")),
            "go_version": "",
            "vm_id": call.route.id,
            "features": features(call.route.python),
            "active_streams": call.agent.open_calls,
            "timestamp": timestamp(),
        }
    )


async def facts(call: Call) -> web.StreamResponse:
    found = await call.agent.call("GET", "/health")
    uptime, version = number(found.get("uptime_s")), text(found.get("version"))
    return answer(
        {
            "vm_id": call.route.id,
            "agent": "atoll",
            "agent_version": version,
            "version": version,
            "os": "linux",
            "platform": "linux",
            "arch": platform.machine(),
            "go_version": "",
            "vm_ip": "127.0.0.1",
            "ip": "127.0.0.1",
            "vm_port": AGENT_PORT,
            "port": AGENT_PORT,
            "workdir": call.route.workdir,
            "start_time": timestamp_or_none(time.time() - uptime),
            "uptime": uptime,
            "endpoints": ENDPOINTS,
            "features": features(call.route.python),
        }
    )


async def ping(call: Call) -> web.StreamResponse:
    return answer({"status": "ok", "agent": "atoll", "vm_id": call.route.id, "timestamp": timestamp()})


async def metrics(call: Call) -> web.StreamResponse:
    stats = await call.agent.call("GET", "/stats")
    found = await call.agent.call("GET", "/health")
    return answer(render_metrics(stats, call.agent, number(found.get("uptime_s"))))


def percent(part: float, whole_: float) -> float:
    return round(100.0 * part / whole_, 2) if whole_ > 0 else 0.0


def render_metrics(stats: Object, agent: AgentLink, uptime_s: float) -> Object:
    """CPU usage is the mean since the sandbox began: a share of one core, as its processes used it."""
    memory, memory_limit = number(stats.get("memory_bytes")), number(stats.get("memory_limit_bytes"))
    disk, free = number(stats.get("disk_total_bytes")), number(stats.get("disk_free_bytes"))
    errors = whole(stats.get("errors_total"))
    return {
        "uptime_seconds": uptime_s,
        "total_requests": whole(stats.get("requests_total")),
        "total_errors": errors,
        "error_count": errors,
        "active_executions": agent.executing,
        "total_executions": whole(stats.get("cells_total")) + whole(stats.get("processes_started_total")),
        "requests_total": dict(agent.calls),
        "avg_duration_ms": {path: round(1000 * agent.seconds[path] / count, 3) for path, count in agent.calls.items()},
        "system": {
            "cpu": {
                "usage_percent": percent(number(stats.get("cpu_seconds")), uptime_s),
                "seconds": number(stats.get("cpu_seconds")),
                "load1": number(stats.get("load1")),
            },
            "memory": {
                "usage_percent": percent(memory, memory_limit),
                "used_bytes": whole(memory),
                "total_bytes": whole(memory_limit) or None,
            },
            "disk": {
                "usage_percent": percent(disk - free, disk),
                "total_bytes": whole(disk),
                "free_bytes": whole(free),
            },
        },
        "process": {"count": whole(stats.get("processes")), "open_files": whole(stats.get("open_files"))},
        "cache": CACHE,
        "timestamp": timestamp(),
    }


async def prometheus(call: Call) -> web.StreamResponse:
    stats = await call.agent.call("GET", "/stats")
    lines = [f"atoll_sandbox_{name} {number(value):g}" for name, value in sorted(stats.items()) if name.isidentifier()]
    return web.Response(text="\n".join(lines) + "\n", content_type="text/plain")


# No answer of a sandbox is ever cached: code with effects must run every time. So the figures are these, for good.
CACHE = {"enabled": False, "hits": 0, "misses": 0, "hit_rate": 0.0, "size": 0, "count": 0}


async def cache_stats(call: Call) -> web.StreamResponse:
    return answer({**CACHE, "cache": CACHE, "timestamp": timestamp()})


async def cache_clear(call: Call) -> web.StreamResponse:
    return answer({"success": True, "message": "Nothing is cached", "entries_removed": 0, "timestamp": timestamp()})


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
