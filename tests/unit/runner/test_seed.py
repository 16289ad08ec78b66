import json
import os
import signal
import tempfile

import pytest

from atoll.wire import frames

from .conftest import WITHOUT_IPYTHON, Seed  # type: ignore[import-not-found]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (b"not json", "not JSON"),
        ([1], "not a fork request"),
        ({"op": "fork"}, "not a fork request"),
        ({"op": "other", "id": "x"}, "not a fork request"),
        ({"op": "fork", "id": "x", "gid": 0}, "malformed"),
        ({"op": "fork", "id": "x", "uid": -1, "gid": 0}, "not a user"),
        ({"op": "fork", "id": "x", "uid": True, "gid": 0}, "not a user"),
        ({"op": "fork", "id": "x", "uid": 0, "gid": 0, "env": [1]}, "malformed"),
        ({"op": "fork", "id": "x", "uid": 0, "gid": 0, "kernel": "bash"}, "malformed kernel"),
        ({"op": "fork", "id": "x", "uid": 0, "gid": 0, "kernel": {"language": "bash"}}, "malformed kernel"),
    ],
)
def test_bad_request_is_refused_and_the_seed_goes_on(plain_seed, request_, message):
    fds = [os.open("/dev/null", os.O_RDWR) for _ in range(3)]
    answer = plain_seed.ask(request_, fds)
    for fd in fds:
        os.close(fd)
    assert answer["op"] == "failed"
    assert message in answer["message"]


@pytest.mark.parametrize("count", [0, 2, 5, 12])
def test_wrong_number_of_descriptors_is_refused_and_none_leaks(plain_seed, count):
    directory = f"/proc/{plain_seed.process.pid}/fd"
    before = len(os.listdir(directory))
    fds = [os.open("/dev/null", os.O_RDWR) for _ in range(count)]
    assert plain_seed.ask({"op": "fork", "id": "x", "uid": 0, "gid": 0}, fds)["op"] == "failed"
    for fd in fds:
        os.close(fd)
    assert len(os.listdir(directory)) == before


def test_large_environment_comes_in_a_file(plain_seed):
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps({"BIG": "x" * 600_000, "HOME": "/"}).encode())
        file.flush()
        context = plain_seed.fork(env={}, extra=(file.fileno(),))
    assert context.run("import os\nlen(os.environ['BIG'])").text == "600000"
    context.close()
    plain_seed.exit_of(context.pid)


def test_exit_is_reported_once_with_id_and_raw_status(plain_seed):
    context = plain_seed.fork()
    context.run("import os; os._exit(9)")
    expected = {"op": "exited", "id": context.name, "pid": context.pid, "status": 9 << 8}
    assert plain_seed.exit_of(context.pid) == expected
    context.close()


def test_contexts_that_end_together_are_all_reported(plain_seed):
    contexts = [plain_seed.fork() for _ in range(5)]
    for context in contexts:
        os.kill(context.pid, signal.SIGKILL)
    assert {plain_seed.exit_of(context.pid)["status"] for context in contexts} == {signal.SIGKILL}
    for context in contexts:
        context.close()


def test_closed_channel_ends_the_seed_and_its_contexts():
    seed = Seed(["-c", WITHOUT_IPYTHON])
    context = seed.fork()
    context.start("print('ready')\nwhile True: pass")
    context.until_prints("ready")
    assert seed.close() == 0
    assert not os.path.exists(f"/proc/{context.pid}")
    context.close()


def test_context_that_cannot_be_set_up_exits_and_says_why(plain_seed):
    context = plain_seed.fork(env={"A\0": "x"})
    outcome = context.finish()
    assert "ValueError: embedded null byte" in outcome.stderr
    assert plain_seed.exit_of(context.pid)["status"] == 1 << 8
    context.close()


def test_seed_of_the_command_line_names_modules_that_are_missing(capfd):
    seed = Seed(["-m", "atoll.agent.runner", "--preload", "no_such_module"])
    context = seed.fork()
    assert context.run("1").text == "1"
    context.close()
    seed.exit_of(context.pid)
    assert seed.close() == 0
    assert "import no_such_module: ModuleNotFoundError" in capfd.readouterr().err


def test_one_made_ahead_waits_for_its_variables_and_keeps_them(plain_seed):
    context = plain_seed.fork(env={"HOME": "/", "OLD": "1"}, ahead=True)
    context.stream.sendall(frames.encode_json({"op": "born", "env": {"HOME": "/", "NEW": "2"}}))
    assert context.run("import os\nos.environ.get('OLD'), os.environ.get('NEW')").text == "(None, '2')"
    context.close()
    plain_seed.exit_of(context.pid)
