"""The examples of HopX's page about the class, by our names: basic use, context manager, files, background, streams."""

from __future__ import annotations

import dataclasses
import threading

import pytest

import atoll
from atoll import AsyncSandbox, Sandbox

pytestmark = pytest.mark.root


def test_basic_use():
    sandbox = Sandbox.create(template="code-interpreter")
    result = sandbox.run_code("print('Hello')", language="python")
    assert (result.success, result.stdout, result.exit_code) == (True, "Hello\n", 0)
    assert sandbox.get_info().status == "running"
    sandbox.kill()
    with pytest.raises(atoll.NotFoundError) as caught:
        sandbox.get_info()
    assert caught.value.request_id.startswith("req_")


def test_context_manager():
    with Sandbox.create(template="busybox") as sandbox:
        sandbox_id = sandbox.sandbox_id
    with pytest.raises(atoll.NotFoundError):
        Sandbox.connect(sandbox_id)


async def test_context_manager_async():
    async with AsyncSandbox.create(template="busybox") as sandbox:
        assert (await sandbox.commands.run("echo hi")).stdout == "hi\n"
    with pytest.raises(atoll.NotFoundError):
        await AsyncSandbox.connect(sandbox.sandbox_id)


def test_a_block_that_fails_ends_its_sandbox_too():
    def fails():
        with Sandbox.create(template="busybox") as sandbox:
            raise KeyError(sandbox.sandbox_id)

    with pytest.raises(KeyError) as caught:
        fails()
    with pytest.raises(atoll.NotFoundError):
        Sandbox(caught.value.args[0]).get_info()


def test_files(sandbox, tmp_path):
    sandbox.files.write("/workspace/page/data.csv", "a,b\n1,2\n")
    assert sandbox.files.read("/workspace/page/data.csv") == "a,b\n1,2\n"
    result = sandbox.run_code("import pandas; print(pandas.read_csv('/workspace/page/data.csv').b.sum())")
    assert result.stdout == "2\n"
    assert [(each.name, each.is_file) for each in sandbox.files.list("/workspace/page")] == [("data.csv", True)]
    sandbox.files.remove("/workspace/page")
    assert not sandbox.files.exists("/workspace/page/data.csv")


def test_names_that_need_quoting(small):
    for name in ("a b", "a+b", "a&b=c", "a%41", "a#b", "ü", "'\"$x"):
        small.files.write(f"/workspace/quoted/{name}", name)
        assert small.files.read(f"/workspace/quoted/{name}") == name
    assert len(small.files.list("/workspace/quoted")) == 7


def test_content_that_looks_like_base64_arrives_as_it_is(small):
    small.files.write("/workspace/base64", "test")
    assert small.files.read_bytes("/workspace/base64") == b"test"
    assert b"".join(small.files.iter_bytes("/workspace/base64")) == b"test"


def test_large_files_go_both_ways(small, tmp_path):
    data = bytes(range(256)) * 64 * 1024  # 16 MiB
    (tmp_path / "a").write_bytes(data)
    small.files.upload(tmp_path / "a", "/workspace/large")
    progress: list[int] = []
    small.files.download("/workspace/large", tmp_path / "b", on_progress=lambda done, total: progress.append(done))
    assert (tmp_path / "b").read_bytes() == data
    assert progress[-1] == len(data)
    assert progress == sorted(progress)
    small.files.write_bytes("/workspace/large", data, mode="0600")
    assert {each.name: each.mode for each in small.files.list("/workspace")}["large"] == "0600"
    small.files.remove("/workspace/large")


def test_an_upload_that_is_refused_says_why(small, tmp_path):
    (tmp_path / "a").write_bytes(bytes(16 * 1024 * 1024))
    with pytest.raises(atoll.FileOperationError):
        small.files.upload(tmp_path / "a", "/etc/not-here")
    with pytest.raises(FileNotFoundError):
        small.files.upload(tmp_path / "nothing", "/workspace/a")
    with pytest.raises(FileNotFoundError):
        small.files.download("/workspace/nothing", tmp_path / "b")
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_background(sandbox):
    started = sandbox.run_code_background("import time\nprint('begun', flush=True)\ntime.sleep(600)", name="page")
    found = {each["process_id"]: each for each in sandbox.list_processes()}[started["process_id"]]
    assert (found["name"], found["status"]) == ("page", "running")
    sandbox.kill_process(started["process_id"])
    assert sandbox.get_process(started["process_id"])["status"] == "killed"


def test_errors_of_the_agent_say_what_is_wrong(small):
    with pytest.raises(atoll.FileNotFoundError) as caught:
        small.files.read("/workspace/nowhere")
    assert (caught.value.path, caught.value.status_code) == ("/workspace/nowhere", 404)
    with pytest.raises(atoll.FileOperationError):
        small.files.write("/etc/passwd", "x")
    with pytest.raises(atoll.DesktopNotAvailableError):
        small.desktop.screenshot()
    with pytest.raises(atoll.AgentError) as gone:
        small.kill_process("nobody")
    assert gone.value.code == "PROCESS_NOT_FOUND"


def test_errors_of_the_control_plane_say_what_is_wrong():
    with pytest.raises(atoll.TemplateNotFoundError) as caught:
        Sandbox.create("code-interpeter")
    assert caught.value.suggested_template == "code-interpreter"
    with pytest.raises(atoll.ValidationError) as wrong:
        Sandbox.create("busybox", network={"allow_out": ["a.example"]})
    assert wrong.value.field == "allow_out"
    with pytest.raises(atoll.AuthenticationError):
        Sandbox.list(api_key="no-such-key")
    with pytest.raises(atoll.ResourceLimitError) as limit:
        Sandbox.create("busybox", memory_mb=10**9)
    assert limit.value.details["cause"] == "size"


