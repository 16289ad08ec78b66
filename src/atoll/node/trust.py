"""The installation's authority in a sandbox whose policy has header rules; out again when it has none.

The sandbox's agent does it, inside: nothing of the host's goes along a path of the sandbox's. At birth the certificate
is part of the agent's configuration, afterwards it is told.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from cryptography import x509

from atoll.core.errors import Unavailable
from atoll.core.policy import Policy

from . import health

UPDATE_S = 2.0
UTF8_STRING, SEQUENCE, SET = 0x0C, 0x30, 0x31
COMMON_NAME = bytes.fromhex("0603550403")

Trust = dict[str, str]


def for_policy(policy: Policy, authority: Path) -> Trust | None:
    """`authority`: its certificate, which is there where anything sets headers at all. `Unavailable`: it is broken."""
    if not policy.treatments:
        return None
    try:
        pem = authority.read_text("ascii")
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Unavailable(f"the authority for outbound rules cannot be read: {authority}") from error
    return {"certificate": pem, "hash": subject_hash(certificate)}


def subject_hash(certificate: x509.Certificate) -> str:
    """What `openssl x509 -subject_hash` says, for subjects that are a common name as ours are: OpenSSL looks for the
    file of this name."""
    (attribute,) = certificate.subject
    pair = COMMON_NAME + _der(UTF8_STRING, " ".join(str(attribute.value).lower().split()).encode())
    canonical = _der(SET, _der(SEQUENCE, pair))
    return hashlib.sha1(canonical, usedforsecurity=False).digest()[3::-1].hex()


def _der(tag: int, content: bytes) -> bytes:
    """Of what is short: a common name has 64 characters at most."""
    return bytes((tag, len(content))) + content


async def update(agent: Path, trust: Trust | None) -> None:
    """Of a running sandbox; idempotent. `Unavailable` when its agent does not do it in time."""
    if trust is None:
        await health.ask(agent, "DELETE", "/trust", UPDATE_S)
    else:
        await health.ask(agent, "PUT", "/trust", UPDATE_S, json.dumps(trust).encode())
