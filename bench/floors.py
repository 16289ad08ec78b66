"""What the kernel, the database and HTTP alone cost: the floor under Atoll's figures, without any isolation."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from instant import Instant
from plain_client import Api, Connection
from report import Report
from timing import repeat

from atoll.store.engine import PRAGMAS
from atoll.testing.installation import Installation

FORKING = Path(__file__).with_name("forking.py")
NAMES = {
    "exec": "fork and exec of true",
    "namespaces": "fork, seven new namespaces, exec of true",
    "fork": "fork of 100 MB with pandas → the child answers",
    "cell": "fork of 100 MB with pandas → the child has run the pandas cell",
    "forks": "fork of 100 MB with pandas, 100 at once → all have answered",
    "cells": "fork of 100 MB with pandas, 100 at once → all have run the pandas cell",
}


def bench_floors(report: Report, server: Installation, count: int) -> None:
    for key, samples in _forking(count).items():
        report.measure(f"floors: {NAMES[key]}", samples)
    report.measure("floors: a commit, as the store makes it", _commits(server.places.data, count * 4))
    report.measure("floors: HTTP to a server that answers at once", _requests(server, count * 4))


def _forking(count: int) -> dict[str, list[float]]:
    ran = subprocess.run([sys.executable, str(FORKING), str(count)], capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"the floors could not be measured: {ran.stderr[-2000:]}")
    return dict(json.loads(ran.stdout))


def _commits(directory: Path, count: int) -> list[float]:
    """One row of a sandbox's size, on the file system and with the settings of the real one."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        database = sqlite3.connect(f"{scratch}/floor.db", isolation_level=None)
        for pragma in PRAGMAS:
            database.execute(pragma).close()
        database.execute("CREATE TABLE sandboxes (id INTEGER PRIMARY KEY, record TEXT)")

        def one() -> None:
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO sandboxes (record) VALUES (?)", ("x" * 2000,))
            database.execute("COMMIT")

        found = repeat(count, one)
        database.close()
    return found


def _requests(server: Installation, count: int) -> list[float]:
    sandbox = Api(server).create("base")
    try:
        with Instant(server.url) as url:
            kept = Connection(url, {"X-API-Key": server.api_key})
            return repeat(count, lambda: kept.call("GET", f"/v1/sandboxes/{sandbox.id}"))
    finally:
        sandbox.kill()
