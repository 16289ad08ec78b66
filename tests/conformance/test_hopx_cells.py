"""What a cell means: Jupyter's semantics, the other languages, output, limits – through the unmodified client."""

from __future__ import annotations

import asyncio
import base64
import textwrap

import pytest
from hopx_ai import ExecutionResult, Sandbox

pytestmark = pytest.mark.root

PNG = b"\x89PNG\r\n\x1a\n"


def run(sandbox: Sandbox, code: str, **arguments) -> ExecutionResult:
    result = sandbox.run_code(textwrap.dedent(code), **arguments)
    assert result.success, result
    return result


def rich(result: ExecutionResult) -> list[str]:
    return [each.type.value for each in result.rich_outputs]


def png(result: ExecutionResult) -> bytes:
    (found,) = [each.data["image/png"] for each in result.rich_outputs if "image/png" in each.data]
    return base64.b64decode(found)


# ---- the main job


def test_numpy_pandas_and_a_figure(sandbox):
    result = run(
        sandbox,
        """
        import numpy as np, pandas as pd, matplotlib.pyplot as plt
        df = pd.DataFrame({'city': ['Oslo', 'Rome', 'Oslo'], 'rain': np.array([3, 1, 5])})
        print(df.groupby('city').rain.sum().to_dict())
        plt.plot(df.rain)
        plt.show()
        """,
    )
    assert result.stdout == "{'Oslo': 8, 'Rome': 1}\n"
    assert png(result).startswith(PNG)
    assert result.execution_time > 0


@pytest.mark.parametrize("module", ["scipy.stats", "sklearn.linear_model", "requests", "flask", "PIL.Image"])
def test_the_promised_packages_are_there(sandbox, module):
    run(sandbox, f"import {module}")


@pytest.mark.parametrize(
    ("language", "code", "wanted"),
    [
        ("python3", "print(6 * 7)", "42\n"),
        ("bash", 'for i in 1 2 3; do echo -n "$i "; done; id -un', "1 2 3 user\n"),
        ("sh", "echo $((6*7))", "42\n"),
        ("javascript", "console.log([1, 2, 3].map(n => n * n).join(' '))", "1 4 9\n"),
        ("node", "process.stdout.write(process.cwd())", "/workspace"),
        ("go", 'package main\nimport "fmt"\nfunc main() { fmt.Println("go", 6*7) }', "go 42\n"),
    ],
    ids=lambda value: value.split()[0],
)
def test_languages(sandbox, language, code, wanted):
    assert run(sandbox, code, language=language).stdout == wanted


@pytest.mark.parametrize(
    ("language", "code", "said"),
    [
        ("bash", "echo bad >&2; exit 3", "bad"),
        ("javascript", "throw new TypeError('bad')", "TypeError: bad"),
        ("go", "package main\nfunc main() { undefined() }", "undefined"),
    ],
    ids=["bash", "javascript", "go"],
)
def test_a_failing_program_is_a_result(sandbox, language, code, said):
    result = sandbox.run_code(code, language=language)
    assert not result.success
    assert result.exit_code != 0
    assert said in result.stderr


# ---- Jupyter's semantics


def test_state_is_kept_between_cells(sandbox):
    run(sandbox, "def double(x): return 2 * x\nvalue = 21")
    assert run(sandbox, "print(double(value))").stdout == "42\n"


def test_the_last_expression_of_a_data_frame_is_html(sandbox):
    result = run(sandbox, "import pandas as pd\npd.DataFrame({'a': [1, 2]})")
    assert rich(result) == ["text/html"]
    assert "<table" in result.rich_outputs[0].data["text/html"]
    assert rich(run(sandbox, "pd.DataFrame({'a': [1]});")) == []


def test_display_shows_in_the_middle(sandbox):
    result = run(sandbox, "print('a')\ndisplay('text')\ndisplay(pd.DataFrame({'a': [1]}))\nprint('b')")
    assert result.stdout == "a\n'text'\nb\n"
    assert rich(result) == ["text/html"]


def test_a_figure_is_shown_without_asking_and_only_once(sandbox):
    result = run(sandbox, "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.plot([1, 3, 2])")
    assert png(result).startswith(PNG)
    assert rich(run(sandbox, "1")) == []


async def test_several_figures_are_several_messages_of_a_stream(sandbox):
    """`run_code` of this client keeps one value of a kind; the server's answer holds all in `rich_outputs`."""
    code = "import matplotlib.pyplot as plt\nfor n in range(3):\n    plt.plot([n, 1]); plt.show()"
    assert rich(await asyncio.to_thread(run, sandbox, code)) == ["image/png"]
    found = [message async for message in sandbox.run_code_stream(code)]
    assert [message["mime"] for message in found if message["type"] == "display"].count("image/png") == 3


