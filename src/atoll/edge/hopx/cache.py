"""What a sandbox keeps because it can be used again without anyone noticing; never the result of a program."""

from __future__ import annotations

from aiohttp import web

from atoll.edge.frames_in import mapping, whole

from .call import Call, Object, answer, timestamp

MAX_PROGRAMS_BYTES = 256 * 1024 * 1024  # what the agent keeps of them at most; the other kinds are their tools' own
KINDS = ("go", "pip", "npm", "apt", "pycache")


async def show(call: Call) -> web.StreamResponse:
    shown = render(await call.agent.call("GET", "/cache"))
    declared = {"max_size": MAX_PROGRAMS_BYTES, "total_hits": shown["hits"], "ttl": "none"}  # in the JS client's types
    return answer({**shown, "cache": {**shown, **declared}, "timestamp": timestamp()})


async def clear(call: Call) -> web.StreamResponse:
    removed = whole((await call.agent.call("DELETE", "/cache")).get("removed"))
    message = f"{removed} cached files removed" if removed else "Nothing was cached"
    return answer({"success": True, "message": message, "entries_removed": removed, "timestamp": timestamp()})


def render(found: Object) -> Object:
    """`complete` is false when there were more files to look at than the agent looks at for one answer."""
    kinds = mapping(found.get("kinds"))
    each = {kind: _figures(mapping(kinds.get(kind))) for kind in KINDS}
    return {**_totals(found), "complete": found.get("complete") is True, **each}


def of_stats(stats: Object) -> Object:
    """The totals as the agent's `/stats` has them, which counts the files less often."""
    return _totals({name.removeprefix("cache_"): value for name, value in stats.items() if name.startswith("cache_")})


def _totals(found: Object) -> Object:
    hits, misses = whole(found.get("hits")), whole(found.get("misses"))
    hit_rate = round(hits / (hits + misses), 4) if hits + misses > 0 else 0.0
    return {"enabled": True, "hits": hits, "misses": misses, "hit_rate": hit_rate, **_figures(found)}


def _figures(found: Object) -> dict[str, int]:
    return {"size": whole(found.get("bytes")), "count": whole(found.get("entries"))}
