from __future__ import annotations

import pytest

from atoll.core.errors import InternalError
from atoll.storage import runtime


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    for name in ("core/errors.py", "wire/frames.py", "agent/main.py", "engines/native/run.py", "control/keys.py"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    (root / "__init__.py").touch()
    (root / "agent/native").mkdir()
    for name in ("lineflush.c", "pages.c"):
        (root / "agent/native" / name).write_text("int x;\n")
    return root


def test_python_is_started_by_its_own_loader_and_ignores_its_surroundings():
    argv = runtime.runtime_argv("/data/runtime/x")
    assert argv[0] == "/.atoll/bin/ld.so"
    assert argv[argv.index("--library-path") + 1] == "/.atoll/lib"
    assert "--inhibit-cache" in argv
    assert argv[argv.index("/.atoll/bin/python3") + 1 :] == ["-I", "-S", "-X", "utf8=1"]


def test_without_a_mount_it_runs_where_it_lies():
    assert runtime.runtime_argv("/data/runtime/x", None)[0] == "/data/runtime/x/bin/ld.so"


def test_only_what_runs_inside_is_shipped(source):
    names = {str(path.relative_to(source)) for path in runtime.code_files(source)}
    assert names == {
        "__init__.py",
        "agent/native/lineflush.c",
        "agent/native/pages.c",
        "agent/main.py",
        "core/errors.py",
        "engines/native/run.py",
        "wire/frames.py",
    }


@pytest.mark.parametrize("name", ["agent/main.py", "agent/native/lineflush.c", "agent/native/pages.c", "__init__.py"])
def test_an_edit_of_shipped_code_changes_its_digest(source, name):
    before = runtime.code_digest(source)
    (source / name).write_text("# other\n")
    assert runtime.code_digest(source) != before


def test_an_edit_elsewhere_does_not(source):
    before = runtime.code_digest(source)
    (source / "control/keys.py").write_text("# other\n")
    assert runtime.code_digest(source) == before


def test_the_interpreter_follows_release_and_machine():
    digests = {runtime.interpreter_digest(s, m) for s in ("bookworm", "trixie") for m in ("x86_64", "aarch64")}
    assert len(digests) == 4


def test_a_package_without_lineflush_is_refused(tmp_path):
    with pytest.raises(InternalError, match=r"lineflush\.c"):
        runtime.compile_library(tmp_path / "lineflush.c", tmp_path / "lineflush.so")


def test_a_failed_build_leaves_nothing(tmp_path):
    def fail(new):
        (new / "half").touch()
        raise InternalError("no")

    with pytest.raises(InternalError):
        runtime._appear(tmp_path / "target", fail)
    assert list(tmp_path.iterdir()) == []
