"""Who may use a sandbox's E2B surface: the holder of its access token; for its files, of an address signed with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from atoll.edge.auth import Unauthorized

from .errors import UNAUTHORIZED

WITHOUT_TOKEN = frozenset((("GET", "/health"), ("HEAD", "/health")))
OPERATIONS = {("GET", "/files"): "read", ("HEAD", "/files"): "read", ("POST", "/files"): "write"}
"""What a signature may be for."""
VERSION = "v1_"
_SIGNATURE = re.compile(rf"{VERSION}[A-Za-z0-9+/]{{43}}")
_SECONDS = re.compile(r"[0-9]{1,12}")


class Admission(Enum):
    ANYBODY = auto()
    """The route is open; nothing was shown that proves more."""
    HOLDER = auto()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a request shows at the door."""

    method: str
    path: str
    query: Mapping[str, str]
    tokens: tuple[str, ...]
    """Each X-Access-Token."""


def admit(shown: Shown, is_token: Callable[[str], bool], token: str, now: float) -> Admission:
    """`is_token`: whether a text is a token of the sandbox; `token`: the one that signatures are made with.

    Raises Unauthorized."""
    operation = OPERATIONS.get((shown.method, shown.path))
    if shown.tokens:
        if len(shown.tokens) == 1 and is_token(shown.tokens[0]):
            return Admission.HOLDER
        if operation is not None:
            raise Unauthorized("access token present in header but does not match")
    if (shown.method, shown.path) in WITHOUT_TOKEN:
        return Admission.ANYBODY
    if operation is None:
        raise Unauthorized(UNAUTHORIZED)
    check_signature(shown.query, operation, token, now)
    return Admission.HOLDER


def check_signature(query: Mapping[str, str], operation: str, token: str, now: float) -> None:
    """Raises Unauthorized, in the words that clients compare."""
    given = query.get("signature", "").replace(" ", "+")  # a plus that nobody escaped
    if not given:
        raise Unauthorized("missing signature query parameter")
    expiration = query.get("signature_expiration")
    wanted = signature(query.get("path", ""), operation, query.get("username", ""), token, expiration)
    if not hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode()):
        raise Unauthorized("invalid signature")
    if expiration is not None and (not _SECONDS.fullmatch(expiration) or int(expiration) < now):
        raise Unauthorized("signature is already expired", expired=True)


def signed_by(query: Mapping[str, str], operation: str, tokens: Iterable[tuple[str, str]], now: float) -> str:
    """Of sandboxes and their tokens the one with whose token an address is signed. Raises Unauthorized.

    Anybody can ask this, and there may be thousands: what stands before the token is hashed once."""
    given = query.get("signature", "").replace(" ", "+")
    if not _SIGNATURE.fullmatch(given):
        raise Unauthorized("invalid signature")
    digest = base64.b64decode(given.removeprefix(VERSION) + "=")
    before = ":".join((query.get("path", ""), operation, query.get("username", ""), ""))
    begun = hashlib.sha256(before.encode("utf-8", "surrogateescape"))
    expiration = query.get("signature_expiration")
    after = b"" if expiration is None else f":{expiration}".encode("utf-8", "surrogateescape")
    for sandbox_id, token in tokens:
        whole = begun.copy()
        whole.update(token.encode() + after)
        if hmac.compare_digest(whole.digest(), digest):
            check_signature(query, operation, token, now)
            return sandbox_id
    raise Unauthorized("invalid signature")


def signature(path: str, operation: str, username: str, token: str, expiration: str | None = None) -> str:
    """
    >>> signature("/x", "read", "", "T")[:3]
    'v1_'
    """
    parts = [path, operation, username, token] + ([] if expiration is None else [expiration])
    digest = hashlib.sha256(":".join(parts).encode("utf-8", "surrogateescape")).digest()
    return VERSION + base64.b64encode(digest).decode().rstrip("=")
