"""The user namespace of a template's generation."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.root
SOURCES = Path(__file__).resolve().parents[3] / "src"
MAKE = """
import os
from atoll.engines.native.spawn import new_user_namespace
print(os.readlink(f"/proc/self/fd/{new_user_namespace(0)}"))
"""


def test_it_is_made_where_only_root_can_read_our_python(tmp_path):
    """A Python below somebody's 0700 home: whoever gives up root's id can load nothing more from there."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    standard = Path(sysconfig.get_path("stdlib"))
    (home / "lib").mkdir()
    (home / "lib" / standard.name).symlink_to(standard)
    variables = {"PYTHONHOME": str(home), "PYTHONPATH": str(SOURCES), "PYTHONDONTWRITEBYTECODE": "1"}
    python = Path(sys.executable).resolve()
    done = subprocess.run([python, "-c", MAKE], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("user:[")
