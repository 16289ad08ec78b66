"""Environment variables: the sandbox-wide ones and what a program finally sees."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .errors import invalid
from .users import User

MAX_ENTRIES = 1000
MAX_BYTES = 1024 * 1024
MAX_ENTRY_BYTES = 128 * 1024  # MAX_ARG_STRLEN of the kernel: execve refuses a longer NAME=VALUE
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
    well_formed = _well_formed(values)
    _check_bounds(well_formed)
    return well_formed


def _well_formed(values: object) -> Env:
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise invalid("env is an object of strings")
    for name, value in values.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise invalid(f"not an environment variable: {name[:64]!r}")
    return values


def _check_bounds(values: Mapping[str, str]) -> None:
    sizes = [_size(name, value) for name, value in values.items()]
    if len(sizes) > MAX_ENTRIES:
        raise invalid(f"{len(sizes)} environment variables are more than {MAX_ENTRIES}")
    if sum(sizes) > MAX_BYTES:
        raise invalid(f"environment variables of {sum(sizes)} bytes are larger than {MAX_BYTES} bytes")
    if max(sizes, default=0) > MAX_ENTRY_BYTES:
        raise invalid(f"an environment variable is larger than {MAX_ENTRY_BYTES} bytes")


class Environment:
    """The sandbox-wide variables. They start as the default user's base values."""

    def __init__(
        self, user: User, workdir: str, values: Mapping[str, str], template: Mapping[str, str] | None = None
    ) -> None:
        self._defaults = base_env(user, workdir)
        self.begin(values, template or {})
        self.trust: Env = {}
        """Where programs find the authorities, when one was added; whoever chose otherwise is not overruled."""

    def begin(self, values: Mapping[str, str], template: Mapping[str, str]) -> None:
        """`values` hold the template's own too."""
        self._given = {**self._defaults, **template}
        self.values: Env = {**self._defaults, **values}

    def replace(self, values: object) -> None:
        self._set(dict(_well_formed(values)))

    def merge(self, changes: object) -> None:
        if not isinstance(changes, dict):
            raise invalid("env is an object of strings")
        removed = {name for name, value in changes.items() if value is None}
        kept = {name: value for name, value in self.values.items() if name not in removed}
        added = {name: value for name, value in changes.items() if name not in removed}
        self._set({**kept, **_well_formed(added)})

    def _set(self, values: Env) -> None:
        """What nobody chose counts for nobody: clients write it back with their own."""
        _check_bounds({name: value for name, value in values.items() if self._given.get(name) != value})
        self.values = values

    def for_program(self, user: User, cwd: str, request: Mapping[str, str]) -> Env:
        """base of `user` < trust < sandbox < request. A HOME or USER in the sandbox's variables that is only the
        default user's own is no wish of the caller, so it does not follow another user."""
        shared = {name: value for name, value in self.values.items() if not self._is_untouched_personal(name)}
        return {**base_env(user, cwd), **self.trust, **shared, "PWD": cwd, **request}

    def _is_untouched_personal(self, name: str) -> bool:
        return name in _PERSONAL and self.values[name] == self._defaults[name]


def _size(name: str, value: str) -> int:
    """As `execve` sees it."""
    try:
        return len(os.fsencode(name)) + len(os.fsencode(value)) + 2
    except UnicodeEncodeError:
        raise invalid(f"not an environment variable: {name[:64]!r}") from None
