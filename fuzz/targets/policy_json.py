"""The same of policies as a request brings them: whatever JSON says."""

from __future__ import annotations

import ipaddress
import json

from fuzz.targets.policy import ADDRESSES, NAMES, answers_questions, keeps_its_promises, parsed, survives


def check(data: bytes) -> None:
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(given, dict):
        return
    policy = parsed(given, given.get("internet_access") is not False)
    if policy is None:
        return
    survives(policy)
    for text in ADDRESSES:
        keeps_its_promises(policy, ipaddress.ip_address(text), "tcp", 443, NAMES[1])
    answers_questions(policy)
