"""A template that is built while Atoll serves already. Which one makes no difference: `busybox` takes seconds."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from atoll.testing.installation import Installation, borrow_templates
from stack import Stack, templates_dir, until

pytestmark = pytest.mark.root

REFUSALS = {
    404: r"Template 'busybox' is not built on this machine: `atoll template build busybox` there does it",
    503: r"Template 'busybox' is being built on this machine, \d+ % are done: try again soon",
}


@pytest.fixture
def data(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without `busybox`. Of the others it has everything but their descriptions, which say where they are."""
    data = tmp_path_factory.mktemp("background")
    borrow_templates(templates_dir(), data)
    templates = data / "node" / "templates"
    templates.unlink()
    (templates / "base").mkdir(mode=0o700, parents=True)
    (templates / "base" / "layers").symlink_to(templates_dir() / "node" / "templates" / "base" / "layers")
    return data


def test_it_is_refused_with_a_reason_until_it_is_there_and_needs_no_restart(data: Path):
    with Installation(data, "--templates", "base", "--background-templates", "busybox") as installation:
        here = Stack(installation)

        def there() -> bool:
            answer = here.api("POST", "/v1/sandboxes", json={"template_name": "busybox"})
            if answer.status_code == 201:
                return True
            assert re.search(REFUSALS[answer.status_code], answer.text), answer.text
            return False

        until(there, "a sandbox from busybox", 50)
        with here.box("busybox") as box:
            assert box.sh("echo made") == "made"
        here.client.close()
    assert "Building busybox beside" in "".join(installation.output)
    assert "busybox: ready." in "".join(installation.output)


def test_an_end_of_atoll_is_the_end_of_the_build(data: Path):
    with Installation(data, "--templates", "base", "--background-templates", "busybox") as installation:
        building = data / "node" / "templates" / "busybox" / "building"
        until(building.exists, "the build's beginning")
        installation.kill()
        left = ["pgrep", "-f", f"template build --data-dir {data}"]
        until(lambda: subprocess.run(left, stdout=subprocess.DEVNULL).returncode == 1, "the build's end")
        installation.start()
        until(lambda: "Building busybox beside" in "".join(installation.output), "another build")
