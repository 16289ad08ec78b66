from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.core.errors import InternalError
from atoll.core.template import Unbuilt
from atoll.storage.builds import noted, standing


def silent(step: str, fraction: float) -> None:
    pass


def test_a_build_says_how_far_it_is_until_it_is_over(tmp_path):
    seen = []
    with noted(tmp_path / "base", lambda step, fraction: seen.append((step, fraction))) as progress:
        assert standing(tmp_path / "base") == Unbuilt("base", 0)
        progress("building base", 0.426)
        assert standing(tmp_path / "base") == Unbuilt("base", 42)
        progress("building base", 1.0)
        assert standing(tmp_path / "base").percent == 100
    assert standing(tmp_path / "base") == Unbuilt("base")
    assert seen == [("building base", 0.426), ("building base", 1.0)]


def test_a_failure_is_kept_until_the_next_build(tmp_path):
    with pytest.raises(InternalError), noted(tmp_path, silent):
        raise InternalError("no more space")
    assert standing(tmp_path) == Unbuilt(tmp_path.name, None, "no more space")
    with noted(tmp_path, silent):
        assert standing(tmp_path).failure == ""


def test_a_build_that_was_killed_is_none(tmp_path):
    program = """if 1:
        import os, sys
        from pathlib import Path
        from atoll.storage.builds import noted
        with noted(Path(sys.argv[1]), lambda step, fraction: None):
            print("here", flush=True)
            sys.stdin.read()
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=-1, stdout=-1, text=True, env=environment
    ) as build:
        assert build.stdout is not None
        assert build.stdout.readline() == "here\n"
        assert standing(tmp_path).percent == 0
        build.kill()
    assert (tmp_path / "building").exists()
    assert standing(tmp_path) == Unbuilt(tmp_path.name)


def test_what_was_never_tried_is_not_there(tmp_path):
    assert standing(Path(tmp_path) / "none") == Unbuilt("none")
