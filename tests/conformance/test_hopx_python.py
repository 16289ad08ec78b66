"""The unmodified Python clients, each version by the same suite (clients/hopx): every member and every parameter."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from python_versions import HOPX, TIMEOUT_S, Suite, account, check_skipped, imports, runs

from atoll.testing.installation import Installation, borrow_templates
from atoll.testing.internet import WEB
from stack import templates_dir

HOOK_NAME, HOOK_PORT = "api.example.com", 8090

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * TIMEOUT_S)]


@pytest.fixture(scope="module")
def suite(request, place, records) -> Iterator[Suite]:
    with runs(HOPX, HOPX.wanted(request.config.getoption("--long")), place, records) as found:
        yield found


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
        **account(installation),
        "named_url": f"http://127.0.0.1:{named_stack.port}",
        "named_key": named_stack.installation.api_key,
        "hook": f"http://{HOOK_NAME}:{HOOK_PORT}",
        "posts": str(posts),
    }


@pytest.mark.parametrize("version", HOPX.cases())
def test_every_member_and_parameter(suite, version):
    suite(version).check()


@pytest.mark.long
def test_no_test_is_skipped_by_every_version_and_form(suite):
    check_skipped(suite, (*HOPX.always, *HOPX.between))


@pytest.mark.long
@pytest.mark.parametrize("version", HOPX.broken)
def test_older_versions_cannot_be_imported(version):
    assert "name 'BunnyshellError' is not defined" in imports(HOPX, version).stderr
