"""Environment variables: the sandbox-wide ones and what a program finally sees."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import AgentError, Kind, invalid
from .users import User

MAX_ENTRIES = 1000
MAX_BYTES = 1024 * 1024
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PERSONAL = ("HOME", "USER", "LOGNAME", "SHELL")

Env = dict[str, str]


def base_env(user: User, workdir: str) -> Env:
    return {
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
        "SHELL": user.shell,
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "PWD": workdir,
    }


def checked(values: object) -> Env:
    """A request's variables, or `invalid`."""
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise invalid("env is an object of strings")
    for name, value in values.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise invalid(f"not an environment variable: {name!r}")
    if len(values) > MAX_ENTRIES or _size(values) > MAX_BYTES:
        raise AgentError(Kind.TOO_LARGE, f"more than {MAX_ENTRIES} variables or {MAX_BYTES} bytes")
    return values


class Environment:
    """The sandbox-wide variables. They start as the default user's base values."""

    def __init__(self, user: User, workdir: str, values: Mapping[str, str]) -> None:
        self._defaults = base_env(user, workdir)
        self.values: Env = {**self._defaults, **values}

    def replace(self, values: object) -> None:
        self.values = dict(checked(values))

    def merge(self, changes: object) -> None:
        if not isinstance(changes, dict):
            raise invalid("env is an object of strings")
        removed = {name for name, value in changes.items() if value is None}
        kept = {name: value for name, value in self.values.items() if name not in removed}
        added = {name: value for name, value in changes.items() if name not in removed}
        self.values = checked({**kept, **checked(added)})

    def for_program(self, user: User, cwd: str, request: Mapping[str, str]) -> Env:
        """base of `user` < sandbox < request. A HOME or USER in the sandbox's variables that is only the default
        user's own is no wish of the caller, so it does not follow another user."""
        shared = {name: value for name, value in self.values.items() if not self._is_untouched_personal(name)}
        return {**base_env(user, cwd), **shared, "PWD": cwd, **request}

    def _is_untouched_personal(self, name: str) -> bool:
        return name in _PERSONAL and self.values[name] == self._defaults[name]


def _size(values: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) + 2 for name, value in values.items())
