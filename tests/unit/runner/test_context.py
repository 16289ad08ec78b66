import os
import signal
import stat

import pytest

from atoll.agent.runner import context as module


def test_env_of_a_request_holds_for_its_cell(context):
    code = "import os\nos.environ.get('WORD')"
    assert context.run(code, env={"WORD": "x"}).text == "'x'"
    assert context.run("os.environ.get('WORD')").of("result") == []


def test_env_of_a_request_is_put_back_after_an_error(seed, tmp_path):
    context = seed.fork(env={"WORD": "born", "PATH": os.environ["PATH"]})
    code = "import os\nos.environ['WORD'] = 'changed'\n1/0"
    assert context.run(code, env={"WORD": "cell"}).status == "error"
    assert context.run("os.environ['WORD']").text == "'born'"
    context.close()
    seed.exit_of(context.pid)


def test_env_reaches_subprocesses(context):
    assert context.run("import os\n_ = os.system('echo $WORD')", env={"WORD": "x"}).stdout == "x\n"


def test_illegal_env_is_an_error_of_the_cell(context):
    assert context.run("1", env={"A=B": "x"}).status == "error"
    assert context.run("1").status == "ok"


def test_context_has_only_the_environment_it_was_given(seed):
    context = seed.fork(env={"ONLY": "this"}, home="/nowhere")
    assert context.run("import os\nsorted(os.environ.items())").text == "[('HOME', '/nowhere'), ('ONLY', 'this')]"
    context.close()
    seed.exit_of(context.pid)


def test_cwd_of_a_request_is_entered(context, tmp_path):
    (tmp_path / "sub").mkdir()
    assert context.run("import os\nos.getcwd()", cwd=str(tmp_path / "sub")).text == repr(str(tmp_path / "sub"))


def test_chdir_of_the_program_lasts_while_the_same_cwd_is_requested(context, tmp_path):
    (tmp_path / "sub").mkdir()
    context.run("import os\nos.chdir('sub')", cwd=str(tmp_path))
    assert context.run("os.path.basename(os.getcwd())", cwd=str(tmp_path)).text == "'sub'"
    assert context.run("os.getcwd()", cwd="/").text == "'/'"


def test_missing_cwd_is_an_error_and_the_cell_does_not_run(context):
    outcome = context.run("print('ran')", cwd="/no/such/directory")
    assert (outcome.error["name"], outcome.stdout) == ("FileNotFoundError", "")
    assert context.run("1").status == "ok"


def test_missing_first_cwd_falls_back_to_home(seed, tmp_path):
    context = seed.fork(cwd="/no/such", home=str(tmp_path))
    assert context.run("import os\nos.getcwd()").text == repr(str(tmp_path))
    context.close()
    seed.exit_of(context.pid)


def test_only_the_standard_descriptors_and_the_stream_are_open(context):
    code = "import os, stat\n[stat.S_IFMT(os.fstat(fd).st_mode) for fd in range(4)]"
    assert eval(context.run(code).text) == [stat.S_IFCHR, stat.S_IFIFO, stat.S_IFIFO, stat.S_IFSOCK]
    assert context.run("len(os.listdir('/proc/self/fd'))").text == "5"  # and the directory itself


def test_children_inherit_no_stream(context):
    assert context.run('import os\n_ = os.system(\'ls /proc/self/fd | tr "\\\\n" " "\')').stdout == "0 1 2 3 "
    assert context.run("os.get_inheritable(3)").text == "False"


def test_context_leads_a_session_of_its_own(context):
    assert context.run("import os\nos.getsid(0) == os.getpid()").text == "True"


def test_memory_pressure_takes_a_context_first(context):
    assert context.run("print(open('/proc/self/oom_score_adj').read())").stdout == "600\n\n"


def test_signals_are_pythons_defaults(context):
    code = "import signal\n[signal.getsignal(s) is signal.SIG_DFL for s in (signal.SIGCHLD, signal.SIGTERM)]"
    assert context.run(code).text == "[True, True]"


def test_contexts_share_nothing(seed):
    one, two = seed.fork(), seed.fork()
    one.run("import sys\nx = 1\nsys.marker = 1")
    assert two.run("x").error["name"] == "NameError"
    assert two.run("import sys\nhasattr(sys, 'marker')").text == "False"
    for context in (one, two):
        context.close()
        seed.exit_of(context.pid)


def test_user_site_of_the_home_is_importable_once_it_appears(plain_seed, tmp_path):
    context = plain_seed.fork(home=str(tmp_path), env={"HOME": str(tmp_path)})
    found = "any(path.startswith(home) for path in sys.path)"
    code = f"import sys\nhome = {str(tmp_path)!r}\nsys.prefix != sys.base_prefix or {found}"
    assert context.run(code).text == "True"
    context.close()
    plain_seed.exit_of(context.pid)


def test_module_written_by_a_cell_is_importable(context):
    context.run("open('fresh_module.py', 'w').write('x = 5')")
    assert context.run("import fresh_module\nfresh_module.x").text == "5"


def test_groups_are_read_from_the_files_alone(monkeypatch):
    files = {
        "/etc/passwd": [["root", "x", "0", "0"], ["user", "x", "1000", "1000"]],
        "/etc/group": [["sudo", "x", "27", "other,user"], ["adm", "x", "4", "other"], ["bad", "x", "z", "user"]],
    }
    monkeypatch.setattr(module, "_records", lambda path, width: iter(files[path]))
    assert module.groups_of(1000, 1000) == [27, 1000]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_context_gives_up_root_for_good(plain_seed):
    context = plain_seed.fork(uid=1000, gid=1000)
    assert context.run("import os\n(os.getresuid(), os.getresgid())").text == "((1000, 1000, 1000), (1000, 1000, 1000))"
    assert context.run("os.setuid(0)").error["name"] == "PermissionError"
    status = context.run("print(open('/proc/self/status').read())").stdout
    assert {line.split()[1] for line in status.splitlines() if line.startswith(("CapEff", "CapPrm"))} == {"0" * 16}
    assert context.run("len(os.listdir('/proc/self/fd')) > 0").text == "True"
    context.close()
    assert plain_seed.exit_of(context.pid)["status"] == 0


def test_context_ends_when_its_stream_closes(seed):
    context = seed.fork()
    context.close()
    assert seed.exit_of(context.pid)["status"] == 0


def test_stream_that_does_not_speak_frames_ends_the_context(seed):
    context = seed.fork()
    context.stream.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert os.WIFEXITED(seed.exit_of(context.pid)["status"])
    context.close()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import os; os._exit(4)", 4 << 8),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", signal.SIGKILL),
        ("import ctypes; ctypes.string_at(0)", signal.SIGSEGV),
    ],
)
def test_context_that_dies_is_reported_with_its_status(seed, code, status):
    context = seed.fork()
    outcome = context.run(f"print('last words'); {code}")
    assert (outcome.objects, outcome.stdout) == ([], "last words\n")
    assert seed.exit_of(context.pid)["status"] & ~0x80 == status
    context.close()
