"""The agent's own Python: relocatable, world-readable, mounted read-only at `/.atoll` in zygotes and sandboxes.

    bin/ld.so, bin/python3      always started through its own loader, so the template's libc does not matter
    lib/*.so*                   what python3 and its kept extension modules need, and libseccomp
    lib/python3.N/              the standard library, pruned; `atoll` in it is a link to code/atoll
    lib/lineflush.so            pre-loaded into programs that write to our pipe
    lib/pages.so                shares memory between a fork and its zygote again
    code/atoll/                 core, wire, agent, engines

Two digests: the interpreter changes with the host's release or the recipe; the code with every edit of ours, so a new
code is laid over hard links to the same interpreter. A directory appears by rename and is never changed afterwards:
running sandboxes have it mounted.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from atoll.core.errors import InternalError

from . import apt, tools

MOUNT = "/.atoll"
RECIPE = "1"
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libseccomp2")
CODE = ("core", "wire", "agent", "engines")
_SOURCE = Path(__file__).resolve().parents[1]
_LINEFLUSH = Path("agent/native/lineflush.c")
_PAGES = Path("agent/native/pages.c")
FREESTANDING = ("-nostdlib", "-fno-stack-protector", "-fno-builtin", "-fno-tree-loop-distribute-patterns")
_PRUNED_LIBRARY = re.compile(
    r"__pycache__|config-.*|tests?|unittest|idlelib|tkinter|turtledemo|turtle\.py|lib2to3|pydoc_data|ensurepip|venv"
    r"|distutils|msilib|xmlrpc|wsgiref|sqlite3|curses|dbm|antigravity\.py|this\.py|sitecustomize\.py"
)
_PRUNED_EXTENSIONS = re.compile(
    r"(_ssl|_hashlib|_sqlite3|_dbm|_curses.*|readline|nis|ossaudiodev|audioop|_crypt|_lsprof|_uuid"
    r"|_codecs_.*|_test.*|_ctypes_test|_xx.*|xx.*)\."
)


def runtime_argv(runtime: Path | str, mount: str | None = MOUNT) -> list[str]:
    """Starts Python in a runtime mounted at `mount`, or where it lies when None. `-m atoll.…` and `-c` may follow.

    The loader's cache is not asked: it belongs to the template.
    """
    root = str(runtime) if mount is None else mount
    return [
        f"{root}/bin/ld.so",
        "--inhibit-cache",
        "--library-path",
        f"{root}/lib",
        f"{root}/bin/python3",
        *("-I", "-S", "-X", "utf8=1"),
    ]


def current(data_dir: Path) -> Path:
    """The runtime that the last `build` made; a link in DATA/runtime says which."""
    return (data_dir / "runtime" / "current").resolve(strict=True)


def build(data_dir: Path, source: Path = _SOURCE) -> Path:
    """Makes what is missing, points `current` at it and returns DATA/runtime/<interpreter>-<code>."""
    interpreter, runtime = _names(data_dir / "runtime", source)
    runtime.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not interpreter.is_dir():
        _appear(interpreter, _make_interpreter)
    if not runtime.is_dir():
        _appear(runtime, lambda new: _add_code(interpreter, new, source))
    _point(runtime.parent / "current", runtime.name)
    return runtime


def is_built(data_dir: Path, source: Path = _SOURCE) -> bool:
    _, runtime = _names(data_dir / "runtime", source)
    link = runtime.parent / "current"
    return runtime.is_dir() and link.is_symlink() and os.readlink(link) == runtime.name


def _names(place: Path, source: Path) -> tuple[Path, Path]:
    interpreter = interpreter_digest(apt.suite(), platform.machine())
    return place / f"interpreter-{interpreter}", place / f"{interpreter}-{code_digest(source)}"


def interpreter_digest(suite: str, machine: str) -> str:
    return _digest((RECIPE, suite, machine, *PACKAGES))


def code_digest(source: Path) -> str:
    def parts() -> Iterator[str]:
        for path in code_files(source):
            yield str(path.relative_to(source))
            yield hashlib.sha256(path.read_bytes()).hexdigest()

    return _digest(parts())


def code_files(source: Path) -> list[Path]:
    wanted = [source / "__init__.py", source / _LINEFLUSH, source / _PAGES]
    for package in CODE:
        wanted += sorted((source / package).rglob("*.py"))
    return [path for path in wanted if path.is_file()]


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _appear(target: Path, make: Callable[[Path], None]) -> None:
    """`make` fills an empty directory; it takes its name only when it is whole."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent, ignore_cleanup_errors=True) as scratch:
        new = Path(scratch) / "new"
        new.mkdir(mode=0o755)
        make(new)
        os.rename(new, target)


