"""Names for tests that leave the machine's own files alone: a resolver on a loopback address that says 127.0.0.1 for
everything below one domain, and programs that ask it (in a mount namespace with a resolv.conf of their own)."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path
from types import TracebackType

import leaving

DOMAIN = "sandboxes.test"
_ENTER = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'


class Resolver:
    """DNS as far as `getaddrinfo` needs it (RFC 1035): A of the domain's names; nothing else exists."""

    def __init__(self, directory: Path, domain: str = DOMAIN) -> None:
        self._domain = domain.split(".")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        address = f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"
        self._socket.bind((address, 53))
        self._conf = directory / "resolv.conf"
        self._conf.write_text(f"nameserver {address}\noptions timeout:20 attempts:1\n")
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Resolver:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        address = self._socket.getsockname()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", address)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, sender = self._socket.recvfrom(512)
            if not question:
                return
            self._socket.sendto(self._answer(question), sender)

    def _answer(self, question: bytes) -> bytes:
        labels, at = [], 12
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode().lower())
            at += 1 + length
        asked = question[12 : at + 5]
        known = labels[-len(self._domain) :] == self._domain
        found = known and question[at + 1 : at + 3] == b"\0\1"
        head = question[:2] + (b"\x85\x80" if known else b"\x85\x83") + b"\0\1" + (b"\0\1" if found else b"\0\0")
        record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x7f\0\0\1" if found else b""
        return head + b"\0\0\0\0" + asked + record

    @property
    def before(self) -> list[str]:
        """What stands before the words of a program that is to know the names."""
        return ["unshare", "--mount", "sh", "-c", _ENTER, "sh", str(self._conf)]

    def run(self, *command: str, **variables: str) -> str:
        """Standard output of a program that knows the names; it must succeed."""
        done = subprocess.run(
            [*self.before, *command],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def python(self, code: str, **variables: str) -> str:
        return self.run(*leaving.PYTHON, "-c", code, **variables)
