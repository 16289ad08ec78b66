"""A real Chromium before a real installation: it trusts the installation's authority and reaches loopback only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, BrowserType, Page, async_playwright

from names import DOMAIN
from sites import Site
from stack import Stack

QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
    "--no-proxy-server",
)
NAMES = f"MAP {DOMAIN} 127.0.0.1, MAP *.{DOMAIN} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
TIMEOUT_MS = 15_000


def program(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    assert found, f"{names[0]} is missing: scripts/test installs it, or apt-get install chromium libnss3-tools"
    return found


@pytest.fixture(scope="session")
def trusting_home(named_stack, tmp_path_factory) -> Path:
    """Of a user who trusts the installation's authority."""
    home = tmp_path_factory.mktemp("home")
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    authority = named_stack.installation.places.tls / "ca.pem"
    certutil = [program("certutil"), "-d", f"sql:{store}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True)
    subprocess.run([*certutil, "-A", "-n", "atoll", "-t", "C,,", "-i", str(authority)], check=True)
    return home


@pytest.fixture(scope="session")
def settings(trusting_home) -> dict[str, Any]:
    return {
        "executable_path": program("chromium", "chromium-browser"),
        "args": [*QUIET, f"--host-resolver-rules={NAMES}"],
        "env": {**os.environ, "HOME": str(trusting_home)},
    }


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[BrowserType]:
    async with async_playwright() as playwright:
        yield playwright.chromium


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium, settings) -> AsyncIterator[Browser]:
    made = await chromium.launch(**settings)
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser) -> AsyncIterator[BrowserContext]:
    """A person without a past."""
    made = await browser.new_context()
    made.set_default_timeout(TIMEOUT_MS)
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def allowing(chromium, settings, tmp_path) -> AsyncIterator[BrowserContext]:
    """The same, with cookies of other sites allowed, as they are not from the start: without, what a page by path loads
    comes without cookies, for such a page has an origin of its own."""
    preferences = tmp_path / "Default" / "Preferences"
    preferences.parent.mkdir()
    preferences.write_text(json.dumps({"profile": {"cookie_controls_mode": 0}}))
    made = await chromium.launch_persistent_context(tmp_path, **settings)
    made.set_default_timeout(TIMEOUT_MS)
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context) -> Page:
    return await context.new_page()


@pytest.fixture(scope="session")
def site(named_stack) -> Iterator[Callable[..., Site]]:
    """Makes sandboxes with a site, open to everybody unless told otherwise."""
    made: list[Site] = []

    def create(stack: Stack = named_stack, **arguments: Any) -> Site:
        made.append(Site(stack.create(**{"inbound_auth": "public", **arguments})))
        made[-1].start()
        return made[-1]

    yield create
    for each in made:
        each.box.kill()
