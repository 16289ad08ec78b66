"""Every example of the documents is run, as a reader would: page by page, in order, against a real installation."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import reading

from stack import Stack

TERMINAL = Path(__file__).parent / "terminal.py"
PAGE_TIMEOUT_S = 180
ONLINE = {"docs/networking.md", "docs/secrets.md"}
"""Pages whose sandboxes need somebody to talk to."""
SHELL = {
    "atoll": 'exec {python} -m atoll.cli.main "$@"',
    "python": 'exec {python} "$@"',
    "sudo": 'exec "$@"',
}


def runnable(page: Path) -> list[reading.Block]:
    """Files that are written count as well: something behind them is run with them."""
    return [block for block in reading.blocks(reading.name(page), page.read_text()) if block.is_run or block.title]


MOST_NOT_RUN = 14
PAGES = [page for page in reading.pages() if runnable(page)]


@pytest.fixture(scope="session")
def programs(tmp_path_factory) -> Path:
    """What stands on the reader's PATH."""
    place = tmp_path_factory.mktemp("programs")
    for name, script in SHELL.items():
        program = place / name
        program.write_text(f"#!/bin/sh\n{script.format(python=sys.executable)}\n")
        program.chmod(0o755)
    return place


@contextlib.contextmanager
def tidied(stack: Stack) -> Iterator[None]:
    """Whatever a page leaves running is ended behind it; what was there is somebody else's."""
    before = sandboxes(stack)
    yield
    for each in sandboxes(stack) - before:
        stack.api("DELETE", f"/v1/sandboxes/{each}")


def sandboxes(stack: Stack) -> set[str]:
    return {sandbox["id"] for sandbox in stack.api("GET", "/v1/sandboxes?limit=100").json()["data"]}


@pytest.mark.root
@pytest.mark.timeout(PAGE_TIMEOUT_S)
@pytest.mark.parametrize("page", PAGES, ids=reading.name)
def test_the_examples_of_a_page_do_what_it_says(page, request, programs, tmp_path) -> None:
    stack: Stack = request.getfixturevalue("online" if reading.name(page) in ONLINE else "stack")
    found = runnable(page)
    with tidied(stack):
        environment = reader(stack, programs, tmp_path)
        if any("$ID" in block.text for block in found):
            environment["ID"] = stack.create().id
        if any(block.language == "js" for block in found):
            (tmp_path / "node_modules").symlink_to(javascript_packages())
        outcome = read(found, tmp_path, environment)
    assert outcome["wrong"] is None, outcome["wrong"]
    assert outcome["ran"] == len(found)


def read(blocks: list[reading.Block], place: Path, environment: dict[str, str]) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, str(TERMINAL)],
        input=json.dumps([asdict(block) | {"place": block.place} for block in blocks]),
        capture_output=True,
        text=True,
        cwd=place,
        env=environment,
        timeout=PAGE_TIMEOUT_S - 10,
    )
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


def reader(stack: Stack, programs: Path, home: Path) -> dict[str, str]:
    """The environment of somebody who has done what the quickstart says: a server, its URL and key."""
    url, key = stack.installation.url, stack.installation.api_key
    return {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(reading.ROOT / "src"),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ATOLL_DATA_DIR": str(stack.installation.places.data),
        "ATOLL_BASE_URL": url,
        "ATOLL_API_KEY": key,
        "HOPX_API_KEY": key,
        "E2B_API_KEY": key,
        **{f"E2B_{which}_URL": url for which in ("API", "SANDBOX", "VOLUME_API")},
        "URL": url,
        "KEY": key,
    }


def javascript_packages() -> Path:
    sys.path.insert(0, str(reading.ROOT / "tests" / "conformance"))
    import javascript_versions

    client = javascript_versions.HOPX
    newest = max(client.versions(), key=lambda text: [int(part) for part in text.split(".")])
    return client.installed(newest) / "node_modules"


def test_an_example_that_is_not_run_says_why() -> None:
    for page in reading.pages():
        for block in reading.blocks(reading.name(page), page.read_text()):
            assert block.not_run is None or len(block.not_run) > 8, f"{block.place}: a reason is missing"


def test_every_block_of_a_user_page_says_what_language_it_is() -> None:
    """An unnamed block would be an example that nobody runs and nobody sees."""
    nameless = [
        block.place
        for page in reading.pages()
        if page.parent == reading.ROOT / "docs" and page.name not in INTERNAL | MADE
        for block in reading.blocks(reading.name(page), page.read_text())
        if not block.language
    ]
    assert not nameless, "\n".join(nameless)


INTERNAL = {"architecture.md", "agent-protocol.md", "dependencies.md", "long-tests.md", "performance.md", "security.md"}
"""About how Atoll is made, not about using it."""
MADE = {"cli.md"}
"""From the code; its examples are looked at in test_complete.py."""


def test_few_examples_are_not_run() -> None:
    """They change the reader's machine, or run until they are ended. More than these have to be looked at."""
    left_out = [
        f"{block.place}: {block.not_run}"
        for page in reading.pages()
        for block in reading.blocks(reading.name(page), page.read_text())
        if block.language in reading.RUN and block.not_run
    ]
    assert len(left_out) <= MOST_NOT_RUN, "\n".join(left_out)
