"""Errors of the SDK, and the two tables that make them of answers.

    AtollError (HopxError)
    ├── APIError                        the control plane refused
    │   ├── AuthenticationError
    │   │   └── TokenExpiredError
    │   ├── NotFoundError
    │   │   └── TemplateNotFoundError
    │   ├── ValidationError
    │   ├── RateLimitError
    │   ├── ResourceLimitError
    │   └── ServerError
    ├── NetworkError                    no answer
    │   └── TimeoutError                (a TimeoutError of Python's too)
    ├── AgentError                      the sandbox refused
    │   ├── FileNotFoundError           (a FileNotFoundError of Python's too)
    │   ├── FileOperationError
    │   ├── CodeExecutionError
    │   ├── CommandExecutionError
    │   └── DesktopNotAvailableError
    ├── SandboxExpiredError
    └── TemplateBuildError

A program that fails in a sandbox is no error: its result says so.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .read import Json, mapping, text, whole_or_none

MAX_SHOWN = 2000
"""Of an answer that is no JSON, in an error's message."""
ASK_WHERE = "Does Atoll run there? The URL is ATOLL_BASE_URL or base_url="


class AtollError(Exception):
    """The root of all errors of this package; `HopxError` is the same class.

    >>> try:
    ...     await AsyncSandbox.connect("sb00000000000000000000")
    ... except AtollError as error:
    ...     print(type(error).__name__, error.status_code, error.request_id is not None)
    NotFoundError 404 True
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        request_id: str | None = None,
        status_code: int | None = None,
        details: Mapping[str, Any] | None = None,  # Any: JSON values
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.request_id = request_id
        """What the server's log has it under."""
        self.status_code = status_code
        self.details: Json = dict(details or {})

    def __str__(self) -> str:
        shown = f"[{self.code}] {self.message}" if self.code else self.message
        return f"{shown} (request_id: {self.request_id})" if self.request_id else shown

    def __reduce__(self) -> tuple[Any, ...]:  # Any: what pickle takes
        """Errors cross processes: their arguments are not what `__init__` takes."""
        return _restore, (type(self), self.message, self.__dict__)


def _restore(kind: type[AtollError], message: str, state: Json) -> AtollError:
    error = kind.__new__(kind, message)
    BaseException.__init__(error, message)
    error.__dict__.update(state)
    return error


class APIError(AtollError):
    """The control plane refused a call; subclasses say why."""


class AuthenticationError(APIError):
    """The key or the token is missing, unknown or revoked."""


class TokenExpiredError(AuthenticationError):
    """The sandbox's token has run out. The SDK refreshes it by itself; this is what a second refusal is."""


class NotFoundError(APIError):
    """There is no such sandbox, template or secret, or it is somebody else's."""


class TemplateNotFoundError(NotFoundError):
    """There is no such template; `available_templates` are there, and `suggested_template` is the likeliest, if any."""

    def __init__(
        self,
        template_name: str,
        available_templates: Sequence[str] | None = None,
        suggested_template: str | None = None,
        **more: Any,  # Any: AtollError's keywords
    ) -> None:
        self.template_name = template_name
        self.available_templates = list(available_templates or ())
        self.suggested_template = suggested_template
        hint = f" Did you mean {suggested_template!r}?" if suggested_template else ""
        known = f" There are: {', '.join(self.available_templates)}." if self.available_templates else ""
        super().__init__(f"Template {template_name!r} not found.{hint}{known}", **more)


class ValidationError(APIError):
    """A value is not one that the server takes; `field` says which."""

    def __init__(self, message: str, *, field: str | None = None, **more: Any) -> None:  # Any: AtollError's keywords
        super().__init__(message, **more)
        self.field = field


