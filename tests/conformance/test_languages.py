"""Every language by every name, with the unmodified client: what goes in, what comes out, and what goes wrong."""

from __future__ import annotations

import json

import hopx_ai
import pytest

from stack import Box, until

pytestmark = pytest.mark.root

GO = 'package main\n\nimport ("fmt"; "io"; "os"; "strings"; "time")\n\nvar _ = []any{fmt.Sprint, io.ReadAll, os.Exit, '
GO += "strings.Repeat, time.Sleep}\n\nfunc main() { %s }\n"
NAMES = {
    "python": "python",
    "python3": "python",
    "node": "javascript",
    "nodejs": "javascript",
    "javascript": "javascript",
    "js": "javascript",
    "JavaScript": "javascript",
    "bash": "bash",
    "sh": "bash",
    "shell": "bash",
    "go": "go",
    "golang": "go",
}
LANGUAGES = ("python", "javascript", "bash", "go")
BOTH_STREAMS = {
    "python": "import sys\nprint('out')\nprint('err', file=sys.stderr)",
    "javascript": "console.log('out'); console.error('err')",
    "bash": "echo out; echo err >&2",
    "go": GO % 'fmt.Println("out"); fmt.Fprintln(os.Stderr, "err")',
}


@pytest.mark.parametrize("name", NAMES)
def test_each_name_runs_and_keeps_the_streams_apart(name, sandbox):
    result = sandbox.run_code(BOTH_STREAMS[NAMES[name]], language=name)
    assert (result.success, result.stdout, result.stderr, result.exit_code) == (True, "out\n", "err\n", 0)


@pytest.mark.parametrize("name", ["cobol", "python2", "typescript", "../go", "go\0"])
def test_an_unknown_language_is_refused_with_the_known_ones(name, sandbox):
    with pytest.raises(hopx_ai.HopxError) as caught:
        sandbox.run_code("print(1)", language=name)
    assert caught.value.status_code == 400
    assert all(language in str(caught.value) for language in LANGUAGES)


def test_a_language_that_the_template_lacks_is_a_result_that_says_so(own):
    result = own(template="base").run_code(BOTH_STREAMS["go"], language="go")
    assert (result.success, result.exit_code) == (False, 127)
    assert result.stderr == "go: not found: this template has no go\n"


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import sys; print('before'); sys.exit(%d)"),
        ("python", "print('before'); raise SystemExit(%d)"),
        ("javascript", "console.log('before'); process.exit(%d)"),
        ("javascript", "console.log('before'); process.exitCode = %d"),
        ("javascript", "import fs from 'fs'; console.log('before'); process.exit(%d)"),
        ("bash", "echo before; exit %d"),
        ("go", GO % 'fmt.Println("before"); os.Exit(%d)'),
    ],
)
@pytest.mark.parametrize("exit_code", [0, 3, 255])
def test_the_exit_code_is_the_programs(language, code, exit_code, sandbox):
    result = sandbox.run_code(code % exit_code, language=language)
    assert (result.stdout, result.exit_code, result.success) == ("before\n", exit_code, exit_code == 0)


