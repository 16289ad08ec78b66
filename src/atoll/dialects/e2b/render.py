"""Our objects as E2B's JSON. Its clients parse strictly: a required field that is not there is an error to them, and so
is a null where an optional object may be left out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from atoll.control.history import Line
from atoll.control.measures import Measure
from atoll.control.tokens import Token
from atoll.core import ingress
from atoll.core.access import ENVD_VERSION
from atoll.core.lifecycle import State
from atoll.core.policy import without_secrets
from atoll.core.sandbox import OnTimeout, Sandbox
from atoll.core.secrets import Secret
from atoll.core.template import Template
from atoll.core.volumes import Volume

from .names import DEFAULT_TAG, build_id
from .parse import EGRESS, INGRESS, PROXY_TLS

Json = dict[str, Any]  # Any: JSON values

NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
"""The end of what has none: clients insist on a time."""


def timestamp(at: float) -> str:
    """RFC 3339. Six digits: older Pythons parse no other number of digits than 0, 3 and 6."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# ---- sandboxes


def access(found: Sandbox, token: str, domain: str | None) -> Json:
    """What `create`, `connect` and `resume` answer: how it is reached. Of `alias` old clients expect a text or none."""
    return {
        "templateID": found.template,
        "sandboxID": found.id,
        "clientID": found.node_id,
        "alias": found.template,
        "envdVersion": ENVD_VERSION,
        "envdAccessToken": token,
        "trafficAccessToken": found.ingress.token_in_force or None,
        "domain": domain,
    }


def listed(found: Sandbox, ends_at: float | None) -> Json:
    mounts = [{"name": mount.name, "path": mount.path} for mount in found.volumes]
    return {
        "templateID": found.template,
        "alias": found.template,
        "sandboxID": found.id,
        "clientID": found.node_id,
        "startedAt": timestamp(found.created_at),
        "endAt": timestamp(NEVER if ends_at is None else ends_at),
        "cpuCount": found.limits.vcpu,
        "memoryMB": found.limits.memory_mib,
        "diskSizeMB": found.limits.disk_mib,
        "metadata": found.metadata,
        "state": "running" if found.state is State.RUNNING else "paused",
        "envdVersion": ENVD_VERSION,
        **({"volumeMounts": mounts} if mounts else {}),
    }


def detail(found: Sandbox, ends_at: float | None, token: str, domain: str | None) -> Json:
    content = {
        **listed(found, ends_at),
        "envdAccessToken": token,
        "domain": domain,
        "allowInternetAccess": None if found.internet_access else False,
        "lifecycle": {
            "onTimeout": "pause" if found.on_timeout in (OnTimeout.PAUSE, OnTimeout.STOP) else "kill",
            "autoResume": found.ingress.auto_resume,
        },
    }
    if shown := network(found):
        content["network"] = shown
    if found.state is not State.RUNNING:
        content["pauseMode"] = "full" if found.state is State.PAUSED else "filesystem"
    return content


def network(found: Sandbox) -> Json:
    """As it was given, defaults left out; passwords never come back."""
    form = {**without_secrets(found.network), **ingress.given_form(found.ingress)}
    shown = {theirs: form[ours] for theirs, ours in {**EGRESS, **INGRESS}.items() if ours in form}
    if proxy := shown.get("egressProxy"):
        shown["egressProxy"] = {name: value for name, value in proxy.items() if name != "tls"}
        if tls := proxy.get("tls"):
            kept = {theirs: tls[ours] for theirs, ours in PROXY_TLS.items() if tls.get(ours) is not None}
            shown["egressProxy"]["tls"] = kept
    return shown


def measure(found: Measure) -> Json:
    return {
        "timestamp": timestamp(found.at),
        "timestampUnix": int(found.at),
        "cpuCount": found.cpu_count,
        "cpuUsedPct": found.cpu_used_pct,
        "memUsed": found.memory_used,
        "memTotal": found.memory_total,
        "memCache": found.memory_cache,
        "diskUsed": found.disk_used,
        "diskTotal": found.disk_total,
    }


def log_entry(line: Line) -> Json:
    return {
        "timestamp": timestamp(line.at),
        "message": line.text,
        "level": line.level,
        "fields": dict(line.fields),
    }


def log_line(line: Line) -> Json:
    return {"timestamp": timestamp(line.at), "line": line.text}


# ---- templates


def template(found: Template) -> Json:
    """How often it was used is not counted."""
    at = timestamp(found.created_at)
    return {
        "templateID": found.name,
        "buildID": build_id(found),
        "cpuCount": found.limits.vcpu,
        "memoryMB": found.limits.memory_mib,
        "diskSizeMB": found.limits.disk_mib,
        "public": True,
        "aliases": [found.name],
        "names": [found.name],
        "createdAt": at,
        "updatedAt": at,
        "createdBy": None,
        "lastSpawnedAt": None,
        "spawnCount": 0,
        "buildCount": 1,
        "envdVersion": ENVD_VERSION,
        "buildStatus": "ready",
        "isDefault": True,
        "description": found.description,
    }


def template_detail(found: Template) -> Json:
    shown = template(found)
    build = {
        "buildID": shown["buildID"],
        "status": "ready",
        **{name: shown[name] for name in ("createdAt", "updatedAt", "cpuCount", "memoryMB", "diskSizeMB")},
        "finishedAt": shown["updatedAt"],
        "envdVersion": ENVD_VERSION,
    }
    return {**shown, "builds": [build]}


def tags(found: Template) -> list[Json]:
    return [{"tag": DEFAULT_TAG, "buildID": build_id(found), "createdAt": timestamp(found.created_at)}]


# ---- volumes


def volume(found: Volume) -> Json:
    return {"volumeID": found.id, "name": found.name}


def volume_access(found: Volume, token: Token, domain: str | None) -> Json:
    """A domain that is null would be one to its clients."""
    return {**volume(found), "token": token.text, **({"domain": domain} if domain else {})}


# ---- secrets


def secret(found: Secret) -> Json:
    return {
        "secretID": found.id,
        "name": found.name,
        "currentVersion": found.version,
        "metadata": dict(found.metadata),
        "createdAt": timestamp(found.created_at),
        "updatedAt": timestamp(found.updated_at),
    }


def metrics(found: Mapping[str, Measure]) -> Json:
    return {"sandboxes": {sandbox_id: measure(each) for sandbox_id, each in found.items()}}