class RateLimitError(APIError):
    """Too many calls; `retry_after` is in seconds."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: int | None = None,
        **more: Any,  # Any: AtollError's keywords
    ) -> None:
        super().__init__(message, **more)
        self.retry_after = retry_after


class ResourceLimitError(APIError):
    """No room: the host is full, the key's quota is used up, or the size is above the template's maximum."""

    def __init__(
        self,
        message: str,
        *,
        limit: int | None = None,
        current: int | None = None,
        available: int | None = None,
        upgrade_url: str | None = None,
        **more: Any,  # Any: AtollError's keywords
    ) -> None:
        super().__init__(message, **more)
        self.limit = limit
        self.current = current
        self.available = available
        self.upgrade_url = upgrade_url


class ServerError(APIError):
    """The server failed or is not ready (5xx)."""


class NetworkError(AtollError):
    """No answer: the server could not be reached, or the connection broke."""


class TimeoutError(NetworkError, builtins.TimeoutError):
    """No answer in time."""


class AgentError(AtollError):
    """A call to a sandbox was refused; subclasses say why."""


class FileNotFoundError(AgentError, builtins.FileNotFoundError):
    """There is no such file or directory in the sandbox: `path`."""

    def __init__(
        self,
        message: str = "File not found",
        path: str | None = None,
        **more: Any,  # Any: AtollError's keywords
    ) -> None:
        super().__init__(message, **more)
        self.path = path


class FileOperationError(AgentError):
    """A file cannot be read or written: rights, a full disk, a directory in its place."""

    def __init__(
        self,
        message: str = "File operation failed",
        operation: str | None = None,
        **more: Any,  # Any: AtollError's keywords
    ) -> None:
        super().__init__(message, **more)
        self.operation = operation


class CodeExecutionError(AgentError):
    """Code could not be run at all. Code that fails is a result."""

    def __init__(
        self,
        message: str = "Code execution failed",
        language: str | None = None,
        **more: Any,  # Any: AtollError's keywords
    ) -> None:
        super().__init__(message, **more)
        self.language = language


class CommandExecutionError(AgentError):
    """A command could not be run at all. One that fails is a result."""

    def __init__(
        self,
        message: str = "Command execution failed",
        command: str | None = None,
        **more: Any,  # Any: AtollError's keywords
    ) -> None:
        super().__init__(message, **more)
        self.command = command


class DesktopNotAvailableError(AgentError):
    """The sandbox's template has no desktop."""

    def __init__(
        self,
        message: str = "Desktop automation not available",
        missing_dependencies: Sequence[str] | None = None,
        **more: Any,  # Any: AtollError's keywords
    ) -> None:
        super().__init__(message, **more)
        self.missing_dependencies = list(missing_dependencies or ())


@dataclass(frozen=True)
class SandboxErrorMetadata:
    """About the sandbox of a `SandboxExpiredError`; times are ISO 8601."""

    sandbox_id: str | None = None
    created_at: str | None = None
    expires_at: str | None = None
    time_to_live: int | None = None
    status: str | None = None


class SandboxExpiredError(AtollError):
    """The sandbox's time is over (`ensure_healthy`)."""

    def __init__(
        self,
        message: str = "Sandbox has expired",
        metadata: SandboxErrorMetadata | None = None,
        **more: Any,  # Any: AtollError's keywords
    ) -> None:
        super().__init__(message, **more)
        self.metadata = metadata or SandboxErrorMetadata()


@dataclass(frozen=True)
class TemplateBuildErrorMetadata:
    """About the build of a `TemplateBuildError`."""

    build_id: str | None = None
    template_id: str | None = None
    build_status: str | None = None
    logs_url: str | None = None
    error_details: str | None = None


class TemplateBuildError(AtollError):
    """A template could not be built."""

    def __init__(
        self,
        message: str = "Template build failed",
        metadata: TemplateBuildErrorMetadata | None = None,
        **more: Any,  # Any: AtollError's keywords
    ) -> None:
        super().__init__(message, **more)
        self.metadata = metadata or TemplateBuildErrorMetadata()


HopxError = AtollError


# ---- answers as errors


@dataclass(frozen=True)
class Row:
    status: int | None
    """None: any. 500: it and every one above."""
    code: str | None
    """None: any."""
    kind: type[AtollError]