def test_a_paused_sandbox_refuses_and_connect_resumes_it():
    with Sandbox.create("busybox") as box:
        box.commands.run("true")
        box.pause()
        with pytest.raises(atoll.AgentError) as caught:
            box.commands.run("true")
        assert caught.value.code == "SANDBOX_PAUSED"
        assert Sandbox.connect(box.sandbox_id).commands.run("echo on").stdout == "on\n"


STEPS = """
import os, time
for n in range(3):
    print(n, flush=True)
    while not os.path.exists(f'/tmp/go{n}'):
        time.sleep(0.01)
"""


def test_a_stream_comes_as_it_is_written(sandbox):
    """The program goes on when the test has seen its line, and not before."""
    seen = ""
    for message in sandbox.run_code_stream(STEPS):
        if message["type"] == "stdout":
            seen += message["data"]
            if seen.endswith("\n"):
                sandbox.files.write(f"/tmp/go{seen[-2]}", "")
    assert seen == "0\n1\n2\n"
    assert message == {"type": "complete", "success": True}


GONE = "ps >/dev/null || exit 3; while ps | grep -q 'sleep {seconds}'; do :; done; echo gone"


def _ended(result: atoll.CommandResult) -> None:
    assert (result.exit_code, result.stdout) == (0, "gone\n")


def test_leaving_a_stream_ends_the_program(small):
    stream = small.commands.stream("echo begun; exec sleep 987")
    assert next(stream)["data"] == "begun\n"
    stream.close()
    _ended(small.commands.run(GONE.format(seconds="98[7]"), timeout=20))


async def test_leaving_an_async_stream_ends_the_program(small):
    box = AsyncSandbox(small.sandbox_id)
    stream = box.commands.stream("echo begun; exec sleep 986")
    assert (await anext(stream))["data"] == "begun\n"
    await stream.aclose()
    _ended(await box.commands.run(GONE.format(seconds="98[6]"), timeout=20))


def test_a_terminal_is_left_and_gone_on_with(small):
    with small.terminal.connect() as session:
        session.resize(100, 30)
        session.send_input("stty size; echo fir''st\n")
        assert _until(session, "first").count("30 100") == 1
        session.send_input("exit 7\n")
        assert [message for message in session if message["type"] == "exit"] == [{"type": "exit", "code": 7}]


def _until(session, word: str) -> str:
    said = ""
    for message in session:
        said += message.get("data", "")
        if word in said:
            return said
    raise AssertionError(said)


def test_one_object_in_many_threads(small):
    found: list[str] = []

    def ask(number: int) -> None:
        found.append(small.commands.run(f"echo {number}").stdout.strip())

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [str(number) for number in range(8)]


def test_metadata_is_kept_and_found():
    with Sandbox.create("busybox", metadata={"user": "ann & bob", "app": "x"}) as box:
        assert box.get_info().metadata == {"user": "ann & bob", "app": "x"}
        assert [each.sandbox_id for each in Sandbox.iter(metadata={"user": "ann & bob"})] == [box.sandbox_id]
        assert Sandbox.list(metadata={"user": "ann & bob", "app": "y"}) == []


def test_the_network_is_changed_while_it_runs():
    with Sandbox.create("busybox", internet_access=False) as box:
        assert box.get_info().internet_access is False
        info = box.update_network({"deny_out": [atoll.ALL_TRAFFIC], "allow_out": ["192.0.2.1"]})
        assert (info.internet_access, info.network["allow_out"]) == (True, ["192.0.2.1"])
        assert box.update_network(allow_internet_access=False).internet_access is False


def test_every_field_of_a_network_is_one_of_the_servers():
    network = atoll.Network(
        allow_out=["a.example", "192.0.2.1"],
        deny_out=[atoll.ALL_TRAFFIC],
        allow_public_traffic=False,
        mask_request_host="localhost:${PORT}",
        https_ports=[8443],
        rules={"a.example": [{"transform": {"headers": {"X-A": "b"}}}]},
        dns_servers=["192.0.2.1"],
        egress_proxy={"address": "192.0.2.9:1080"},
        dns="open",
        ech="refuse",
        inspect=True,
    )
    with Sandbox.create("busybox", network=network) as box:
        shown = box.get_info().network
        for field in dataclasses.fields(network):
            assert field.name in shown
        assert shown["mask_request_host"] == network.mask_request_host


def test_a_program_that_listens_is_reached_by_its_url(small, stack):
    import httpx

    small.commands.run("mkdir -p /tmp/www && echo served > /tmp/www/index.html")
    small.commands.run("httpd -f -p 127.0.0.1:8099 -h /tmp/www", background=True)
    small.commands.run("until wget -q -O - http://127.0.0.1:8099/ >/dev/null 2>&1; do :; done", timeout=20)
    url = small.get_preview_url(8099)
    with httpx.Client(trust_env=False) as client:
        assert client.get(url, headers={"X-API-Key": stack.installation.api_key}).text == "served\n"
        assert client.get(url).status_code in (401, 403)
        link = small.create_link(8099, seconds=60)
        assert client.get(link.url, follow_redirects=True).text == "served\n"
