"""`python -m atoll.agent.runner --seed-fd N [--preload numpy,pandas]`: a seed as an ordinary process.

For tests and debugging: N is an inherited SOCK_SEQPACKET socket, and user ids are only switched for root.
"""

from __future__ import annotations

import argparse
import socket
import sys

from .preload import preload
from .seed import serve_seed


def main() -> None:
    parser = argparse.ArgumentParser(prog="atoll.agent.runner")
    parser.add_argument("--seed-fd", type=int, required=True)
    parser.add_argument("--preload", default="", help="modules to import before the first fork, comma-separated")
    options = parser.parse_args()
    for line in preload(name for name in options.preload.split(",") if name).failed:
        print(line, file=sys.stderr)
    with socket.socket(fileno=options.seed_fd) as sock:
        serve_seed(sock)


if __name__ == "__main__":
    main()
