"""Contexts: made, listed, restarted, removed, and kept apart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from driven import Driven
from subject import CORE, MODULE
from wire import ask, events

covers = pytest.mark.covers


def ids(sandbox):
    return [each.id for each in sandbox.list_code_contexts()]


@covers("Sandbox.create_code_context", "POST /contexts", "Context.id", "Context.language", "Context.cwd")
def test_a_context_has_its_directory_and_language(sandbox):
    made = sandbox.create_code_context(cwd="/tmp", language="python", request_timeout=30)
    assert (made.language, made.cwd) == ("python", "/tmp")
    assert sandbox.run_code("import os; os.getcwd()", context=made).text == "/tmp"
    sandbox.remove_code_context(context=made)
    plain = sandbox.create_code_context()
    assert (plain.language, plain.cwd) == ("python", "/home/user")
    sandbox.remove_code_context(plain.id)


@covers("Context.from_json")
def test_a_context_is_read_from_json():
    made = MODULE.Context.from_json({"id": "a", "language": "r", "cwd": "/"})
    assert (made.id, made.language, made.cwd) == ("a", "r", "/")


@covers(
    "Sandbox.list_code_contexts",
    "GET /contexts",
    "16 default contexts of Python and JavaScript are listed from the start",
)
def test_contexts_are_listed(own):
    made = own()
    assert sorted((each.language, each.cwd) for each in made.list_code_contexts()) == [
        ("javascript", "/home/user"),
        ("python", "/home/user"),
    ]
    new = made.create_code_context()
    assert new.id in ids(made)


@covers("Sandbox.remove_code_context", "DELETE /contexts/{id}", "16 unknown context: 404, Context X not found")
def test_a_removed_context_is_gone(sandbox):
    made = sandbox.create_code_context()
    sandbox.remove_code_context(made)
    assert made.id not in ids(sandbox)
    sentence = f"Context {made.id} not found"
    with pytest.raises(CORE.NotFoundException, match=sentence):
        sandbox.run_code("1", context=made)
    with pytest.raises(CORE.NotFoundException, match=sentence):
        sandbox.remove_code_context(made.id)


@covers("Sandbox.restart_code_context", "POST /contexts/{id}/restart")
def test_a_restart_forgets(sandbox, context):
    sandbox.run_code("x = 1", context=context)
    assert sandbox.restart_code_context(context=context) is None
    assert sandbox.run_code("x", context=context).error.name == "NameError"
    assert sandbox.run_code("1", context=context).execution_count in (2, 3)
    sandbox.restart_code_context(context.id)
    with pytest.raises(CORE.NotFoundException):
        sandbox.restart_code_context("none")


@covers("16 a restart ends the cell with ContextRestarting")
def test_a_restart_ends_the_cell_that_runs(one, room):
    with closing(events(one, code="import time\nprint('begun')\ntime.sleep(60)", context_id=room.id)) as lines:
        next(each for each in lines if each["type"] == "stdout")
        one.restart_code_context(room)
        error = next(each for each in lines if each["type"] == "error")
        assert (error["name"], error["value"]) == ("ContextRestarting", "Context was restarted")
    assert one.run_code("'alive'", context=room).text == "alive"


@covers("16 state is kept by each context", "16 a language's default context begins in /home/user")
def test_contexts_keep_their_own_state(sandbox, context):
    sandbox.run_code("mine = 'shared'")
    sandbox.run_code("import os; os.chdir('/usr'); mine = 'own'", context=context)
    assert sandbox.run_code("mine").text == "shared"
    assert sandbox.run_code("mine + os.getcwd()", context=context).text == "own/usr"
    assert sandbox.run_code("import os; os.getcwd()").text == "/home/user"
    assert "".join(sandbox.run_code("pwd", language="bash").logs.stdout) == "/home/user\n"


@covers("Sandbox.create_code_context", "16 state is kept by each context")
def test_contexts_of_other_languages(sandbox):
    made = sandbox.create_code_context(language="javascript", cwd="/tmp")
    assert (made.language, made.cwd) == ("javascript", "/tmp")
    sandbox.run_code("let kept = 20", context=made)
    assert sandbox.run_code("kept * 2 + 2", context=made).text == "42"
    assert sandbox.run_code("typeof kept", language="js").text == "undefined"
    assert sandbox.run_code("process.cwd()", context=made).text == "/tmp"
    sandbox.restart_code_context(made)
    assert sandbox.run_code("typeof kept", context=made).text == "undefined"
    sandbox.remove_code_context(made)
    assert made.id not in ids(sandbox)


@covers("16 executions in a context take turns")
def test_cells_of_a_context_take_turns(one, room):
    code = (
        "import time\nseen = globals().setdefault('seen', [])\nseen.append('in')\ntime.sleep(0.2)\nseen.append('out')"
    )

    def run(_):
        return [each["type"] for each in events(one, code=code, context_id=room.id)]

    with ThreadPoolExecutor(3) as pool:
        assert all("error" not in kinds for kinds in pool.map(run, range(3)))
    assert one.run_code("seen == ['in', 'out'] * 3", context=room).text == "True"


@covers("16 contexts run side by side")
def test_contexts_run_side_by_side(one):
    """Each waits until all others run: one after the other would not end."""
    made = [one.create_code_context() for _ in range(4)]
    one.run_code("import pathlib, shutil; shutil.rmtree('/tmp/side', True); pathlib.Path('/tmp/side').mkdir()")
    code = (
        "import pathlib, time\nplace = pathlib.Path('/tmp/side')\n(place / {id!r}).touch()\n"
        "while len(list(place.iterdir())) < 4: time.sleep(0.02)\n'met'"
    )

    def run(context):
        found = list(events(one, code=code.format(id=context.id), context_id=context.id))
        return next(each["text"] for each in found if each["type"] == "result")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, made)) == ["met"] * 4
    for each in made:
        one.remove_code_context(each)


# ---- variables

READ = {
    "python": "import os; os.environ.get('{name}', 'none')",
    "javascript": "process.env.{name} ?? 'none'",
    "r": "Sys.getenv('{name}', 'none')",
    "java": 'System.getProperty("{name}", "none")',
    "bash": 'echo "${{{name}-none}}"',
}


def read(sandbox, language, name, **more):
    found = sandbox.run_code(READ[language].format(name=name), language=language, **more)
    assert found.error is None, found.error
    said = found.results[-1].text if found.results else "".join(found.logs.stdout)
    return said.strip().removeprefix("[1] ").strip("\"'")


@pytest.mark.parametrize("language", READ)
@covers(
    "Sandbox.run_code",
    "16 variables of the sandbox are in every context",
    "16 variables of one execution are taken back",
)
def test_variables(sandbox, language):
    assert read(sandbox, language, "COLOUR") == "blue"
    assert read(sandbox, language, "COLOUR", envs={"COLOUR": "red", "NEW": "1"}) == "red"
    assert read(sandbox, language, "COLOUR") == "blue"
    assert read(sandbox, language, "NEW") == "none"


# ---- who may


@covers("22.12 a private sandbox: the traffic token guards 49999")
def test_a_private_sandbox_asks_for_the_traffic_token(own):
    made = own(network={"allow_public_traffic": False})
    assert made.run_code("6 * 7").text == "42"
    assert len(made.list_code_contexts()) == 2
    refused = ask(made, "GET", "/contexts")
    assert refused.status_code == 403
    assert ask(made, "GET", "/contexts", headers={"E2B-Traffic-Access-Token": made.traffic_access_token}).is_success


@covers("E2B")
def test_a_client_object_binds_an_account(kind, loop, sandbox):
    bound = MODULE.E2B()
    client = Driven(bound.Sandbox if kind == "sync" else bound.AsyncSandbox, loop)
    assert client.connect(sandbox.sandbox_id).run_code("6 * 7").text == "42"


@covers("Sandbox.delete_code_context")
def test_a_context_is_removed_by_the_earlier_name(sandbox):
    made = sandbox.create_code_context()
    sandbox.delete_code_context(context=made.id)
    assert made.id not in [each.id for each in sandbox.list_code_contexts()]
