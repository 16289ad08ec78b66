"""Installed from the built package, as a new user has it: the client alone, the server, and both from nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import packaged
from atoll.cli.main import NEEDS
from atoll.testing.installation import SERVING, borrow_templates
from stack import templates_dir

FIRST_RESULT_S = 120
FIRST_LINES = """
from atoll import Sandbox

with Sandbox.create(template="code-interpreter") as sandbox:
    print(sandbox.run_code("print(6 * 7)").stdout)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    return packaged.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def client_bin(built, tmp_path_factory) -> Path:
    return packaged.environment(tmp_path_factory.mktemp("client") / "venv", built[1])


@pytest.fixture(scope="module")
def server_bin(built, tmp_path_factory) -> Path:
    return packaged.environment(tmp_path_factory.mktemp("server") / "venv", built[1], "server")


def run(command: list[str | Path], **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/root"), **variables}
    return subprocess.run(command, capture_output=True, text=True, env=clean, cwd="/", timeout=60)


@contextlib.contextmanager
def serving(bin_: Path, data: Path, *flags: str) -> Iterator[dict[str, str]]:
    """`atoll up` of that environment; what it says that clients are to be given."""
    said = data.parent / "said.env"
    command = [str(bin_ / "atoll"), "up", "--data-dir", str(data), "--listen", "127.0.0.1:0", "--print-env", str(said)]
    clean = {"PATH": os.environ["PATH"]}
    process = subprocess.Popen(
        [*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean, cwd="/"
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if SERVING in line:
                break
        else:
            pytest.fail("".join(lines))
        yield dict(line.split("=", 1) for line in said.read_text().splitlines())
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


# ---- what is in it


def test_the_wheel_has_what_the_checkout_has(built):
    """Sources that are compiled on the machine, templates, migrations and the marker of types among them."""
    source = packaged.ROOT / "src"
    there = {
        path.relative_to(source).as_posix()
        for path in (source / "atoll").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    inside = {name for name in packaged.names(built[1]) if name.startswith("atoll/")}
    assert inside == there
    native = {f"atoll/agent/native/{name}.c" for name in ("lineflush", "pages")}
    assert {"atoll/py.typed", "atoll/storage/stock/base.yaml", *native} <= inside


def test_the_client_needs_four_packages(built):
    always = [each for each in packaged.metadata(built[1]).requires_dist or () if each.marker is None]
    assert {each.name for each in always} == {"click", "rich", "httpx", "websockets"}


# ---- the client alone


def test_the_client_alone_imports(client_bin):
    done = run([client_bin / "python", "-c", "from atoll import AsyncSandbox, Sandbox; print(Sandbox.__name__)"])
    assert (done.stdout, done.stderr) == ("Sandbox\n", "")


@pytest.mark.parametrize("command", ["up", "keys", "template"])
def test_the_client_alone_says_what_the_server_needs(client_bin, command: str):
    done = run([client_bin / "atoll", command, "--help"])
    assert done.returncode == 1
    assert "pip install 'atoll[server]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.root
def test_the_client_alone_works_with_a_server(client_bin, stack):
    reach = {"ATOLL_BASE_URL": stack.url, "ATOLL_API_KEY": stack.installation.api_key}
    done = run([client_bin / "python", "-c", FIRST_LINES], **reach)
    assert (done.stdout.strip(), done.stderr) == ("42", "")
    with stack.box("busybox") as box:
        listed = run([client_bin / "atoll", "ps"], **reach)
        assert box.id in listed.stdout, listed.stderr


@pytest.mark.parametrize("extra", NEEDS)
def test_an_extra_brings_the_modules_that_its_commands_look_for(built, extra: str):
    name = extra.partition("[")[2].partition("]")[0]
    asked = [each for each in packaged.metadata(built[1]).requires_dist or () if each.marker is not None]
    asked = [each for each in asked if each.marker.evaluate({"extra": name})]
    brought = {module for each in asked for module in packaged.modules(each.name)}
    assert set(NEEDS[extra]) <= brought
    assert len(asked) == len(NEEDS[extra])


# ---- the server


@pytest.mark.root
@pytest.mark.timeout(120)
def test_a_server_from_the_wheel_gives_a_result(server_bin, tmp_path):
    """With what the package says it needs and nothing else."""
    borrow_templates(templates_dir(), tmp_path / "data")
    flags = ("--templates", "code-interpreter", "--background-templates", "", "--uplink", "none")
    with serving(server_bin, tmp_path / "data", *flags) as reach:
        done = run([server_bin / "python", "-c", FIRST_LINES], **reach)
    assert (done.stdout.strip(), done.stderr) == ("42", "")


@pytest.mark.root
def test_the_doctor_of_the_wheel_finds_this_machine_fit(server_bin):
    done = run([server_bin / "atoll", "doctor"])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.root
@pytest.mark.long
@pytest.mark.timeout(600)
def test_from_nothing_to_a_first_result_takes_two_minutes(built, tmp_path):
    """A fresh environment, packages from the index, templates built: all that a new user waits for."""
    begun = time.monotonic()
    subprocess.run(["/usr/bin/python3", "-m", "venv", str(tmp_path / "venv")], check=True)
    bin_ = tmp_path / "venv" / "bin"
    install = [bin_ / "pip", "install", "--quiet", "--disable-pip-version-check", f"{built[1]}[server]"]
    subprocess.run(install, check=True, capture_output=True)
    installed = time.monotonic()
    with serving(bin_, tmp_path / "data") as reach:
        ready = time.monotonic()
        done = run([bin_ / "python", "-c", FIRST_LINES], **reach)
        took = time.monotonic() - begun
        print(f"installed {installed - begun:.0f} s, ready {ready - installed:.0f} s, in all {took:.0f} s")
        assert (done.stdout.strip(), done.stderr) == ("42", "")
        assert took < FIRST_RESULT_S
    assert len(FIRST_LINES.strip().splitlines()) < 10
