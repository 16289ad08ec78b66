"""Which Jupyter kernel is meant by a language's name, and how it is started.

A kernelspec is found by its own name, then by the language it says it is of, then by the other names of that
language. Names mean the same in capitals. What is installed is the template's own affair: its jupyter_client says
where kernelspecs lie.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import string
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_SPEC = 1024 * 1024  # bytes of a kernel.json
MAX_LISTED = 32
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "js": ("javascript", "typescript"),
    "javascript": ("typescript",),  # Deno's kernel runs both and calls itself the one
    "ts": ("typescript", "deno"),
    "typescript": ("deno",),
    "sh": ("bash",),
    "shell": ("bash",),
}
_PYTHON = re.compile(r"python(3(\.\d+)?)?")


class NoKernel(Exception):
    """There is none for this language."""


class Spec(NamedTuple):
    name: str
    language: str
    argv: list[str]
    env: dict[str, str]
    interrupt_by_message: bool
    directory: str

    def command(self, connection_file: str) -> list[str]:
        """As Jupyter reads kernel.json: `python` is the interpreter that looks after the kernel."""
        values = {"connection_file": connection_file, "resource_dir": self.directory, "prefix": sys.prefix}
        argv = [re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), part) for part in self.argv]
        return [sys.executable, *argv[1:]] if sys.executable and _PYTHON.fullmatch(argv[0]) else argv

    def environment(self, before: Mapping[str, str]) -> dict[str, str]:
        return {**before, **{name: string.Template(text).safe_substitute(before) for name, text in self.env.items()}}


def find(language: str) -> Spec:
    """Raises NoKernel, which names what is there."""
    specs = installed()
    spec = choose(language, specs)
    if spec is None:
        names = ", ".join(spelled(specs[name]) for name in sorted(specs)[:MAX_LISTED]) or "none"
        raise NoKernel(f"no kernel for the language {language!r}; there are: python, and the kernels {names}")
    return spec


def spelled(spec: Spec) -> str:
    """A kernel's name, and its language where that is another word."""
    return spec.name if spec.language in ("", spec.name) else f"{spec.name} ({spec.language})"


def choose(language: str, specs: Mapping[str, Spec]) -> Spec | None:
    for wanted in (language, *OTHER_NAMES.get(language, ())):
        if wanted in specs:
            return specs[wanted]
        for name in sorted(specs):
            if specs[name].language == wanted:
                return specs[name]
    return None


def installed() -> dict[str, Spec]:
    try:
        kernelspec: Any = importlib.import_module("jupyter_client.kernelspec")
        importlib.import_module("zmq")
    except ImportError as error:
        raise NoKernel(
            f"this template has no Jupyter kernels, which languages other than Python need ({error}); "
            "code-interpreter-v1 has them"
        ) from None
    directories = kernelspec.KernelSpecManager(ensure_native_kernel=False).find_kernel_specs()
    found = {name.lower(): read(name.lower(), directory) for name, directory in directories.items()}
    return {name: spec for name, spec in found.items() if spec is not None}


def read(name: str, directory: str) -> Spec | None:
    """None: not a kernelspec that could be started."""
    try:
        with open(os.path.join(directory, "kernel.json"), "rb") as file:
            return parse(name, directory, json.loads(file.read(MAX_SPEC)))
    except (OSError, ValueError):
        return None


def parse(name: str, directory: str, content: Any) -> Spec | None:
    if not isinstance(content, dict):
        return None
    argv, env = content.get("argv"), content.get("env")
    if not isinstance(argv, list) or not argv or not all(isinstance(part, str) for part in argv):
        return None
    return Spec(
        name,
        str(content.get("language") or "").lower(),
        argv,
        {str(key): str(value) for key, value in env.items()} if isinstance(env, dict) else {},
        content.get("interrupt_mode") == "message",
        directory,
    )
