"""When a Go program that was compiled before is the one that compiling again would give, and how it is compiled.

A program may be used again when everything that goes into it is in its key: its text, the toolchain, the settings.
That holds for programs of the standard library alone, compiled outside of modules, without cgo and without flags of
the user's; the rest is compiled every time. (What the key leaves out: a standard library edited in place.)
Called with the rights of the user whose program it is: every path here is the user's to choose.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .errors import not_found

SOURCE: Final = "main.go"
PROGRAM: Final = "main"
# Module mode wants a go.mod and asks the network for what it lacks; a single file needs neither. No other flags for
# the standard library: what the template's warm cache holds was compiled with defaults.
DEFAULTS: Final = {"GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOTELEMETRY": "off"}
# Compilers are short-lived and their heaps small: a lazier collector saves an eighth of the time.
_GOGC = "400"
# Builds, leaves a link for the next time (fails quietly: no room, somebody was faster), and becomes the program.
_SCRIPT = 'keep=$1 gogc=$2 out=$3; shift 3; GOGC=$gogc "$@" || exit; ln -- "$out" "$keep" 2>/dev/null; exec "$out"'
_MAX_SETTINGS = 64 * 1024
# Beyond these a program is compiled every time: reading it here would keep PID 1 from its other work.
_MAX_SOURCE = 1024 * 1024
_MAX_IMPORTS = 256
_SETTING = re.compile(r"GO|CGO_|CC$|CXX$|FC$|AR$|PKG_CONFIG")
_WANTED = {"GO111MODULE": "off", "CGO_ENABLED": "0"}
_UNWANTED = ("GOFLAGS", "GOENV", "GOROOT")
# Nothing here backtracks: the text is the enemy's, and this is PID 1.
_BETWEEN = re.compile(r"(?>\s+|;|//[^\n]*|/\*.*?\*/)*+", re.DOTALL)
_NAME = re.compile(r"[^\W\d]\w*+|\.")
_PATH = re.compile(r"\"([^\"\n]*+)\"|`([^`]*+)`")
_STANDARD = re.compile(r"[a-z0-9]+(?:/[a-z0-9]+)*")


@dataclass(frozen=True)
class Program:
    """A Go program about to run. `key` is None when it must be compiled for itself."""

    compiler: str
    key: str | None
    flagged: bool
    """The user's own flags hold, and ours stay away."""
    gogc: str

    def building(self, scratch: str, keep: str | None) -> list[str]:
        """A command that builds `scratch`'s source, links it to `keep` and becomes it."""
        out = os.path.join(scratch, PROGRAM)
        flags = [] if self.flagged else ["-ldflags=-s -w", f"-gcflags=-trimpath={scratch}"]
        build = [self.compiler, "build", *flags, "-o", out, os.path.join(scratch, SOURCE)]
        return ["sh", "-c", _SCRIPT, "sh", keep or "", self.gogc, out, *build]


def inspect(files: Mapping[str, str], env: Mapping[str, str]) -> Program:
    compiler = shutil.which("go", path=env.get("PATH", os.defpath))
    if compiler is None:
        raise not_found("go: no such program")
    settings = {**_settings_file(env), **{name: value for name, value in env.items() if _SETTING.match(name)}}
    plain = os.path.isabs(compiler) and _is_plain(settings)
    return Program(
        compiler=compiler,
        key=_key(files, os.path.realpath(compiler), settings) if plain else None,
        flagged=bool(settings.get("GOFLAGS")),
        gogc=env.get("GOGC", _GOGC),
    )


def imports(source: str) -> list[str] | None:
    """The paths that a Go file imports: declarations between its package clause and all others.

    None where that clause is not found. Where this finds less than the compiler would, the compiler refuses the file.
    """
    at = _after(source, 0)
    if not source.startswith("package", at):
        return None
    clause = _NAME.match(source, _after(source, at + len("package")))
    if clause is None:
        return None
    found: list[str] = []
    at = _after(source, clause.end())
    while source.startswith("import", at):
        at = _after(source, at + len("import"))
        if not source.startswith("(", at):
            at = _import(source, at, found)
            continue
        before, at = at, _after(source, at + 1)
        while before != at:
            before, at = at, _import(source, at, found)
        if source.startswith(")", at):
            at = _after(source, at + 1)
    return found


def _import(source: str, at: int, found: list[str]) -> int:
    """Behind one import, or `at` when none stands there."""
    name = _NAME.match(source, at)
    path = _PATH.match(source, _after(source, name.end()) if name else at)
    if path is None:
        return at
    found.append(path[1] if path[1] is not None else path[2])
    return _after(source, path.end())


def _after(source: str, at: int) -> int:
    """Behind white space, comments and semicolons."""
    match = _BETWEEN.match(source, at)
    return match.end() if match else at


def _is_plain(settings: Mapping[str, str]) -> bool:
    wanted = all(settings.get(name) == value for name, value in _WANTED.items())
    return wanted and not any(settings.get(name) for name in _UNWANTED)


def _key(files: Mapping[str, str], compiler: str, settings: Mapping[str, str]) -> str | None:
    root = os.path.dirname(os.path.dirname(compiler))
    needed = imports(files[SOURCE]) if sum(map(len, files.values())) <= _MAX_SOURCE else None
    if needed is None or len(needed) > _MAX_IMPORTS or not all(map(_is_standard, needed)):
        return None
    packages = [os.path.join(root, "src", path) for path in needed]
    try:
        stamps = [_stamp(path) for path in (compiler, os.path.join(root, "VERSION"), *_tools(root), *packages)]
    except OSError:
        return None
    told = json.dumps([dict(files), dict(settings), stamps], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(told.encode("ascii")).hexdigest()


def _is_standard(path: str) -> bool:
    """Could be of the standard library; it is when its directory is there. `embed` reads files that are in no key."""
    return _STANDARD.fullmatch(path) is not None and path != "embed"


def _tools(root: str) -> list[str]:
    directory = os.path.join(root, "pkg", "tool")
    try:
        targets = sorted(os.listdir(directory))[:8]
    except OSError:
        return [directory]
    return [os.path.join(directory, target, tool) for target in targets for tool in ("compile", "link")]


def _stamp(path: str) -> list[int | str]:
    status = os.stat(path)
    return [path, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _settings_file(env: Mapping[str, str]) -> dict[str, str]:
    """What `go env -w` has written. One that cannot be read as such counts as flags: then nothing is used again."""
    place = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME", "/"), ".config")
    try:
        fd = os.open(os.path.join(place, "go", "env"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        return {}
    except OSError:
        return {"GOENV": "unreadable"}
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return {"GOENV": "unreadable"}
        text = os.read(fd, _MAX_SETTINGS)
    except OSError:
        return {"GOENV": "unreadable"}
    finally:
        os.close(fd)
    if len(text) == _MAX_SETTINGS:
        return {"GOENV": "too long"}
    lines = (line.partition("=") for line in os.fsdecode(text).splitlines())
    return {name.strip(): value.strip() for name, equals, value in lines if equals and not name.startswith("#")}
