"""A repairing agent written for E2B's package. Nothing in it is about Atoll, and the package is unmodified.

pip install e2b

    export E2B_API_KEY=e2b_…                            # a key of Atoll
    export E2B_API_URL=http://127.0.0.1:8080 E2B_SANDBOX_URL=http://127.0.0.1:8080

    with Sandbox.create("code-interpreter") as sandbox:
        print(repair(sandbox, {"app.py": "…", "test_app.py": "…"}, model))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from e2b import CommandExitException, FileType, Sandbox

PROJECT = "/home/user/project"

Model = Callable[[str], Mapping[str, str]]
"""What the tests complain about → the files to write anew."""


def repair(sandbox: Sandbox, project: Mapping[str, str], model: Model, max_attempts: int = 5) -> dict[str, str]:
    """Lets `model` change the project until its tests pass; returns its files."""
    write(sandbox, project)
    for _ in range(max_attempts):
        complaint = check(sandbox)
        if complaint is None:
            return read(sandbox)
        write(sandbox, model(complaint))
    raise RuntimeError(f"not repaired in {max_attempts} attempts")


def write(sandbox: Sandbox, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        sandbox.files.write(f"{PROJECT}/{name}", text)


def read(sandbox: Sandbox) -> dict[str, str]:
    found = [entry for entry in sandbox.files.list(PROJECT) if entry.type is FileType.FILE]
    return {entry.name: sandbox.files.read(entry.path) for entry in found}


def check(sandbox: Sandbox, show: Callable[[str], None] = lambda line: None) -> str | None:
    """None when the tests pass; `show` gets their output as it comes."""
    try:
        sandbox.commands.run("python3 -m unittest -q", cwd=PROJECT, timeout=60, on_stdout=show, on_stderr=show)
    except CommandExitException as failed:
        return str(failed.stderr)[-4000:]
    return None


def look(sandbox: Sandbox, path: str, port: int = 8000) -> str:
    """Serves the project in the background and fetches a page of it, as a check of a web application does."""
    server = sandbox.commands.run(f"python3 -m http.server {port}", background=True, cwd=PROJECT)
    try:
        fetch = f"curl -sS --retry 20 --retry-delay 0 --retry-connrefused http://127.0.0.1:{port}/{path}"
        return sandbox.commands.run(fetch).stdout
    finally:
        server.kill()
