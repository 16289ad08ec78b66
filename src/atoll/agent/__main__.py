"""`python -m atoll.agent --socket PATH [--config JSON] [--seed-fd N]`: the agent as an ordinary process, for tests and
debugging. Every user name then means the caller, and SIGTERM ends it. `--listen-fd N` takes an inherited listening
socket instead of a path, so that a caller can connect before the agent is up."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import socket
from pathlib import Path

from .main import serve

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    parser = argparse.ArgumentParser(prog="atoll.agent")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", type=Path)
    where.add_argument("--listen-fd", type=int)
    parser.add_argument("--config", default="{}", type=json.loads)
    parser.add_argument("--seed-fd", type=int, help="an inherited SOCK_SEQPACKET socket with the seed at its other end")
    options = parser.parse_args()
    # orphans come to us, as they come to PID 1
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    seed = None if options.seed_fd is None else socket.socket(fileno=options.seed_fd)
    defaults = {"switch_users": False, "workdir": os.getcwd(), "python": seed is not None}
    listener = _listen(options.socket) if options.socket is not None else socket.socket(fileno=options.listen_fd)
    serve(listener, seed, {**defaults, **options.config})


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(512)
    return listener


if __name__ == "__main__":
    main()
