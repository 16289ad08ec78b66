"""Docker from the distribution, with a daemon and a data directory of its own, on Atoll's own base template."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 60
IMAGE = "atoll-bench:base"


@dataclass(frozen=True)
class Docker:
    program: str
    socket: str

    def __call__(self, *arguments: str) -> str:
        command = [self.program, "-H", f"unix://{self.socket}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def run(self, *command: str) -> None:
        self("run", "--rm", "--network", "none", IMAGE, *command)

    def exec(self, name: str, *command: str) -> None:
        self("exec", name, *command)

    def first_byte(self, name: str, *command: str) -> None:
        argv = [self.program, "-H", f"unix://{self.socket}", "exec", name, *command]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            if not process.stdout.read(1):
                raise RuntimeError(f"{command} printed nothing")

    def start(self) -> str:
        return self("run", "-d", "--network", "none", IMAGE, "sleep", "3600").strip()

    @contextlib.contextmanager
    def container(self) -> Iterator[str]:
        name = self.start()
        try:
            yield name
        finally:
            self("rm", "-f", name)


def install() -> tuple[str, str]:
    """Paths of client and daemon; the distribution's package is taken when they are missing."""
    if not (Path("/usr/bin/docker").exists() and Path("/usr/sbin/dockerd").exists()):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        command = ["apt-get", "install", "-y", "--no-install-recommends", "docker.io"]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return "/usr/bin/docker", shutil.which("dockerd") or "/usr/sbin/dockerd"


@contextlib.contextmanager
def docker(layers: list[Path]) -> Iterator[Docker]:
    program, daemon = install()
    with tempfile.TemporaryDirectory(prefix="atoll-docker-", ignore_cleanup_errors=True) as scratch:
        client = Docker(program, f"{scratch}/docker.sock")
        flags = ["--iptables=false", "--bridge=none", "--ip-masq=false", f"--data-root={scratch}/data"]
        flags += [f"--exec-root={scratch}/exec", f"--pidfile={scratch}/pid", f"--host=unix://{client.socket}"]
        with open(f"{scratch}/log", "wb") as log:
            process = subprocess.Popen([daemon, *flags], stdout=log, stderr=log)
        try:
            wait_for(client, process, Path(scratch) / "log")
            import_image(client, layers)
            yield client
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def wait_for(client: Docker, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.CalledProcessError):
            client("version")
            return
        if process.poll() is not None:
            break
        select.select([], [], [], 0.1)
    raise RuntimeError(f"dockerd did not start: {log.read_text(errors='replace')[-2000:]}")


def import_image(client: Docker, layers: list[Path]) -> None:
    """Only one layer is needed: `base` is a whole root."""
    tar = subprocess.Popen(["tar", "-C", str(layers[-1]), "-c", "."], stdout=subprocess.PIPE)
    command = [client.program, "-H", f"unix://{client.socket}", "import", "-", IMAGE]
    subprocess.run(command, stdin=tar.stdout, check=True, stdout=subprocess.DEVNULL)
    tar.wait()
