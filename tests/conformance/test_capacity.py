"""A full host says so, in the way that the client understands."""

from __future__ import annotations

import os
import subprocess

import pytest
from hopx_ai import ResourceLimitError, Sandbox

from atoll.testing.installation import Installation, borrow_templates
from stack import templates_dir

pytestmark = pytest.mark.root

SIZE = 64 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A data directory on a file system of its own, nearly full."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0711", "atoll-test", place], check=True)
    try:
        borrow_templates(templates_dir(), place)
        with open(place / "filling", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, SIZE - (3 << 20))
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_create_on_a_full_disk_is_a_resource_limit_error(stack, small_disk):
    with Installation(small_disk, "--templates", "busybox") as full:
        with pytest.raises(ResourceLimitError) as caught:
            Sandbox.create(template="busybox", api_key=full.api_key, base_url=full.url)
        assert caught.value.status_code == 403
        assert "disk" in str(caught.value)
        assert caught.value.available == 0
        assert caught.value.current >= caught.value.limit > 0
        assert (caught.value.details["cause"], caught.value.upgrade_url) == ("host_full", None)
        assert Sandbox.list(api_key=full.api_key, base_url=full.url) == []