def test_own_classes_show_themselves(sandbox):
    result = run(sandbox, "class R:\n    def _repr_html_(self): return '<b>x</b>'\nR()")
    assert result.rich_outputs[0].data == {"text/html": "<b>x</b>"}


def test_top_level_await(sandbox):
    assert run(sandbox, "import asyncio\nprint(await asyncio.sleep(0.01, 'slept'))").stdout == "slept\n"
    assert run(sandbox, "async def f(): return 7\nx = await f()\nprint(x)").stdout == "7\n"


def test_magics_and_shell_lines(sandbox):
    assert run(sandbox, "!echo from-the-shell").stdout == "from-the-shell\n"
    assert run(sandbox, "files = !echo a b\nprint(files)").stdout.strip() == "['a b']"
    assert "ns" in run(sandbox, "%timeit -n 1 -r 1 pass").stdout
    run(sandbox, "%%writefile /workspace/magic.txt\nhello")
    assert run(sandbox, "%cd /tmp\n%pwd").success
    assert run(sandbox, "%%bash\necho $((6*7))").stdout == "42\n"
    assert sandbox.files.read("/workspace/magic.txt").strip() == "hello"
    run(sandbox, "%cd /workspace")


def test_a_traceback_names_the_line(sandbox):
    result = sandbox.run_code("def broken(x):\n    return 1 / x\n\nbroken(0)")
    assert (result.success, result.exit_code) == (False, 1)
    assert "ZeroDivisionError: division by zero" in result.stderr
    assert "return 1 / x" in result.stderr
    assert "/.atoll" not in result.stderr, "our own frames are not shown"


def test_a_syntax_error_points_at_it(sandbox):
    result = sandbox.run_code("a = (1,\nprint(")
    assert not result.success
    assert "SyntaxError" in result.stderr


def test_what_was_printed_before_an_error_is_kept(sandbox):
    result = sandbox.run_code("print('before')\nraise ValueError('bad')")
    assert result.stdout == "before\n"
    assert "ValueError: bad" in result.stderr


def test_exit_ends_the_cell_and_keeps_the_state(sandbox):
    run(sandbox, "kept = 1")
    assert sandbox.run_code("import sys; sys.exit(3)").success is False
    assert run(sandbox, "print(kept)").stdout == "1\n"


def test_input_says_that_nobody_is_there(sandbox):
    result = sandbox.run_code("input('name? ')")
    assert not result.success
    assert "Error" in result.stderr


def test_a_crash_of_the_interpreter_is_a_result_and_the_next_cell_works(own):
    made = own()
    result = made.run_code("import os; os.kill(os.getpid(), 11)")
    assert not result.success
    assert result.stderr
    assert run(made, "print('again')").stdout == "again\n"


def test_a_package_installed_by_a_cell_is_imported_by_the_next(own):
    made = own()
    made.files.write(
        "/workspace/pkg/pyproject.toml",
        '[project]\nname = "homemade"\nversion = "1.0"\n',
    )
    made.files.write("/workspace/pkg/homemade.py", "answer = 42\n")
    assert "ModuleNotFoundError" in made.run_code("import homemade").stderr
    installed = made.commands.run("pip install --no-index --no-build-isolation ./pkg")
    assert installed.exit_code == 0, installed.stderr
    assert run(made, "import homemade; print(homemade.answer)").stdout == "42\n"
    made.run_code_background("import homemade; open('/workspace/seen', 'w').write('x')")
    assert run(made, "!pip uninstall -qy homemade 2>&1").success


# ---- output


def test_output_of_children_is_captured_in_order(sandbox):
    result = run(
        sandbox,
        """
        import os, subprocess, sys
        print('one')
        subprocess.run(['echo', 'two'])
        print('three')
        os.system('echo four')
        os.write(1, b'five\\n')
        sys.stdout.buffer.write(b'six\\n')
        print('err', file=sys.stderr)
        subprocess.run('echo child-err >&2', shell=True)
        """,
    )
    assert result.stdout == "one\ntwo\nthree\nfour\nfive\nsix\n"
    assert result.stderr == "err\nchild-err\n"


@pytest.mark.parametrize("language", ["python", "bash", "javascript"])
def test_unicode(sandbox, language):
    text = "Grüße, 世界, 🦆, عربى"
    code = {"python": f"print({text!r})", "bash": f"echo '{text}'", "javascript": f"console.log('{text}')"}
    assert run(sandbox, code[language], language=language).stdout == text + "\n"


