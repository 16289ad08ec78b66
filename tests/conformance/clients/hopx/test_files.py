"""Files: what is written is what is read, from outside and from inside."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import hopx_ai
import pytest
from talk import DECODES_BASE64, WITH_CREDENTIAL, shell

covers = pytest.mark.covers


@covers("Sandbox.files", "Files.write", "Files.read", "Files.exists", "Files.remove", "Files.mkdir")
def test_files_are_written_read_and_removed(sandbox):
    files = sandbox.files
    files.mkdir(path="/workspace/f/new/dir")
    files.mkdir("/workspace/f/new/dir")
    files.write(path="/workspace/f/deep/er/x.txt", content="é\n")
    assert files.read(path="/workspace/f/deep/er/x.txt") == "é\n"
    files.write("/workspace/f/x", "long text")
    files.write("/workspace/f/x", "short")
    assert shell(sandbox, "cat /workspace/f/x; stat -c %U:%a /workspace/f/x; ls /workspace/f") == (
        "shortuser:644\ndeep\nnew\nx"
    )
    assert files.exists(path="/workspace/f/new/dir") is True
    files.remove(path="/workspace/f/x")
    assert files.exists("/workspace/f/x") is False


@covers("Files.remove")
def test_a_directory_is_removed_with_all_in_it(sandbox):
    sandbox.files.write("/workspace/tree/a/b", "x")
    sandbox.files.remove("/workspace/tree")
    assert not sandbox.files.exists("/workspace/tree")


@covers("Files.remove")
def test_an_old_word_of_remove(sandbox):
    sandbox.files.write("/workspace/tree/a/b", "x")
    sandbox.files.remove("/workspace/tree", recursive=True)
    assert not sandbox.files.exists("/workspace/tree")


@covers("Files.mkdir")
def test_an_old_word_of_mkdir(sandbox):
    sandbox.files.mkdir("/workspace/old/a/b", parents=True)
    assert sandbox.files.exists("/workspace/old/a/b")


@covers("Files.list")
def test_a_directory_is_listed(sandbox):
    sandbox.files.mkdir("/workspace/l/sub")
    sandbox.files.write("/workspace/l/file.txt", "x" * 2048)
    file, sub = sorted(sandbox.files.list(path="/workspace/l"), key=lambda each: str(each))
    if isinstance(file, dict):  # old async clients give them as they came
        assert (file["name"], file["size"], sub["name"]) == ("file.txt", 2048, "sub")
        return
    by_name = {each.name: each for each in (file, sub)}
    file, sub = by_name["file.txt"], by_name["sub"]
    assert (file.path, file.size, file.size_kb, file.size_mb) == ("/workspace/l/file.txt", 2048, 2.0, 2 / 1024)
    assert (file.is_file, file.is_dir, file.is_directory) == (True, False, False)
    assert (sub.is_file, sub.is_dir, sub.is_directory) == (False, True, True)
    assert file.permissions == "-rw-r--r--"
    assert abs(file.modified_time - datetime.now(UTC)) < timedelta(minutes=5)


def test_odd_names_are_names(sandbox, kind):
    """The async client does not quote what it puts into a query: %41 is an A for whoever reads it."""
    name = "a b+c&d%é.txt" if kind == "async" else "a b+c&d%41é.txt"
    sandbox.files.write(f"/workspace/odd/{kind}/{name}", "odd")
    assert sandbox.files.read(f"/workspace/odd/{kind}/{name}") == "odd"
    assert shell(sandbox, f"ls /workspace/odd/{kind}") == name


@covers("Files.write", "Files.write_bytes")
def test_a_mode_is_set(sandbox):
    sandbox.files.write("/workspace/modes/script", "#!/bin/sh\necho ran", mode="0755")
    sandbox.files.write_bytes("/workspace/modes/key", b"secret", mode="0600")
    assert shell(sandbox, "/workspace/modes/script; stat -c %a /workspace/modes/key") == "ran\n600"


@covers("Files.write_bytes", "Files.read_bytes")
@pytest.mark.parametrize("content", [b"", b"test", bytes(range(256)) * 9000, b"QUJD" * 400_000], ids=len)
def test_bytes_come_back_as_they_were(sandbox, content):
    """Newer versions decode whatever looks like base64, so for their kind of client the server encodes it."""
    if content.isalnum() and not DECODES_BASE64:
        pytest.skip("this version gives what the server encodes for the newer ones")
    sandbox.files.write_bytes(path="/workspace/x.bin", content=content)
    assert sandbox.files.read_bytes(path="/workspace/x.bin") == content


@covers("Files.upload", "Files.download")
def test_big_files_go_up_and_down(sandbox, directory):
    local, back = directory / "local.bin", directory / "back.bin"
    local.write_bytes(os.urandom(1 << 16) * 128)
    sandbox.files.upload(local_path=str(local), remote_path="/workspace/up/there.bin", timeout=60)
    assert shell(sandbox, "wc -c < /workspace/up/there.bin") == str(8 << 20)
    sandbox.files.download(remote_path="/workspace/up/there.bin", local_path=str(back), timeout=60)
    assert back.read_bytes() == local.read_bytes()


@covers("Files.read", "Files.list", "Files.exists")
def test_what_is_not_there(sandbox):
    assert sandbox.files.exists("/workspace/nope") is False
    for call in (sandbox.files.read, sandbox.files.list):
        with pytest.raises(hopx_ai.HopxError):
            call("/workspace/nope")


@WITH_CREDENTIAL
@covers("Files.watch")
def test_changes_are_watched(sandbox, loop):
    sandbox.files.mkdir("/workspace/watched")
    watching = sandbox.files.watch(path="/workspace/watched", timeout=10)
    events = loop.background(watching, lambda event: event["path"].endswith("/deep/two.txt"))
    while events.empty():  # the protocol has no word for "watching now"
        shell(sandbox, "rm -f /workspace/watched/here; echo 1 > /workspace/watched/here")
    shell(sandbox, "cd /workspace/watched; mkdir deep; mv here one; rm one; sleep 0.1; echo 2 > deep/two.txt")
    seen = [events.get(timeout=10)]
    while not seen[-1]["path"].endswith("/deep/two.txt"):
        seen.append(events.get(timeout=10))
    found = {(event["event"], event["path"].removeprefix("/workspace/watched/")) for event in seen}
    assert {("created", "deep"), ("renamed", "one"), ("deleted", "one")} <= found
    assert {event["type"] for event in seen} == {"change"}
