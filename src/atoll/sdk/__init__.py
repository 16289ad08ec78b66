"""Atoll's SDK: `from atoll import Sandbox, AsyncSandbox`.

A name is loaded when it is first used: who takes the sync form does not wait for the async one, nor who catches an
error for an HTTP library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._async.cache import AsyncCache
    from ._async.commands import AsyncCommands
    from ._async.desktop import AsyncDesktop
    from ._async.env import AsyncEnvironmentVariables
    from ._async.files import AsyncFiles
    from ._async.programs import AsyncProgram, AsyncPrograms
    from ._async.sandbox import AsyncSandbox
    from ._async.secrets import AsyncSecrets
    from ._async.terminal import AsyncTerminal, AsyncTerminalSession
    from ._core.errors import (
        AgentError,
        APIError,
        AtollError,
        AuthenticationError,
        CodeExecutionError,
        CommandExecutionError,
        DesktopNotAvailableError,
        FileNotFoundError,
        FileOperationError,
        HopxError,
        NetworkError,
        NotFoundError,
        RateLimitError,
        ResourceLimitError,
        SandboxErrorMetadata,
        SandboxExpiredError,
        ServerError,
        TemplateBuildError,
        TemplateBuildErrorMetadata,
        TemplateNotFoundError,
        TimeoutError,
        TokenExpiredError,
        ValidationError,
    )
    from ._core.models import (
        CommandResult,
        DisplayInfo,
        EgressLog,
        ExecutionResult,
        ExpiryInfo,
        FileInfo,
        Link,
        ProgramOutput,
        RecordingInfo,
        Resources,
        RichOutput,
        SandboxInfo,
        SandboxTemplate,
        Secret,
        Template,
        TemplateResources,
        VNCInfo,
        WindowInfo,
    )
    from ._core.network import ALL_TRAFFIC, Network
    from ._sync.cache import Cache
    from ._sync.commands import Commands
    from ._sync.desktop import Desktop
    from ._sync.env import EnvironmentVariables
    from ._sync.files import Files
    from ._sync.programs import Program, Programs
    from ._sync.sandbox import Sandbox
    from ._sync.secrets import Secrets
    from ._sync.terminal import Terminal, TerminalSession

__all__ = [
    "ALL_TRAFFIC",
    "APIError",
    "AgentError",
    "AsyncCache",
    "AsyncCommands",
    "AsyncDesktop",
    "AsyncEnvironmentVariables",
    "AsyncFiles",
    "AsyncProgram",
    "AsyncPrograms",
    "AsyncSandbox",
    "AsyncSecrets",
    "AsyncTerminal",
    "AsyncTerminalSession",
    "AtollError",
    "AuthenticationError",
    "Cache",
    "CodeExecutionError",
    "CommandExecutionError",
    "CommandResult",
    "Commands",
    "Desktop",
    "DesktopNotAvailableError",
    "DisplayInfo",
    "EgressLog",
    "EnvironmentVariables",
    "ExecutionResult",
    "ExpiryInfo",
    "FileInfo",
    "FileNotFoundError",
    "FileOperationError",
    "Files",
    "HopxError",
    "Link",
    "Network",
    "NetworkError",
    "NotFoundError",
    "Program",
    "ProgramOutput",
    "Programs",
    "RateLimitError",
    "RecordingInfo",
    "ResourceLimitError",
    "Resources",
    "RichOutput",
    "Sandbox",
    "SandboxErrorMetadata",
    "SandboxExpiredError",
    "SandboxInfo",
    "SandboxTemplate",
    "Secret",
    "Secrets",
    "ServerError",
    "Template",
    "TemplateBuildError",
    "TemplateBuildErrorMetadata",
    "TemplateNotFoundError",
    "TemplateResources",
    "Terminal",
    "TerminalSession",
    "TimeoutError",
    "TokenExpiredError",
    "VNCInfo",
    "ValidationError",
    "WindowInfo",
]

_CORE = ("errors", "models", "network")
_FORM = ("sandbox", "secrets", "cache", "commands", "desktop", "env", "files", "programs", "terminal")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    form = "_async" if name.startswith("Async") else "_sync"
    for place in (*(f"._core.{each}" for each in _CORE), *(f".{form}.{each}" for each in _FORM)):
        module = import_module(place, __name__)
        if hasattr(module, name):
            found: object = getattr(module, name)
            globals()[name] = found
            return found
    raise AssertionError(f"{name} is in __all__, and in no module")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