CONTROL: tuple[Row, ...] = (
    Row(400, None, ValidationError),
    Row(401, "TOKEN_EXPIRED", TokenExpiredError),
    Row(401, None, AuthenticationError),
    Row(403, "RESOURCE_LIMIT_ERROR", ResourceLimitError),
    Row(404, None, NotFoundError),
    Row(408, None, TimeoutError),
    Row(429, "RESOURCE_LIMIT_ERROR", ResourceLimitError),
    Row(429, None, RateLimitError),
    Row(500, None, ServerError),
    Row(None, None, APIError),
)
AGENT: tuple[Row, ...] = (
    Row(None, "FILE_NOT_FOUND", FileNotFoundError),
    Row(None, "PATH_NOT_ALLOWED", FileOperationError),
    Row(None, "PERMISSION_DENIED", FileOperationError),
    Row(None, "DIRECTORY_NOT_FOUND", FileOperationError),
    Row(None, "INVALID_PATH", FileOperationError),
    Row(None, "FILE_ALREADY_EXISTS", FileOperationError),
    Row(None, "FILE_TOO_LARGE", FileOperationError),
    Row(None, "FILE_OPERATION_FAILED", FileOperationError),
    Row(None, "EXECUTION_FAILED", CodeExecutionError),
    Row(None, "EXECUTION_TIMEOUT", CodeExecutionError),
    Row(None, "COMMAND_FAILED", CommandExecutionError),
    Row(None, "DESKTOP_NOT_AVAILABLE", DesktopNotAvailableError),
    Row(None, "SANDBOX_NOT_FOUND", NotFoundError),
    Row(401, "TOKEN_EXPIRED", TokenExpiredError),
    Row(401, None, AuthenticationError),
    Row(408, None, TimeoutError),
    Row(429, None, RateLimitError),
    Row(500, None, ServerError),
    Row(None, None, AgentError),
)
"""First match wins."""


def kind_of(table: Sequence[Row], status: int, code: str | None) -> type[AtollError]:
    for row in table:
        matches = row.status is None or row.status == status or (row.status == 500 and status >= 500)
        if matches and row.code in (None, code):
            return row.kind
    raise AssertionError("the last row matches everything")


def error_of(table: Sequence[Row], status: int, headers: Mapping[str, str], body: bytes) -> AtollError:
    """The control plane's `error` is an object, the agent's a text; whoever stands between may answer neither."""
    content = _content(body)
    said = {**content, **mapping(content.get("error"))}
    code = text(said.get("code")) or None
    details = mapping(said.get("details"))
    kind = kind_of(table, status, code)
    message = text(said.get("message")) or text(content.get("error")) or _plain(body) or f"HTTP status {status}"
    request_id = text(said.get("request_id")) or headers.get("x-request-id") or None
    more: Json = {"code": code, "request_id": request_id, "status_code": status or None, "details": details}
    return kind(message, **more, **_own_fields(kind, headers, content, details))


def _own_fields(kind: type[AtollError], headers: Mapping[str, str], content: Json, details: Json) -> Json:
    if kind is RateLimitError:
        return {"retry_after": retry_after_s(headers, details)}
    if kind is ValidationError:
        return {"field": text(details.get("field")) or None}
    if kind is ResourceLimitError:
        numbers = {name: whole_or_none(details.get(name)) for name in ("limit", "current", "available")}
        return {**numbers, "upgrade_url": text(details.get("upgrade_url")) or None}
    if kind is FileNotFoundError:
        return {"path": text(details.get("path")) or text(content.get("path")) or None}
    if kind is DesktopNotAvailableError:
        missing = details.get("missing_dependencies") or content.get("missing_dependencies")
        return {
            "missing_dependencies": [each for each in missing if isinstance(each, str)]
            if isinstance(missing, list)
            else []
        }
    return {}


def caused(ours: NetworkError, theirs: BaseException) -> NetworkError:
    """For one that is told as an outcome, not raised where theirs was caught."""
    ours.__cause__ = theirs
    return ours


def retry_after_s(headers: Mapping[str, str], details: Mapping[str, Any]) -> int | None:  # Any: JSON values
    """The header, else what the body says; None when neither is a whole number of seconds."""
    header = headers.get("retry-after", "").strip()
    if header.isascii() and header.isdigit():
        return int(header[:9])
    said = whole_or_none(details.get("retry_after_seconds"))
    return said if said is None or said >= 0 else None


def _content(body: bytes) -> Json:
    try:
        return mapping(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def _plain(body: bytes) -> str:
    return body[:MAX_SHOWN].decode("utf-8", "replace").strip()
