"""What the audit says of a policy: which fields, and a digest that tells two apart and holds no secret."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from atoll.core.policy import Policy, given_form

DIGEST_CHARACTERS = 16


def summary(policy: Policy | None, ingress: Mapping[str, Any] = {}) -> str:  # Any: `core.ingress.changes`
    """Of one change: what goes out (None: it stays), and what changes in how ports are reached."""
    return " ".join(([_policy_summary(policy)] if policy else []) + [_plain(*each) for each in ingress.items()])


def _plain(name: str, value: Any) -> str:  # Any: what the field holds
    if isinstance(value, bool):
        return f"{name}={str(value).lower()}"
    return f"{name}={len(value)}" if isinstance(value, tuple) else name


def _policy_summary(policy: Policy) -> str:
    form = given_form(policy) | {"internet_access": policy.internet_access}
    form["rules"] = [(each.name, [name for name, _ in each.headers]) for each in policy.transforms]
    fields = [f"internet_access={str(policy.internet_access).lower()}"]
    fields += [_shown(name, value) for name, value in form.items() if value and name != "internet_access"]
    digest = hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()
    return f"{' '.join(fields)} sha256={digest[:DIGEST_CHARACTERS]}"


def _shown(name: str, value: Any) -> str:  # Any: JSON values
    return f"{name}={len(value)}" if isinstance(value, list) else name
