import os
import select
import sys

import pytest

from atoll.agent.runner import magics


def ends(pid: int) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with open(handle, "rb", closefd=True):
        return bool(select.select([handle], [], [], 10)[0])


def test_command_output_streams_and_state_is_shared(context):
    outcome = context.run("word = 'hello'\n!echo {word}; echo more >&2")
    assert (outcome.stdout, outcome.stderr, outcome.status) == ("hello\n", "more\n", "ok")


def test_command_inside_a_block(context):
    assert context.run("for n in range(2):\n    !echo line {n}").stdout == "line 0\nline 1\n"


def test_output_of_a_command_as_a_value(context):
    assert context.run("lines = !printf 'a\\nb\\n'\nlist(lines)").text == "['a', 'b']"


def test_exit_code_of_a_command(context):
    assert context.run("!exit 3\n_exit_code").text == "3"


def test_percent_and_bang_inside_strings_and_brackets_are_python(context):
    assert context.run("s = '''\n%cd /\n!ls\n'''\nn = (7\n% 4)\n(len(s), n)").text == "(11, 3)"


def test_strings_stay_untouched_in_a_cell_that_has_magics(context):
    assert context.run("s = '''\n!echo no\n'''\n!echo yes\ns").text == "'\\n!echo no\\n'"


def test_cd_changes_the_directory(context):
    context.run("%cd /usr")
    assert context.run("import os; os.getcwd()").text == "'/usr'"


def test_env_sets_a_variable(context):
    context.run("%env WORD=set")
    assert context.run("import os; os.environ['WORD']").text == "'set'"


def test_time_tells_the_time_and_keeps_names(context):
    outcome = context.run("%time x = 5")
    assert "Wall time" in outcome.stdout
    assert context.run("x").text == "5"


def test_cell_time_has_the_last_value(context):
    outcome = context.run("%%time\ny = 6\ny + 1")
    assert "Wall time" in outcome.stdout
    assert outcome.text == "7"


def test_error_under_cell_time_is_an_error(context):
    outcome = context.run("%%time\n1/0")
    assert (outcome.status, outcome.error["name"]) == ("error", "ZeroDivisionError")


def test_timeit_measures(context):
    assert "2 runs, 3 loops each" in context.run("%timeit -n 3 -r 2 1 + 1").stdout


def test_bash_cell(context):
    assert context.run("%%bash\nx=5\necho $((x + 1))").stdout == "6\n"


def test_failing_bash_cell_is_an_error(context):
    assert context.run("%%bash\nexit 4").status == "error"


def test_writefile(context, tmp_path):
    context.run("%%writefile note.txt\nline\n")
    assert (tmp_path / "note.txt").read_text() == "line\n"


@pytest.mark.parametrize(
    "code",
    [
        "%matplotlib inline",
        "%matplotlib notebook",
        "%config InlineBackend.figure_format = 'retina'",
        "%load_ext autoreload",
    ],
)
def test_notebook_settings_are_harmless(context, code):
    outcome = context.run(f"{code}\n1")
    assert (outcome.status, outcome.text, outcome.stderr) == ("ok", "1", "")


def test_unknown_magic_is_an_error_that_names_it(context):
    error = context.run("%nosuchmagic").error
    assert error["name"] == "UsageError"
    assert "nosuchmagic" in error["value"]


def test_help_is_printed(context):
    assert "Return the number of items in a container." in context.run("len?").stdout


def test_pip_runs_this_python(context):
    assert "python 3" in context.run("%pip --version").stdout


def test_interrupted_command_is_ended_with_its_children(context):
    program = "import os; print(os.getpid(), 'ready', flush=True); os.execlp('sleep', 'sleep', '600')"
    context.start(f'!{sys.executable} -c "{program}" | cat')
    seen = context.until_prints("ready\n")
    context.interrupt()
    assert context.finish(outcome=seen).status == "interrupted"
    assert ends(int(seen.stdout.split()[0]))


def test_syntax_error_in_a_cell_with_magics_is_a_syntax_error(context):
    assert context.run("%matplotlib inline\nx = = 1").error["name"] == "SyntaxError"


def test_names_of_the_user_stay_clean_after_ipython_came(science):
    science.run("%pwd")
    assert science.run("open is __builtins__.open and exit is __builtins__.exit").text == "True"
    assert science.run("exit()").status == "ok"


def test_ipython_writes_nothing_and_starts_no_thread(science_seed, tmp_path):
    context = science_seed.fork(home=str(tmp_path), env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    assert context.run("%pwd\nimport threading; threading.active_count()").text == "1"
    context.close()
    science_seed.exit_of(context.pid)
    assert list(tmp_path.iterdir()) == []


def test_capture_swallows_output_and_displays(science):
    outcome = science.run("%%capture taken\nprint('x')\ndisplay(1)")
    assert (outcome.stdout, outcome.displays) == ("", [])
    assert science.run("taken.stdout").text == "'x\\n'"


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("%cd /tmp", "get_ipython().run_line_magic('cd', '/tmp')"),
        ("  !ls -l", "  get_ipython().system('ls -l')"),
        ("!!ls", "get_ipython().getoutput('ls')"),
        ("x = !ls", "x = get_ipython().getoutput('ls')"),
        ("x = %pwd", "x = get_ipython().run_line_magic('pwd', '')"),
        ("a, b = !ls", "a, b = get_ipython().getoutput('ls')"),
        ("os.path?", "help(os.path)"),
        ("?len", "help(len)"),
        ("x = = 2", None),
        ("print 'x'", None),
    ],
)
def test_rewriting_of_one_line(line, changed):
    assert magics.rewritten(line) == changed


@pytest.mark.parametrize(
    ("source", "expected"),
    [("x = 1 %", False), ("!ls", True), ("  %time f()", True), ("x = !ls", True), ("len?", True), ("x = 1 +", False)],
)
def test_ordinary_syntax_errors_do_not_wake_ipython(source, expected):
    assert magics.may_have(source) is expected
