import importlib
import importlib.util
import sys

import pytest

from atoll.agent.runner import imports


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "late_module.py").write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = list(sys.meta_path)
    yield "late_module"
    sys.modules.pop("late_module", None)
    imports._waiting.clear()
    sys.meta_path[:] = before


def test_module_is_adjusted_when_it_is_imported(package):
    imports.after(package, lambda module: setattr(module, "x", 2))
    assert importlib.import_module(package).x == 2


def test_looking_for_a_module_is_not_importing_it(package):
    imports.after(package, lambda module: setattr(module, "x", 2))
    importlib.util.find_spec(package)
    importlib.util.find_spec(package)
    assert importlib.import_module(package).x == 2


def test_imported_module_is_adjusted_at_once(package):
    module = importlib.import_module(package)
    imports.after(package, lambda module: setattr(module, "x", 3))
    assert module.x == 3


def test_adjustment_that_fails_does_not_fail_the_import(package):
    imports.after(package, lambda module: 1 / 0)
    assert importlib.import_module(package).x == 1


def test_missing_module_is_still_missing(package):
    imports.after("no_such_module_at_all", lambda module: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_module_at_all")
