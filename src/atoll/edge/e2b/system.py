"""The small routes of plain HTTP: alive, figures, environment."""

from __future__ import annotations

import math
import time

from aiohttp import web

from atoll.edge import figures
from atoll.edge.frames_in import mapping, number

from .call import Call, answer

MIB = 1024 * 1024


async def health(call: Call) -> web.StreamResponse:
    await call.agent.call("GET", "/health")
    return web.Response(status=204, headers={"Cache-Control": "no-store"})


async def metrics(call: Call) -> web.StreamResponse:
    """`mem_cache` is left out: what the kernel keeps of files for a sandbox, its host alone can tell. Metrics of the
    control plane have it."""
    stats, share = await figures.read(call.agent)
    cpus = number(stats.get("vcpus")) or 1.0
    used, total = int(number(stats.get("memory_bytes"))), int(number(stats.get("memory_limit_bytes")))
    disk, free = int(number(stats.get("disk_total_bytes"))), int(number(stats.get("disk_free_bytes")))
    return answer(
        {
            "ts": int(time.time()),
            "cpu_count": math.ceil(cpus),
            "cpu_used_pct": round(100.0 * share / cpus, 2),
            "mem_total": total,
            "mem_used": used,
            "mem_total_mib": total // MIB,
            "mem_used_mib": used // MIB,
            "disk_used": max(0, disk - free),
            "disk_total": disk,
        }
    )


async def environment(call: Call) -> web.StreamResponse:
    env = mapping((await call.agent.call("GET", "/env")).get("env"))
    return answer({name: value for name, value in env.items() if isinstance(value, str)})