@pytest.mark.parametrize(
    ("language", "code", "exit_code", "said"),
    [
        ("python", "def f():\n    raise ValueError('böse')\nf()", 1, ["Traceback", "line 2, in f", "ValueError: böse"]),
        ("python", "def (", 1, ["SyntaxError", "line 1"]),
        ("python", "import nowhere", 1, ["ModuleNotFoundError: No module named 'nowhere'"]),
        ("python", "await asyncio.sleep(0)", 1, ["NameError: name 'asyncio' is not defined"]),
        (
            "javascript",
            "function f() { throw new TypeError('böse') }\nf()",
            1,
            ["main.js:1", "TypeError: böse", "at f"],
        ),
        ("javascript", "Promise.reject(new RangeError('late'))", 1, ["RangeError: late"]),
        ("javascript", "function (", 1, ["SyntaxError", "main.js:1"]),
        ("javascript", "await 1; function (", 1, ["SyntaxError"]),
        ("javascript", "await 1\nthrow new TypeError('böse')", 1, ["main.mjs:2", "TypeError: böse"]),
        ("javascript", "require('nowhere')", 1, ["Cannot find module 'nowhere'"]),
        ("javascript", "import 'nowhere'", 1, ["Cannot find package 'nowhere'"]),
        ("bash", "nosuchcommand", 127, ["line 1: nosuchcommand: command not found"]),
        ("bash", "if [ 1", 2, ["syntax error"]),
        ("bash", "set -e; false; echo not reached", 1, []),
        ("go", GO % 'panic("böse")', 2, ["panic: böse", "main.main()", "main.go:7"]),
        ("go", GO % "undefined()", 1, ["main.go:7", "undefined: undefined"]),
        ("go", "package main\nfunc main( {", 1, ["syntax error"]),
        ("go", "", 1, ["expected 'package'"]),
    ],
)
def test_what_goes_wrong_is_told_as_the_language_tells_it(language, code, exit_code, said, sandbox):
    result = sandbox.run_code(code, language=language)
    assert (result.success, result.stdout) == (False, "")
    compiler_says_so = language == "go" and exit_code == 1
    assert result.exit_code in ((1, 2) if compiler_says_so else (exit_code,))
    assert [part for part in said if part not in result.stderr] == []
    assert "atoll.cjs" not in result.stderr.split("\n    at ")[0]


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
        ("javascript", "process.kill(process.pid, 'SIGKILL')"),
        ("bash", "kill -9 $$"),
        ("go", GO % "p, _ := os.FindProcess(os.Getpid()); p.Kill(); time.Sleep(1e12)"),
    ],
)
def test_a_killed_program_is_a_result(language, code, sandbox):
    result = sandbox.run_code(code, language=language)
    assert (result.success, result.exit_code) == (False, 137)
    assert sandbox.run_code("print(1)").stdout == "1\n"


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import time; print('begun'); time.sleep(1000)"),
        ("javascript", "console.log('begun'); setTimeout(() => {}, 1e6)"),
        ("javascript", "console.log('begun'); for (;;);"),
        ("bash", "echo begun; sleep 1000"),
    ],
)
def test_the_end_of_time_is_a_result_with_what_was_printed(language, code, sandbox):
    result = sandbox.run_code(code, language=language, timeout=3)
    assert (result.success, result.exit_code, result.stdout) == (False, 124, "begun\n")
    assert "timed out after 3 seconds" in result.stderr


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "print('ä€𝄞')"),
        ("javascript", "console.log('ä€𝄞')"),
        ("bash", "echo 'ä€𝄞'"),
        ("go", GO % 'fmt.Println("ä€𝄞")'),
    ],
)
def test_characters_of_the_whole_world(language, code, sandbox):
    assert sandbox.run_code(code, language=language).stdout == "ä€𝄞\n"


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import sys; _ = sys.stdout.buffer.write(b'a\\0b\\xff\\xfec')"),
        ("javascript", "process.stdout.write(Buffer.from('610062fffe63', 'hex'))"),
        ("bash", "printf 'a\\0b\\xff\\xfec'"),
        ("go", GO % 'os.Stdout.WriteString("a\\x00b\\xff\\xfec")'),
    ],
)
def test_output_that_is_no_text_is_marked_and_harms_nobody(language, code, sandbox):
    assert sandbox.run_code(code, language=language).stdout == "a\0b\ufffd\ufffdc"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("odd", ["\0", "\ud800"])
def test_code_that_is_no_text_is_the_programs_problem(language, odd, sandbox, stack):
    box = Box(stack, sandbox.sandbox_id, sandbox.get_token())
    body = json.dumps({"language": language, "code": f"# {odd}\nnonsense("})
    response = box.agent("POST", "/execute", content=body)
    assert response.status_code in (200, 400), response.text
    assert response.json().get("success") is not True


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "print('x' * 10 * 2**20)"),
        ("javascript", "process.stdout.write('x'.repeat(10 * 2**20) + '\\n')"),
        ("bash", "head -c 10485760 /dev/zero | tr '\\0' x; echo"),
        ("go", GO % 'os.Stdout.WriteString(strings.Repeat("x", 10<<20) + "\\n")'),
    ],
)
def test_of_ten_mebibytes_the_first_eight_come_and_the_rest_is_counted(language, code, sandbox):
    result = sandbox.run_code(code, language=language)
    assert result.success
    assert result.stdout == "x" * (8 * 2**20) + "\n[output truncated: 2097153 more bytes]\n"


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import sys; print(len(sys.stdin.read()))"),
        ("javascript", "console.log(require('fs').readFileSync(0).length)"),
        ("bash", "cat | wc -c"),
        ("go", GO % "all, _ := io.ReadAll(os.Stdin); fmt.Println(len(all))"),
    ],
)
def test_standard_input_is_empty(language, code, sandbox):
    assert sandbox.run_code(code, language=language, timeout=20).stdout == "0\n"


