"""The same members, parameters and defaults as HopX's published client, but for the differences that are listed."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import warnings

import pytest

import atoll
from atoll import sdk

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports the old names of its WebSocket library
    import hopx_ai


def theirs(module: str, name: str) -> type:
    return getattr(importlib.import_module(f"hopx_ai.{module}"), name)


PAIRS = {
    "Sandbox": (hopx_ai.Sandbox, atoll.Sandbox),
    "AsyncSandbox": (hopx_ai.AsyncSandbox, atoll.AsyncSandbox),
    "Files": (theirs("files", "Files"), atoll.Files),
    "AsyncFiles": (theirs("files", "Files"), atoll.AsyncFiles),
    "Commands": (theirs("commands", "Commands"), atoll.Commands),
    "AsyncCommands": (theirs("commands", "Commands"), atoll.AsyncCommands),
    "EnvironmentVariables": (theirs("env_vars", "EnvironmentVariables"), atoll.EnvironmentVariables),
    "AsyncEnvironmentVariables": (theirs("env_vars", "EnvironmentVariables"), atoll.AsyncEnvironmentVariables),
    "Cache": (theirs("cache", "Cache"), atoll.Cache),
    "AsyncCache": (theirs("cache", "Cache"), atoll.AsyncCache),
    "Terminal": (theirs("terminal", "Terminal"), atoll.Terminal),
    "AsyncTerminal": (theirs("terminal", "Terminal"), atoll.AsyncTerminal),
    "Desktop": (theirs("desktop", "Desktop"), atoll.Desktop),
    "AsyncDesktop": (theirs("desktop", "Desktop"), atoll.AsyncDesktop),
}

OTHER_DEFAULTS = {
    "base_url": "the environment, else this machine",
    "run_code.timeout": "60, as HopX documents it",
    "run_code.timeout_seconds": "another name for it, which the async client has",
    "run.timeout_seconds": "the same",
}
"""Parameters whose default is another on purpose."""


def members(kind: type) -> dict[str, object]:
    return {name: member for name, member in vars(kind).items() if not name.startswith("_") or name == "__init__"}


def parameters(member: object) -> dict[str, inspect.Parameter]:
    function = getattr(member, "__func__", member)
    found = inspect.signature(function).parameters
    return {name: each for name, each in found.items() if name not in ("self", "cls")}


def positional(found: dict[str, inspect.Parameter]) -> list[str]:
    return [name for name, each in found.items() if each.kind is not inspect.Parameter.KEYWORD_ONLY]


def rows() -> list[tuple[str, str]]:
    return [
        (pair, name)
        for pair, (hopx, _) in PAIRS.items()
        for name in members(hopx)
        if name != "__init__" or pair.endswith("Sandbox")
    ]


@pytest.mark.parametrize(("pair", "name"), rows())
def test_a_member_is_there_with_its_parameters_and_defaults(pair, name):
    hopx, ours = (members(kind) for kind in PAIRS[pair])
    assert name in ours
    if isinstance(hopx[name], property):
        assert isinstance(ours[name], property)
        return
    assert isinstance(ours[name], classmethod) == isinstance(hopx[name], classmethod)
    wanted, found = parameters(hopx[name]), parameters(ours[name])
    assert wanted.keys() <= found.keys()
    assert positional(wanted) == [each for each in positional(found) if each in wanted], "in another order"
    for each, parameter in wanted.items():
        assert found[each].kind == parameter.kind, each
        if not {each, f"{name}.{each}"} & OTHER_DEFAULTS.keys():
            assert found[each].default == parameter.default, each
    added = [each for name_, each in found.items() if name_ not in wanted]
    assert all(each.default is not inspect.Parameter.empty for each in added), "what is ours can be left out"


def test_what_hopx_documents_beside_its_client():
    """The class page: these, with these defaults."""
    for kind in (atoll.Sandbox, atoll.AsyncSandbox):
        for name in ("start", "stop", "list_processes", "kill_process", "run_ipython"):
            assert hasattr(kind, name)
        assert parameters(members(kind)["list"])["limit"].default == 100
        run, background = parameters(members(kind)["run_code"]), parameters(members(kind)["run_code_background"])
        defaults = {each: run[each].default for each in ("language", "timeout", "env", "working_dir")}
        assert defaults == {"language": "python", "timeout": 60, "env": None, "working_dir": "/workspace"}
        defaults = {each: background[each].default for each in ("timeout", "working_dir", "name")}
        assert defaults == {"timeout": 300, "working_dir": "/workspace", "name": None}
        assert parameters(members(kind)["get_preview_url"])["port"].default == 7777


def test_the_two_forms_have_the_same_members_and_parameters():
    for name in (each for each in atoll.__all__ if each.startswith("Async")):
        ours, other = getattr(atoll, name), getattr(atoll, name.removeprefix("Async"))
        same = {each: list(parameters(member)) for each, member in members(ours).items() if callable(member)}
        assert same == {each: list(parameters(member)) for each, member in members(other).items() if callable(member)}


def test_models_have_hopxs_fields():
    for name in ("SandboxInfo", "ExecutionResult", "CommandResult", "FileInfo", "RichOutput", "ExpiryInfo"):
        self_fields = set(getattr(atoll, name).__dataclass_fields__)
        assert set(getattr(hopx_ai, name).model_fields) <= self_fields, name
    for name in ("TemplateResources", "SandboxTemplate", "VNCInfo", "WindowInfo", "RecordingInfo", "DisplayInfo"):
        assert set(getattr(hopx_ai, name).model_fields) <= set(getattr(atoll, name).__dataclass_fields__), name


BUILDING = {"create_template", *(name for name in hopx_ai.__all__ if name.startswith("wait_for_"))}
"""Templates are not built yet."""


def test_every_name_that_hopx_exports_is_there():
    assert {name for name in hopx_ai.__all__ if not hasattr(sdk, name)} == BUILDING
    for name in (each for each in hopx_ai.__all__ if each.endswith("Error")):
        wanted = [kind.__name__ for kind in getattr(hopx_ai, name).__mro__ if kind.__module__ == "hopx_ai.errors"]
        found = [kind.__name__ for kind in getattr(atoll, name).__mro__ if kind.__module__.startswith("atoll.")]
        assert [each for each in found if each in wanted] == [each for each in wanted if each in found], name


# ---- the package's face


def test_the_face_of_the_package_is_the_sdks():
    assert {*sdk.__all__, "__version__"} == {*atoll.__all__}
    assert {*sdk.__all__} <= {*dir(atoll)}
    for name in sdk.__all__:
        assert getattr(atoll, name) is getattr(sdk, name)
    with pytest.raises(AttributeError):
        _ = atoll.no_such_name


def test_importing_the_package_loads_nothing_of_the_sdk():
    """The agent inside sandboxes imports it, where nothing is installed."""
    code = "import sys, atoll; from atoll import wire; assert not hasattr(atoll, 'nothing'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not [name for name in loaded if name.startswith("atoll.sdk") or name in ("httpx", "asyncio", "websockets")]


def loaded_by(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], **CAUGHT)
    return set(done.stdout.split())


CAUGHT = {"capture_output": True, "text": True, "check": True}


def test_the_sync_form_loads_nothing_that_it_does_not_need():
    """Each is 20 to 60 ms at the start of every program: httpx's command line brings rich and click."""
    loaded = loaded_by("from atoll import Sandbox; Sandbox('sb1', api_key='k').files")
    assert "atoll.sdk._sync.files" in loaded
    assert not loaded & {"httpx", "asyncio", "websockets", "rich", "click", "atoll.sdk._async", "atoll.sdk._aio"}


def test_an_error_can_be_caught_without_a_client():
    assert not loaded_by("from atoll import NetworkError") & {"httpx", "atoll.sdk._sync"}


def test_httpx_is_left_as_it_was():
    ours = "import atoll.sdk._core.http_library"
    assert "httpx._main" not in loaded_by(ours)
    assert "httpx._main" in loaded_by(f"{ours}, httpx._main")
    assert "httpx._main" in loaded_by(f"import httpx; {ours}")
