from __future__ import annotations

import json
import sys
import types

import pytest

from atoll.agent.runner import kernel_specs
from atoll.agent.runner.kernel_specs import NoKernel, Spec


def spec(name: str, language: str) -> Spec:
    return Spec(name, language, ["kernel"], {}, False, "/kernels")


HERE = {
    each.name: each for each in (spec("deno", "typescript"), spec("ir", "r"), spec("bash", "bash"), spec("r", "cran"))
}


@pytest.mark.parametrize(
    ("language", "name"),
    [
        ("bash", "bash"),
        ("ir", "ir"),
        ("r", "r"),  # a kernelspec's own name comes before a language
        ("typescript", "deno"),
        ("ts", "deno"),
        ("javascript", "deno"),
        ("js", "deno"),
        ("sh", "bash"),
        ("julia", None),
    ],
)
def test_a_kernel_is_found_by_name_then_language_then_other_names(language, name):
    found = kernel_specs.choose(language, HERE)
    assert (None if found is None else found.name) == name


def test_a_kernel_of_its_own_name_is_preferred_for_javascript():
    assert kernel_specs.choose("js", {**HERE, "x": spec("x", "javascript")}).name == "x"


def test_a_command_is_filled_in_as_jupyter_does():
    found = Spec("x", "x", ["python3", "-m", "k", "{connection_file}", "{resource_dir}/{other}"], {}, False, "/r")
    assert found.command("/c") == [sys.executable, "-m", "k", "/c", "/r/{other}"]
    assert found._replace(argv=["/usr/bin/python3"]).command("/c") == ["/usr/bin/python3"]


def test_the_environment_of_a_kernel_may_name_that_of_the_context():
    found = spec("x", "x")._replace(env={"PATH": "/k:${PATH}", "A": "$B"})
    assert found.environment({"PATH": "/bin"}) == {"PATH": "/k:/bin", "A": "$B"}


@pytest.mark.parametrize("content", [None, [], {}, {"argv": []}, {"argv": "x"}, {"argv": [1]}])
def test_what_cannot_be_started_is_no_kernelspec(content):
    assert kernel_specs.parse("x", "/r", content) is None


def test_a_kernelspec_is_read(tmp_path):
    content = {"argv": ["k"], "language": "R", "env": {"A": 1}, "interrupt_mode": "message"}
    (tmp_path / "kernel.json").write_text(json.dumps(content))
    assert kernel_specs.read("x", str(tmp_path)) == Spec("x", "r", ["k"], {"A": "1"}, True, str(tmp_path))
    (tmp_path / "kernel.json").write_text("{")
    assert kernel_specs.read("x", str(tmp_path)) is None
    assert kernel_specs.read("x", str(tmp_path / "none")) is None


def test_a_refusal_names_the_kernels_that_are_there(tmp_path, monkeypatch):
    for name, language in (("Bash", "bash"), ("ir", "R"), ("own", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kernel.json").write_text(json.dumps({"argv": ["k"], "language": language}))

    class Manager:
        def __init__(self, ensure_native_kernel: bool) -> None:
            assert not ensure_native_kernel

        def find_kernel_specs(self) -> dict[str, str]:
            return {each.name: str(each) for each in tmp_path.iterdir()}

    module = types.ModuleType("jupyter_client.kernelspec")
    module.KernelSpecManager = Manager  # type: ignore[attr-defined]
    for name, each in (("jupyter_client", types.ModuleType("jupyter_client")), ("jupyter_client.kernelspec", module)):
        monkeypatch.setitem(sys.modules, name, each)
    monkeypatch.setitem(sys.modules, "zmq", types.ModuleType("zmq"))
    assert kernel_specs.find("bash").name == "bash"
    with pytest.raises(
        NoKernel, match=r"no kernel for the language 'julia'.*python, and the kernels bash, ir \(r\), own$"
    ):
        kernel_specs.find("julia")


def test_a_template_without_jupyter_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "jupyter_client", None)
    with pytest.raises(NoKernel, match="this template has no Jupyter kernels"):
        kernel_specs.find("bash")
