"""A dev server in a sandbox, its page in a browser: what is edited inside is seen at once, and nothing is loaded anew.

`vite/` pins the packages by version and hash; sandboxes reach no registry, so they are fetched here and carried in.
Rollup is the build of it that runs anywhere: then the lock file is whole whatever machine made it.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sites import by_name, start

pytestmark = [
    pytest.mark.root,
    pytest.mark.browser,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="session"),
]

PROJECT = Path(__file__).parent / "vite"
PINS = ("package.json", "package-lock.json")
SOURCES = ("index.html", "main.js", "message.js", "vite.config.js")
KEPT = Path.home() / ".cache" / "atoll" / "software"
INSTALL_TIMEOUT_S = 300
PORT = 5173
INSIDE = "/workspace/hot"


def installed() -> Path:
    """A directory with the packages, kept outside the checkout: only the first run needs the registry."""
    digest = hashlib.sha256(b"".join((PROJECT / name).read_bytes() for name in PINS)).hexdigest()[:12]
    place = KEPT / f"vite-{digest}"
    if not place.exists():
        _install(place)
    return place


def _install(place: Path) -> None:
    """Whole or not at all, also when another run does the same."""
    KEPT.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=KEPT))
    try:
        for name in PINS:
            shutil.copy(PROJECT / name, made)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=made, check=True, timeout=INSTALL_TIMEOUT_S, stdin=subprocess.DEVNULL)
        with contextlib.suppress(OSError):
            made.rename(place)
        assert place.exists(), f"{made} could not become {place}"
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Packages and sources, as they go into a sandbox."""
    path = tmp_path_factory.mktemp("vite") / "hot.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(installed() / "node_modules", "node_modules")
        for name in (*PINS, *SOURCES):
            archive.add(PROJECT / name, name)
    return path


@pytest.fixture(scope="module")
def served(named_stack, project) -> Iterator:
    with named_stack.box(inbound_auth="public") as box:
        with project.open("rb") as archive:
            place = {"path": f"{INSIDE}/hot.tar"}
            box.agent("POST", "/files/upload", files={"file": archive}, data=place).raise_for_status()
        box.sh(f"cd {INSIDE} && tar -xf hot.tar")
        start(box, f"cd {INSIDE} && node node_modules/vite/bin/vite.js", PORT)
        yield box


async def test_an_edit_inside_is_seen_without_a_reload(page, served):
    sockets = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    async with page.expect_console_message(lambda message: "[vite] connected" in message.text):
        await page.goto(by_name(served, port=PORT))
    shown = page.locator("output")
    assert await shown.inner_text() == "as it was"
    await page.evaluate("window.before = true")

    served.sh(f"sed -i 's/as it was/as it is/' {INSIDE}/message.js")
    await shown.filter(has_text="as it is").wait_for()

    assert await page.evaluate("window.before") is True
    assert [url.partition("?")[0] for url in sockets] == [by_name(served, port=PORT).replace("https", "wss")]


async def test_a_browser_has_it_by_http_2(page, served):
    await page.goto(by_name(served, port=PORT))
    spoken = "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
    assert await page.evaluate(f"[...new Set({spoken}.map(entry => entry.nextHopProtocol))]") == ["h2"]
