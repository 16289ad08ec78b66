"""Our objects as Novita's JSON, where it differs from E2B's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from atoll.control.tokens import Token
from atoll.core.errors import ErrorKind
from atoll.core.events import Event, EventPage
from atoll.core.quota import Standing
from atoll.core.secrets import Secret
from atoll.core.template import Template
from atoll.core.volumes import Volume
from atoll.dialects.errors import Dialect, cell

from . import render
from .novita_parse import MIB_PER_GIB, TEMPLATE_TYPES, TemplatePage

Json = dict[str, Any]  # Any: JSON values

UNLIMITED = 2**31 - 1
"""Where there is no limit: its clients take a number, and what is not there for none left."""

EVENTS: dict[str, tuple[str, int]] = {
    "sandbox.create": ("create", 201),
    "sandbox.pause": ("pause", 204),
    "sandbox.stop": ("pause", 204),
    "sandbox.resume": ("resume", 201),
    "sandbox.start": ("resume", 201),
    "sandbox.connect": ("connect", 200),
    "sandbox.reset": ("reset", 200),
    "sandbox.set_timeout": ("timeout", 204),
    "sandbox.set_network": ("network", 204),
    "sandbox.plug_memory": ("hotplug_memory", 204),
    "sandbox.mount": ("mount_volume", 200),
    "sandbox.unmount": ("unmount_volume", 200),
    "sandbox.expire": ("expire", 200),
    "sandbox.exited": ("exit", 200),
    "sandbox.delete": ("delete", 204),
}
"""By our operation: the event's name, and the status of one that succeeded."""
EVENT_NAMES = {operation: name for operation, (name, _) in EVENTS.items()}
SAYS_WHY = frozenset({"sandbox.exited"})
"""Of these the detail is why it happened."""


# ---- what there is of them, and how much of it


def quota(found: Standing) -> Json:
    """Living sandboxes count, those that are paused as well."""
    given, used, largest = found.quota, found.used, found.largest
    return {
        "limit": {
            "concurrentInstances": _limit(given.sandboxes),
            "concurrentVcpu": _limit(given.vcpu),
            "concurrentRamMb": _limit(given.memory_mib),
            "maxLengthHours": math.ceil(found.max_life_s / 3600) or UNLIMITED,
            "diskMb": _least(largest.disk_mib, given.disk_mib),
            "maxVcpu": _least(largest.vcpu, given.vcpu),
            "maxRamMb": _least(largest.memory_mib, given.memory_mib),
        },
        "usage": {
            "concurrentInstances": used.sandboxes,
            "concurrentVcpu": used.vcpu,
            "concurrentRamMb": used.memory_mib,
        },
    }


def _limit(given: int | None) -> int:
    return UNLIMITED if given is None else given


def _least(largest: int, given: int | None) -> int:
    return largest if given is None else min(largest, given)


def events(found: EventPage, offset: int) -> Json:
    return {
        "items": [event(each) for each in found.events],
        "total": found.total,
        "hasMore": offset + len(found.events) < found.total,
    }


def event(found: Event) -> Json:
    name, status = EVENTS[found.operation]
    succeeded = found.outcome == "ok"
    said = found.detail if found.operation in SAYS_WHY else ""
    return {
        "eventID": f"evt_{found.id}",
        "recordAt": int(found.at),
        "templateID": found.template,
        "templateName": found.template,
        "sandboxID": found.sandbox_id,
        "eventName": name,
        "state": "success" if succeeded else "failed",
        "errorMsg": said if succeeded else found.outcome,
        "statusCode": status if succeeded else cell(ErrorKind(found.outcome), Dialect.E2B).status,
    }


# ---- templates


def templates(found: Sequence[Template], asked: TemplatePage) -> Json:
    """There are no snapshots."""
    all_of_them = [] if asked.snapshots else found
    start = (asked.page - 1) * asked.limit
    return {
        "templates": [template(each) for each in all_of_them[start : start + asked.limit]],
        "total": len(all_of_them),
        "page": asked.page,
        "limit": asked.limit,
        "totalPages": math.ceil(len(all_of_them) / asked.limit),
    }


def template(found: Template) -> Json:
    return {**render.template(found), "templateType": TEMPLATE_TYPES[0]}


# ---- volumes


def volume(found: Volume, used_bytes: int | None) -> Json:
    """What is used is not known while its machine is away; its clients then show 0."""
    shown = {
        **render.volume(found),
        "quotaSizeGiB": found.size_mib // MIB_PER_GIB,
        "quotaInodes": found.inodes,
    }
    return shown if used_bytes is None else {**shown, "usedSizeBytes": used_bytes}


def volume_access(found: Volume, token: Token, domain: str | None, used_bytes: int | None) -> Json:
    return {**render.volume_access(found, token, domain), **volume(found, used_bytes)}


# ---- secrets


def secret(found: Secret, placeholder: str) -> Json:
    return {
        "name": found.name,
        "hosts": list(found.hosts),
        "placeholder": placeholder,
        "description": found.description or None,
        "hasSecret": True,
        "status": "active",
        "updatedAt": render.timestamp(found.updated_at),
    }
