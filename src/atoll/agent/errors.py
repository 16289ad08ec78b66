"""What the agent answers when it cannot do as asked. One class, a closed set of kinds, one table of statuses."""

from __future__ import annotations

import errno
from enum import StrEnum


class Kind(StrEnum):
    INVALID = "invalid"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    NO_USER = "no_user"
    EXISTS = "exists"
    NOT_A_DIRECTORY = "not_a_directory"
    IS_A_DIRECTORY = "is_a_directory"
    NOT_REGULAR = "not_regular"
    BUSY = "busy"
    TOO_LARGE = "too_large"
    NO_SPACE = "no_space"
    TOO_MANY = "too_many"
    UNSUPPORTED = "unsupported"
    INTERNAL = "internal"


STATUS: dict[Kind, int] = {
    Kind.INVALID: 400,
    Kind.PERMISSION: 403,
    Kind.NOT_FOUND: 404,
    Kind.NO_USER: 404,
    Kind.EXISTS: 409,
    Kind.NOT_A_DIRECTORY: 409,
    Kind.IS_A_DIRECTORY: 409,
    Kind.NOT_REGULAR: 409,
    Kind.BUSY: 409,
    Kind.TOO_LARGE: 413,
    Kind.NO_SPACE: 507,
    Kind.TOO_MANY: 429,
    Kind.UNSUPPORTED: 501,
    Kind.INTERNAL: 500,
}

KIND_OF_ERRNO: dict[int, Kind] = {
    errno.ENOENT: Kind.NOT_FOUND,
    errno.ESRCH: Kind.NOT_FOUND,
    errno.EACCES: Kind.PERMISSION,
    errno.EPERM: Kind.PERMISSION,
    errno.EROFS: Kind.PERMISSION,
    errno.EEXIST: Kind.EXISTS,
    errno.ENOTEMPTY: Kind.EXISTS,
    errno.ENOTDIR: Kind.NOT_A_DIRECTORY,
    errno.EISDIR: Kind.IS_A_DIRECTORY,
    errno.ENXIO: Kind.NOT_REGULAR,
    errno.ENODEV: Kind.NOT_REGULAR,
    errno.EBUSY: Kind.BUSY,
    errno.ETXTBSY: Kind.BUSY,
    errno.E2BIG: Kind.TOO_LARGE,
    errno.EFBIG: Kind.TOO_LARGE,
    errno.ENOSPC: Kind.NO_SPACE,
    errno.EDQUOT: Kind.NO_SPACE,
    errno.EAGAIN: Kind.TOO_MANY,
    errno.EMFILE: Kind.TOO_MANY,
    errno.ENFILE: Kind.TOO_MANY,
    errno.ENOMEM: Kind.TOO_MANY,
    errno.EINVAL: Kind.INVALID,
    errno.ELOOP: Kind.INVALID,
    errno.ENAMETOOLONG: Kind.INVALID,
    errno.ENOEXEC: Kind.INVALID,
    errno.EPIPE: Kind.INVALID,
}


class AgentError(Exception):
    def __init__(self, kind: Kind, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = STATUS[kind] if status is None else status

    def to_wire(self) -> dict[str, str]:
        return {"kind": self.kind.value, "message": self.message}


def invalid(message: str) -> AgentError:
    return AgentError(Kind.INVALID, message)


def not_found(message: str) -> AgentError:
    return AgentError(Kind.NOT_FOUND, message)


def translate(error: BaseException) -> AgentError:
    """Everything a handler can raise, as the one error the caller sees."""
    match error:
        case AgentError():
            return error
        case OSError(errno=code) if code in KIND_OF_ERRNO:
            name = f": {error.filename}" if isinstance(error.filename, str) else ""
            return AgentError(KIND_OF_ERRNO[code], f"{error.strerror}{name}")
        case MemoryError():
            return AgentError(Kind.TOO_MANY, "out of memory")
        case UnicodeError():
            return invalid("text that cannot be encoded")
        case _:
            return AgentError(Kind.INTERNAL, f"internal error ({type(error).__name__})")
