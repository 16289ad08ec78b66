"""The key to one sandbox's agent that E2B's clients carry. Pure.

It is derived from the installation's signing key and the sandbox's id, never stored: the same for the sandbox's whole
life, told again at every `get` and `connect`, known to server and edge alike. The edge has to know its text, since
clients sign the addresses of files with it. It says whose it is, and is worth nothing when that sandbox is gone.
"""

from __future__ import annotations

import hashlib
import hmac

from .ids import is_sandbox_id

PREFIX = "atoll_at_"
_PURPOSE = b"atoll access token\0"

ENVD_VERSION = "0.6.13"
"""The version of E2B's agent surface that the edge speaks; clients decide by it what they may ask for."""


def access_token(key: bytes, sandbox_id: str) -> str:
    """`key`: the installation's signing key.

    >>> access_token(bytes(32), "a" * 20).startswith("atoll_at_aaaaaaaaaaaaaaaaaaaa_")
    True
    """
    mac = hmac.new(key, _PURPOSE + sandbox_id.encode(), hashlib.sha256).hexdigest()
    return f"{PREFIX}{sandbox_id}_{mac}"


def sandbox_of(key: bytes, token: str) -> str | None:
    """The sandbox that it is for; None when it is none of ours. Compared in constant time.

    >>> sandbox_of(bytes(32), access_token(bytes(32), "a" * 20))
    'aaaaaaaaaaaaaaaaaaaa'
    """
    sandbox_id = token.removeprefix(PREFIX).partition("_")[0]
    if not token.isascii() or not is_sandbox_id(sandbox_id):
        return None
    return sandbox_id if hmac.compare_digest(token, access_token(key, sandbox_id)) else None
