"""What can go wrong, said once, in the caller's terms.

    AtollError
    ├── InvalidInput          the request is wrong and stays wrong
    ├── AuthenticationFailed  no key or token, or not a valid one
    ├── PermissionDenied      a valid caller, but not for this
    ├── NotFound              no such sandbox, template, key …
    ├── Conflict              legal request, wrong state
    ├── CapacityExceeded      host full, quota used up, size above the maximum; made by `limits.too_much`
    ├── RateLimited           too many requests; `details["retry_after_s"]`
    ├── Unavailable           a part of Atoll is not there right now; safe to try again
    ├── Unsupported           this host or engine cannot do it, and says why
    └── InternalError         our fault; the cause is in the log under the error id

A kind is about the caller's situation, never about the engine. Messages are safe to show to the
caller and say what to do. `details` holds JSON values only.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar


class ErrorKind(StrEnum):
    INVALID_INPUT = "invalid_input"
    AUTHENTICATION_FAILED = "authentication_failed"
    PERMISSION_DENIED = "permission_denied"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    CAPACITY_EXCEEDED = "capacity_exceeded"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    UNSUPPORTED = "unsupported"
    INTERNAL = "internal"


class AtollError(Exception):
    kind: ClassVar[ErrorKind] = ErrorKind.INTERNAL

    def __init__(self, message: str, **details: Any) -> None:  # Any: JSON values of every shape
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidInput(AtollError):
    kind = ErrorKind.INVALID_INPUT


class AuthenticationFailed(AtollError):
    kind = ErrorKind.AUTHENTICATION_FAILED


class PermissionDenied(AtollError):
    kind = ErrorKind.PERMISSION_DENIED


class NotFound(AtollError):
    kind = ErrorKind.NOT_FOUND


class Conflict(AtollError):
    kind = ErrorKind.CONFLICT


class CapacityExceeded(AtollError):
    kind = ErrorKind.CAPACITY_EXCEEDED


class RateLimited(AtollError):
    kind = ErrorKind.RATE_LIMITED


class Unavailable(AtollError):
    kind = ErrorKind.UNAVAILABLE


class Unsupported(AtollError):
    kind = ErrorKind.UNSUPPORTED


class InternalError(AtollError):
    kind = ErrorKind.INTERNAL


BY_KIND: dict[ErrorKind, type[AtollError]] = {cls.kind: cls for cls in AtollError.__subclasses__()}


def to_wire(error: AtollError) -> dict[str, Any]:
    return {"kind": error.kind.value, "message": error.message, "details": error.details}


def from_wire(data: dict[str, Any]) -> AtollError:
    try:
        cls = BY_KIND[ErrorKind(data["kind"])]
    except (KeyError, ValueError):
        cls = InternalError
    return cls(str(data.get("message", "unknown error")), **dict(data.get("details") or {}))
