from __future__ import annotations

import os
import time

import pytest

from atoll.agent import golang
from atoll.agent.errors import AgentError

HELLO = 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n'


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("package main", []),
        ('package main; import "fmt"; import "os"', ["fmt", "os"]),
        (
            'package main\nimport (\n\t"fmt"\n\t_ "net/http"\n\tm "math/rand"\n\t. "os"\n)\n',
            ["fmt", "net/http", "math/rand", "os"],
        ),
        ('package main\nimport ("fmt"; "os");import "time"', ["fmt", "os", "time"]),
        ("package main\nimport `fmt`\nimport()\nimport `os`", ["fmt", "os"]),
        ('// import "a"\n/* import "b" */ package /* c */ main // d\nimport /* e */ "fmt" /* f */\n', ["fmt"]),
        ('package main\nfunc main() { _ = `\nimport "x"` }', []),
        ('package main\nimport "github.com/a/b"\nimport "C"', ["github.com/a/b", "C"]),
        ('package main\nimport "\\x66mt"', ["\\x66mt"]),
        ("", None),
        ("\ufeffpackage main", None),
        ("packagemain", []),  # the compiler refuses it
        ("package /* never closed", None),
        ('package main\nimport "never closed', []),
        ('package main\nimport ("fmt"', ["fmt"]),
    ],
)
def test_imports(source, paths):
    assert golang.imports(source) == paths


@pytest.mark.parametrize("part", ["/**/", "/*", "//\n", ";", " ", 'import "a"\n', "import (", '. "a"', "import a "])
@pytest.mark.parametrize("before", ["", "package", "package main\n", "package main\nimport (", "package main\nimport "])
def test_reading_imports_takes_no_longer_than_the_text(before, part):
    begun = time.process_time()
    golang.imports(before + part * 50_000)
    assert time.process_time() - begun < 2


@pytest.fixture
def toolchain(tmp_path):
    root = tmp_path / "go-1.0"
    for path in (
        "bin/go",
        "VERSION",
        "pkg/tool/here/compile",
        "pkg/tool/here/link",
        "src/fmt/x",
        "src/os/x",
        "src/embed/x",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")
    (root / "bin/go").chmod(0o755)
    return root


@pytest.fixture
def env(toolchain, tmp_path):
    (tmp_path / "home").mkdir()
    return {**golang.DEFAULTS, "PATH": f"{toolchain}/bin", "HOME": str(tmp_path / "home"), "CGO_ENABLED": "0"}


def key_of(source, env):
    return golang.inspect({"main.go": source}, env).key


def write_settings(env, text):
    place = os.path.join(env["HOME"], ".config", "go")
    os.makedirs(place, exist_ok=True)
    with open(os.path.join(place, "env"), "w") as file:
        file.write(text)


def test_the_same_program_has_the_same_key(env):
    assert key_of(HELLO, env) == key_of(HELLO, dict(reversed(env.items())))
    assert len(key_of(HELLO, env)) == 64
    assert key_of(HELLO, {**env, "HOME": "/elsewhere", "LANG": "de"}) == key_of(HELLO, env), "these matter to nobody"


@pytest.mark.parametrize(
    "more", [{"GOAMD64": "v3"}, {"GOARCH": "arm64"}, {"GODEBUG": "x=1"}, {"GOEXPERIMENT": "x"}, {"CGO_CFLAGS": "-O0"}]
)
def test_what_the_compiler_looks_at_is_in_the_key(more, env):
    assert None is not key_of(HELLO, {**env, **more}) != key_of(HELLO, env)


def test_another_text_has_another_key(env):
    assert key_of(HELLO + "\n", env) != key_of(HELLO, env)


@pytest.mark.parametrize("part", ["bin/go", "VERSION", "pkg/tool/here/compile", "pkg/tool/here/link"])
def test_another_toolchain_gives_another_key(part, env, toolchain):
    before = key_of(HELLO, env)
    (toolchain / part).write_text("newer")
    assert key_of(HELLO, env) != before


def test_a_file_more_in_a_package_gives_another_key(env, toolchain):
    os.utime(toolchain / "src/fmt", (0, 0))  # some kernels' time goes in steps of four milliseconds
    before = key_of(HELLO, env)
    (toolchain / "src/fmt/more.go").write_text("")
    assert key_of(HELLO, env) != before


def test_written_settings_are_in_the_key(env):
    write_settings(env, "GOAMD64=v1\n")
    before = key_of(HELLO, env)
    write_settings(env, "GOAMD64=v2\n")
    assert None is not key_of(HELLO, env) != before


def test_the_environment_wins_over_written_settings(env):
    write_settings(env, "CGO_ENABLED=1\n")
    assert key_of(HELLO, env) is not None
    del env["CGO_ENABLED"]
    assert key_of(HELLO, env) is None
    write_settings(env, "CGO_ENABLED=0\n")
    assert key_of(HELLO, env) is not None


@pytest.mark.parametrize(
    "more",
    [
        {"GO111MODULE": "on"},
        {"GO111MODULE": ""},
        {"CGO_ENABLED": "1"},
        {"GOFLAGS": "-race"},
        {"GOROOT": "/x"},
        {"GOENV": "/x"},
    ],
)
def test_settings_that_bring_in_more_than_the_key_knows_are_compiled_every_time(more, env):
    assert key_of(HELLO, {**env, **more}) is None


@pytest.mark.parametrize(
    "path", ["github.com/a/b", "mine", "embed", "C", "../src/fmt", "fmt/", "/fmt", "./fmt", "\\x66mt"]
)
def test_packages_that_are_not_the_standard_library_are_compiled_every_time(path, env):
    assert key_of(f'package main\nimport "fmt"\nimport "{path}"\n', env) is None


@pytest.mark.parametrize("more", ["//" + "x" * 2**20, 'import "os"\n' * 300])
def test_what_takes_long_to_look_at_is_compiled_every_time(more, env):
    assert key_of(f"package main\n{more}", env) is None


def test_settings_that_cannot_be_read_are_no_settings_to_rely_on(env):
    place = os.path.join(env["HOME"], ".config", "go")
    os.makedirs(place)
    os.mkfifo(os.path.join(place, "env"))
    assert key_of(HELLO, env) is None
    os.unlink(os.path.join(place, "env"))
    write_settings(env, "A=" + "x" * 70_000)
    assert key_of(HELLO, env) is None


def test_a_wrapper_of_the_users_is_no_toolchain(env, tmp_path):
    wrapper = tmp_path / "bin" / "go"
    wrapper.parent.mkdir()
    wrapper.write_text("#!/bin/sh\n")
    wrapper.chmod(0o755)
    program = golang.inspect({"main.go": HELLO}, {**env, "PATH": f"{wrapper.parent}:{env['PATH']}"})
    assert (program.compiler, program.key) == (str(wrapper), None)


def test_without_a_toolchain_the_program_cannot_be_started(env):
    with pytest.raises(AgentError) as caught:
        golang.inspect({"main.go": HELLO}, {**env, "PATH": "/nowhere"})
    assert caught.value.kind == "not_found"


def test_the_users_flags_are_not_mixed_with_ours(env):
    ours = golang.inspect({"main.go": HELLO}, env).building("/tmp/x", None)
    theirs = golang.inspect({"main.go": HELLO}, {**env, "GOFLAGS": "-race"}).building("/tmp/x", None)
    assert "-ldflags=-s -w" in ours
    assert not [part for part in theirs if part.startswith("-ldflags")]