def _point(link: Path, name: str) -> None:
    if link.is_symlink() and os.readlink(link) == name:
        return
    fresh = link.with_name(f".{link.name}-{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(name)
    os.rename(fresh, link)


def _make_interpreter(new: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".extract-", dir=new.parent) as scratch:
        root = Path(scratch) / "root"
        tools.run(apt.mmdebstrap(root, variant="extract", packages=PACKAGES), what="extracting the agent's interpreter")
        _pick(root, new)
    _readable(new)


def _pick(root: Path, new: Path) -> None:
    python = _one(root.glob("usr/bin/python3.[0-9]*"), "python3")
    stdlib = new / "lib" / python.name
    (new / "bin").mkdir()
    shutil.copyfile(_one(root.rglob("ld-linux*.so.*"), "the loader"), new / "bin" / "ld.so")
    shutil.copyfile(python, new / "bin" / "python3")
    for program in (new / "bin").iterdir():
        program.chmod(0o755)
    shutil.copytree(root / "usr/lib" / python.name, stdlib, symlinks=False, ignore=_pruned)
    extensions = list((stdlib / "lib-dynload").iterdir())
    seccomp = _one(root.rglob("libseccomp.so.2"), "libseccomp")
    unwinder = _one(root.rglob("libgcc_s.so.1"), "libgcc")  # glibc loads it when a thread ends by pthread_exit
    for library in _needed(new / "bin" / "ld.so", root, [python, seccomp, *extensions]) | {seccomp, unwinder}:
        shutil.copyfile(library, new / "lib" / library.name)
    (stdlib / "atoll").symlink_to("../../code/atoll")
    _compile(new, stdlib)


def _pruned(directory: str, names: list[str]) -> set[str]:
    if directory.endswith("lib-dynload"):
        return {name for name in names if _PRUNED_EXTENSIONS.match(name)}
    return {name for name in names if _PRUNED_LIBRARY.fullmatch(name)}


def _one(found: Iterable[Path], what: str) -> Path:
    for path in sorted(found):
        if path.is_file() and not (path.is_symlink() and os.readlink(path).startswith("/")):
            return path
    raise InternalError(f"the extracted packages hold no {what}")


def _needed(loader: Path, root: Path, programs: Iterable[Path]) -> set[Path]:
    """Every shared library that the programs load, as the extracted loader itself resolves them."""
    search = ":".join(sorted({str(path.parent) for path in root.rglob("*.so.*")}))
    found: set[Path] = set()
    for program in programs:
        argv = [str(loader), "--inhibit-cache", "--library-path", search, "--list", str(program)]
        for line in tools.run(argv, what=f"listing the libraries of {program.name}").splitlines():
            resolved = re.search(r"=> (\S+) \(", line)
            if resolved and Path(resolved[1]) != loader:
                found.add(Path(resolved[1]))
    if outside := [str(path) for path in found if not path.is_relative_to(root)]:
        raise InternalError(f"the interpreter would use the host's libraries: {', '.join(sorted(outside))}")
    return found


def _compile(runtime: Path, tree: Path) -> None:
    # Unchecked: the files never change under a runtime's name, so an import need not stat the source.
    compiler = ["-m", "compileall", "-q", "-s", str(runtime), "-p", MOUNT, "--invalidation-mode", "unchecked-hash"]
    tools.run([*runtime_argv(runtime, None), *compiler, str(tree)], what="compiling the agent's library")


def _add_code(interpreter: Path, new: Path, source: Path) -> None:
    shutil.copytree(interpreter, new, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
    code = new / "code" / "atoll"
    for path in code_files(source):
        target = code / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    _compile(new, code)
    compile_library(source / _LINEFLUSH, new / "lib" / "lineflush.so", "-ldl")
    compile_library(source / _PAGES, new / "lib" / "pages.so", *FREESTANDING)
    _readable(new / "code")


def compile_library(source: Path, target: Path, *flags: str) -> None:
    if not source.is_file():
        raise InternalError(f"the installed package lacks {source.name}")
    argv = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(target), str(source), *flags]
    tools.run(argv, what=f"compiling {target.name}")
    target.chmod(0o755)


def _readable(tree: Path) -> None:
    for directory, _, names in os.walk(tree):
        os.chmod(directory, 0o755)  # noqa: S103 - every sandbox reads it, under its own ids
        for name in names:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                os.chmod(path, 0o755 if os.access(path, os.X_OK) and "/bin/" in path else 0o644)