WHERE = {
    "python": "import os; print(os.getcwd())",
    "javascript": "console.log(process.cwd())",
    "bash": "pwd",
    "go": GO % "cwd, _ := os.Getwd(); fmt.Println(cwd)",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_working_directory_is_the_callers_choice(language, sandbox):
    seen = [
        sandbox.run_code(WHERE[language], language=language, **options).stdout
        for options in ({}, {"working_dir": "/tmp"}, {"working_dir": f"/workspace/new {language}"}, {})
    ]
    assert seen == ["/workspace\n", "/tmp\n", f"/workspace/new {language}\n", "/workspace\n"]


PRINT_ENV = {
    "python": "import os; print(*(os.environ.get(name) for name in ('ONE', 'TWO', 'THREE')))",
    "javascript": "console.log(process.env.ONE, process.env.TWO, process.env.THREE)",
    "bash": "echo $ONE $TWO $THREE",
    "go": GO % 'fmt.Println(os.Getenv("ONE"), os.Getenv("TWO"), os.Getenv("THREE"))',
}


def test_the_calls_environment_wins_over_the_sandboxs_and_that_over_creations(own):
    sandbox = own(env_vars={"ONE": "created", "TWO": "created", "THREE": "created"})
    sandbox.env.update({"TWO": "global", "THREE": "global"})
    for language in LANGUAGES:
        result = sandbox.run_code(PRINT_ENV[language], language=language, env={"THREE": "call"})
        assert result.stdout == "created global call\n", language
        assert sandbox.run_code(PRINT_ENV[language], language=language).stdout == "created global global\n", language


@pytest.mark.parametrize(
    ("language", "code", "printed"),
    [
        ("python", "import asyncio\nawait asyncio.sleep(0)\nprint('after')", "after\n"),
        ("python", "async def f():\n    return 5\nprint(await f())", "5\n"),
        ("python", "import asyncio\nasync def f():\n    return 5\nprint(asyncio.run(f()))", "5\n"),
        ("python", "async def f():\n    yield 1\nasync for x in f():\n    print(x)", "1\n"),
        ("javascript", "await new Promise(done => setTimeout(done, 1)); console.log('after')", "after\n"),
        ("javascript", "console.log(await 5, [await 6], `${await 7}`)", "5 [ 6 ] 7\n"),
        ("javascript", "for await (const x of [1, 2]) console.log(x)", "1\n2\n"),
        ("javascript", "const p = require('path'); console.log(await p.join('a', 'b'))", "a/b\n"),
        ("javascript", "import fs from 'fs'; import { join } from 'node:path'; console.log(join('a', 'b'))", "a/b\n"),
        ("javascript", "export const a = 1; console.log(typeof import.meta.url)", "string\n"),
        ("javascript", "import('path').then(p => console.log(p.join('a', 'b')))", "a/b\n"),
        ("javascript", "(async () => { console.log(await 5) })()", "5\n"),
        ("javascript", "console.log(require.main === module, process.argv.length, process.execArgv)", "true 2 []\n"),
        ("javascript", "#!/usr/bin/env node\nawait 1; console.log('ok')", "ok\n"),
        ("javascript", "var await = 5; console.log(await, this === module.exports)", "5 true\n"),
        ("javascript", "console.log(010, delete Object.prototype.none)", "8 true\n"),
        ("bash", "declare -A a=([x]=5); echo ${a[x]} $0 $# | sed 's|/.*/||'", "5 main.sh 0\n"),
        ("bash", "#!/bin/sh\necho $((1+1))", "2\n"),
    ],
)
def test_the_language_as_people_write_it(language, code, printed, sandbox):
    result = sandbox.run_code(code, language=language)
    assert (result.stdout, result.stderr, result.success) == (printed, "", True)


@pytest.mark.parametrize(
    "code",
    [
        "console.log(require('./mine.js').name, require('there'))",
        "console.log((await import('./mine.mjs')).name, require('there'))",
        "import { name } from './mine.mjs'; import there from 'there'; console.log(name, there)",
        "import mine from './sub/mine.js'; import there from 'there'; console.log(mine.name, there)",
    ],
)
def test_javascript_finds_what_lies_where_it_runs(code, own_files):
    result = own_files.run_code(code, language="javascript", working_dir="/workspace/app/deep")
    assert (result.stdout, result.stderr) == ("mine 42\n", "")


@pytest.fixture(scope="module")
def own_files(sandbox):
    files = {
        "node_modules/there/index.js": "module.exports = 42\n",
        "deep/mine.js": "exports.name = 'mine'\n",
        "deep/mine.mjs": "export const name = 'mine'\n",
        "deep/sub/mine.js": "exports.name = 'mine'\n",
    }
    for path, text in files.items():
        sandbox.files.write(f"/workspace/app/{path}", text)
    return sandbox


def test_python_finds_what_lies_where_it_runs(sandbox):
    sandbox.files.write("/workspace/lies_here.py", "name = 'mine'\n")
    assert sandbox.run_code("import lies_here; print(lies_here.name)").stdout == "mine\n"


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_of_a_run_is_left_behind(language, sandbox):
    sandbox.run_code(BOTH_STREAMS[language], language=language)
    left = "ls -d /tmp/atoll-* 2>/dev/null | wc -l"
    until(lambda: sandbox.commands.run(left).stdout == "0\n", "what it ran in is removed")


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_stream_runs_the_same(language, sandbox):
    found = [message async for message in sandbox.run_code_stream(BOTH_STREAMS[language], language=language)]
    said = {kind: "".join(each["data"] for each in found if each["type"] == kind) for kind in ("stdout", "stderr")}
    assert said == {"stdout": "out\n", "stderr": "err\n"}
    assert [each["exit_code"] for each in found if each["type"] == "result"] == [0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_background_runs_the_same(language, sandbox):
    """Python runs there as a program of its own."""
    started = sandbox.run_code_background(BOTH_STREAMS[language], language=language)
    result = sandbox.commands.run(f"tail --pid {started['pid']} -f /dev/null; echo ended", timeout=30)
    assert result.stdout == "ended\n"

    def found() -> dict:
        (one,) = [each for each in sandbox.list_processes() if each["process_id"] == started["process_id"]]
        return one

    until(lambda: found()["status"] != "running", "its output has been read to the end")
    assert found().items() >= {"status": "completed", "exit_code": 0, "language": language}.items()
