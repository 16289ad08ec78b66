"""The unmodified Python clients, each version by the same suite (clients/python): every member and every parameter."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import compatibility
import pytest
from python_versions import BETWEEN, BROKEN, NEWEST, OLDEST, TIMEOUT_S, Result, imports, run

from atoll.testing.installation import Installation, borrow_templates
from atoll.testing.internet import WEB
from stack import templates_dir

HOOK_NAME, HOOK_PORT = "api.example.com", 8090

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * TIMEOUT_S)]


@pytest.fixture(scope="module")
def suite(request, place, records) -> Iterator[Callable[[str], Result]]:
    """Two at a time: half of a suite is waiting."""
    with ThreadPoolExecutor(2) as pool:
        versions = (NEWEST, OLDEST, *(BETWEEN if request.config.getoption("--long") else ()))
        running: dict[str, Future[Result]] = {each: pool.submit(run, each, place, records) for each in versions}
        yield lambda version: running[version].result()


class Hook(BaseHTTPRequestHandler):
    """A program of the caller's, far out: a line of `posts` for each thing that it is sent."""

    posts: Path

    def do_POST(self) -> None:
        body = base64.b64encode(self.rfile.read(int(self.headers["Content-Length"]))).decode()
        with self.posts.open("a") as file:
            file.write(json.dumps({"path": self.path, "headers": dict(self.headers), "body": body}) + "\n")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def posts(internet, tmp_path_factory) -> Iterator[Path]:
    file = tmp_path_factory.mktemp("hook") / "posts"
    file.touch()
    handler = type("Handler", (Hook,), {"posts": file})
    server = internet.far(lambda: ThreadingHTTPServer((WEB[HOOK_NAME], HOOK_PORT), handler))
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    yield file
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture(scope="module")
def installation(internet, tmp_path_factory) -> Iterator[Installation]:
    """With a way out, into the small internet."""
    data = tmp_path_factory.mktemp("clients")
    borrow_templates(templates_dir(), data)
    with Installation(data, "--templates", "base,code-interpreter,busybox", "--uplink", internet.uplink) as made:
        yield made


@pytest.fixture(scope="module")
def place(installation, named_stack, posts) -> dict[str, str]:
    """What the suite is told."""
    return {
        "url": installation.url,
        "key": installation.api_key,
        "rare_key": _key(installation, "--calls-per-minute", "1"),
        "poor_key": _key(installation, "--max-sandboxes", "0"),
        "named_url": f"http://127.0.0.1:{named_stack.port}",
        "named_key": named_stack.installation.api_key,
        "hook": f"http://{HOOK_NAME}:{HOOK_PORT}",
        "posts": str(posts),
    }


def _key(installation: Installation, *limits: str) -> str:
    command = [sys.executable, "-m", "atoll.cli.main", "keys", "create", "clients", *limits]
    data = ["--data-dir", str(installation.places.data)]
    return subprocess.run([*command, *data], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("version", [NEWEST, OLDEST, *(pytest.param(each, marks=pytest.mark.long) for each in BETWEEN)])
def test_every_member_and_parameter(suite, version):
    result = suite(version)
    assert result.status == 0, result.output
    if "ATOLL_CLIENT_ARGS" not in os.environ:
        compatibility.check(result.records)


@pytest.mark.long
def test_no_test_is_skipped_by_every_version_and_form(suite):
    """One that covers what no version has, or asks for it, has a name wrong."""
    skipped = frozenset.intersection(*(suite(version).skipped for version in (NEWEST, *BETWEEN, OLDEST)))
    in_both_forms = {name for name in skipped if "[sync" in name and name.replace("[sync", "[async") in skipped}
    assert in_both_forms == set()


@pytest.mark.long
@pytest.mark.parametrize("version", BROKEN)
def test_older_versions_cannot_be_imported(version):
    assert "name 'BunnyshellError' is not defined" in imports(version).stderr