def test_bytes_that_are_no_text_are_replaced(sandbox):
    assert sandbox.commands.run("printf 'a\\xff\\0b'").stdout == "a�\0b"


@pytest.mark.parametrize("language", ["python", "bash"])
def test_big_output_is_bounded_and_says_so(sandbox, language):
    code = {"python": "print('x' * 20_000_000)", "bash": "head -c 20000000 /dev/zero | tr '\\0' x"}
    result = run(sandbox, code[language], language=language)
    assert 1_000_000 < len(result.stdout) < 20_000_000
    assert "truncated" in result.stdout[-100:]


HEARD = "/tmp/heard"
WAITS = f'import os, time\nprint("a")\nwhile not os.path.exists("{HEARD}"): time.sleep(0.01)\nprint("b")'
SHELL = f"(echo a; until [ -e {HEARD} ]; do sleep 0.01; done; echo b)"
STREAMED = {
    "python": ("python", WAITS),
    "a child that does not flush": ("bash", f"python3 -c '{WAITS}'"),
    "a filter that buffers": ("bash", f"{SHELL} | grep ."),
    "another": ("bash", f"{SHELL} | tr x y"),
    "javascript": (
        "javascript",
        "const { existsSync } = require('fs'); console.log('a')\nconst looking = setInterval(() => {\n"
        f"if (existsSync('{HEARD}')) {{ clearInterval(looking); console.log('b') }}\n}}, 10)",
    ),
    "go": (
        "go",
        'package main\nimport ("fmt"; "os"; "time")\nfunc main() {\nfmt.Println("a")\n'
        f'for _, missing := os.Stat("{HEARD}"); missing != nil; _, missing = os.Stat("{HEARD}") {{ time.Sleep(1e7) }}\n'
        'fmt.Println("b")\n}',
    ),
}


@pytest.mark.parametrize("case", STREAMED)
async def test_output_streams_while_the_program_runs(sandbox, case):
    """It says the second line when the first one has been heard."""
    language, code = STREAMED[case]
    await asyncio.to_thread(sandbox.commands.run, f"rm -f {HEARD}")
    said = ""
    async for message in sandbox.run_code_stream(code, language=language, timeout=30):
        if message["type"] == "stdout":
            said += message["data"]
            if said == "a\n":
                await asyncio.to_thread(sandbox.files.write, HEARD, "")
    assert said == "a\nb\n"


# ---- limits


@pytest.mark.parametrize("code", ["while True: pass", "!sleep 99"], ids=["busy", "shell"])
def test_a_cell_ends_at_its_time_limit_and_keeps_the_state(sandbox, code):
    run(sandbox, "kept = 42")
    result = sandbox.run_code("print('begun')\n" + code, timeout=2)
    assert (result.success, result.exit_code, result.stdout) == (False, 124, "begun\n")
    assert "timed out after 2 second" in result.stderr
    assert 1.9 < result.execution_time < 4
    assert run(sandbox, "print(kept)").stdout == "42\n"


def test_a_cell_that_refuses_to_end_is_ended(sandbox):
    code = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    assert sandbox.run_code(code, timeout=1).exit_code == 124
    assert run(sandbox, "print('again')").stdout == "again\n"


@pytest.mark.parametrize("language", ["bash", "javascript", "go"])
def test_other_languages_end_at_their_time_limit(sandbox, language):
    code = {
        "bash": 'echo begun; [ -z "$LONG" ] || sleep 99',
        "javascript": "console.log('begun'); while (process.env.LONG) {}",
        "go": 'package main\nimport ("fmt"; "os")\n'
        'func main() { fmt.Println("begun"); for os.Getenv("LONG") != "" {} }',
    }
    assert run(sandbox, code[language], language=language).stdout == "begun\n"  # it is compiled then
    result = sandbox.run_code(code[language], language=language, env={"LONG": "1"}, timeout=3)
    assert (result.exit_code, result.stdout) == (124, "begun\n")


def test_an_unknown_language_names_the_known_ones(sandbox):
    with pytest.raises(Exception, match="python, javascript, bash, go"):
        sandbox.run_code("x", language="cobol")


def test_working_directory_and_environment_hold_for_their_cell(sandbox):
    assert run(
        sandbox, "import os; print(os.getcwd(), os.environ['A'])", working_dir="/tmp", env={"A": "1"}
    ).stdout == ("/tmp 1\n")
    assert run(sandbox, "import os; print(os.getcwd(), os.environ.get('A'))").stdout == "/workspace None\n"
