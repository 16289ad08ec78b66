"""Every file route against a real sandbox: bytes, names, kinds, limits, and what is left when a transfer breaks."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hopx_ai
import pytest
from websockets.sync.client import ClientConnection, connect

from atoll.testing import plain_files
from stack import Box, until

pytestmark = pytest.mark.root

NAMES = ["with space", "ünïcødé 文件", "a#b&c+d%e?f=g", "%2F%00", "-rf", "'\"`$(x)", "new\nline", "trailing.", " "]
BASE64_TRAPS = [b"test", b"QUJD", b"AA==", b"QUJDRA==", b"QUJD" * 400_000, b"QUJD" * 400_000 + b"\n"]
CONTENTS = [b"", b"\0", bytes(range(256)) * 5, "é\r\n".encode(), b"\xff\xfe"]
AGENTS = {"python": "python-httpx/0.28.1", "javascript": "axios/1.7.0", "none": ""}


@pytest.fixture(scope="module")
def box(stack) -> Iterator[Box]:
    with stack.box() as made:
        yield made


def write(box: Box, path: str, content: str = "", **more: Any) -> Any:
    return box.agent("POST", "/files/write", json={"path": path, "content": content, **more})


def upload(box: Box, path: str, content: bytes) -> Any:
    return box.agent("POST", "/files/upload", files={"file": content}, data={"path": path})


def download(box: Box, path: str, **headers: str) -> Any:
    token = {"Authorization": f"Bearer {box.token}"}
    return box.stack.client.get(f"/s/{box.id}/files/download", params={"path": path}, headers=token | headers)


def listed(box: Box, path: str) -> list[dict[str, Any]]:
    return list(box.agent("GET", "/files/list", params={"path": path}).json()["files"])


# Bytes and names


@pytest.mark.parametrize("content", [*CONTENTS, *BASE64_TRAPS], ids=lambda content: f"{content[:8]!r}x{len(content)}")
def test_bytes_are_exact_for_every_kind_of_client(content, box, account) -> None:
    path = "/workspace/exact/file"
    assert upload(box, path, content).status_code == 200
    inside = box.sh(f"sha256sum {path} | cut -d' ' -f1")
    assert inside == hashlib.sha256(content).hexdigest()
    for agent in (AGENTS["javascript"], AGENTS["none"]):
        assert download(box, path, **{"User-Agent": agent}).content == content
    with reading(account, box) as sandbox:
        assert sandbox.files.read_bytes(path) == content
        sandbox.files.write_bytes(path, content)
        assert sandbox.files.read_bytes(path) == content


@contextlib.contextmanager
def reading(account: dict[str, str], box: Box) -> Iterator[hopx_ai.Sandbox]:
    sandbox = hopx_ai.Sandbox.connect(box.id, **account)
    try:
        yield sandbox
    finally:
        for client in (sandbox._client, sandbox._agent_client):
            if client is not None:
                client.close()


@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_as_they_are(name, box) -> None:
    path = f"/workspace/names/{name}"
    assert write(box, path, "one").status_code == 200
    assert upload(box, path, b"two").status_code == 200
    assert box.agent("GET", "/files/read", params={"path": path}).json()["content"] == "two"
    assert box.agent("GET", "/files/exists", params={"path": path}).json()["exists"]
    assert [entry["name"] for entry in listed(box, "/workspace/names")] == [name]
    inside = box.python("import os; print(ascii(os.listdir('/workspace/names')))")["stdout"].strip()
    assert inside == ascii([name])
    assert box.agent("DELETE", "/files/remove", params={"path": path}).status_code == 200
    assert listed(box, "/workspace/names") == []


def test_parents_are_made_and_modes_kept(box) -> None:
    assert write(box, "/workspace/p/q/r/file", "x", mode="0750").status_code == 200
    assert box.sh("stat -c %a:%U /workspace/p/q/r/file /workspace/p/q") == "750:user\n755:user"
    box.sh("chmod 600 /workspace/p/q/r/file")
    assert upload(box, "/workspace/p/q/r/file", b"y").status_code == 200
    assert box.sh("cat /workspace/p/q/r/file") == "y"


def test_dots_and_trailing_slashes_name_what_they_name(box) -> None:
    write(box, "/workspace/dots/a", "x")
    for path in ("/workspace/dots/../dots/a", "dots/./a", "/workspace//dots///a"):
        assert box.agent("GET", "/files/read", params={"path": path}).json()["content"] == "x"
    assert box.agent("GET", "/files/list", params={"path": "/workspace/dots/"}).json()["count"] == 1


def test_an_unescaped_path_is_read_as_typed(box) -> None:
    write(box, "/workspace/un+escaped&name", "x")
    answer = box.agent("GET", "/files/read?path=/workspace/un+escaped&name")
    assert answer.json()["content"] == "x"


def test_overwrite_can_be_forbidden(box) -> None:
    write(box, "/workspace/once", "x")
    answer = write(box, "/workspace/once", "y", overwrite=False)
    assert answer.status_code == 409, answer.text
    assert box.sh("cat /workspace/once") == "x"


# What is not a file


@pytest.mark.parametrize(
    ("path", "statuses", "codes"),
    [
        ("/workspace/none", {404}, {"FILE_NOT_FOUND"}),
        ("/workspace/none/deeper", {404}, {"FILE_NOT_FOUND"}),
        ("/etc/shadow", {403}, {"PATH_NOT_ALLOWED"}),
        ("/workspace", {400}, {"INVALID_PATH"}),
        ("/workspace/kinds/fifo", {400}, {"INVALID_PATH"}),
        ("/workspace/kinds/socket", {400, 403, 404}, None),
        ("/dev/zero", {400}, {"INVALID_PATH"}),
        ("/dev/tty", {400, 403, 404}, None),
        ("/proc/self/mem", {403, 404, 400, 424}, None),
        ("/workspace/kinds/loop", {400, 404, 424}, None),
        ("/etc/passwd/x", {400, 404}, None),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(path, statuses, codes, box) -> None:
    box.sh(
        "mkdir -p /workspace/kinds && cd /workspace/kinds && { test -p fifo || mkfifo fifo; } && ln -sfn loop loop && "
        'python3 -c \'import os,socket; os.path.exists("socket") or socket.socket(1).bind("socket")\''
    )
    for route in ("read", "download"):
        answer = box.agent("GET", f"/files/{route}", params={"path": path}, timeout=10)
        assert answer.status_code in statuses, (route, answer.status_code, answer.text)
        assert codes is None or answer.json()["code"] in codes


def test_what_cannot_be_written_is_refused_and_stays(box) -> None:
    box.sh("mkdir -p /workspace/kinds && cd /workspace/kinds && { test -p fifo || mkfifo fifo; }")
    for path in ("/etc/passwd", "/workspace/kinds/fifo", "/workspace", "/dev/null", "/proc/1/comm", "/root/x"):
        for answer in (write(box, path, "x"), upload(box, path, b"x")):
            assert answer.status_code in (400, 403, 404, 409), (path, answer.status_code, answer.text)
    assert box.sh("test -p /workspace/kinds/fifo && ls -A /workspace/kinds | grep -c atoll || true") == "0"


def test_proc_files_are_read_to_their_end(box) -> None:
    assert "MemTotal" in box.agent("GET", "/files/read", params={"path": "/proc/meminfo"}).json()["content"]
    assert download(box, "/proc/self/status").content.startswith(b"Name:")


def test_links_are_followed_to_files_and_removed_as_links(box) -> None:
    box.sh("mkdir -p /workspace/l/dir && cd /workspace/l && echo kept >dir/f && ln -sfn dir/f link && ln -sfn dir to")
    assert upload(box, "/workspace/l/link", b"new").status_code == 200
    assert box.sh("readlink /workspace/l/link; cat /workspace/l/dir/f") == "dir/f\nnew"
    for link in ("link", "to"):
        assert box.agent("DELETE", "/files/remove", params={"path": f"/workspace/l/{link}"}).status_code == 200
    assert box.sh("cat /workspace/l/dir/f; ls /workspace/l") == "newdir"


# Size


def test_a_directory_of_50_000_entries_is_listed_and_removed(box) -> None:
    box.python(
        "import os\nos.makedirs('/workspace/many'); os.chdir('/workspace/many'); open('00000', 'w').close()\n"
        "for i in range(1, 50000): os.link('00000', f'{i:05}')"  # faster than files of their own
    )
    answer = box.agent("GET", "/files/list", params={"path": "/workspace/many"})
    names = [entry["name"] for entry in answer.json()["files"]]
    assert (answer.json()["count"], names[0], names[-1]) == (50_000, "00000", "49999")
    assert names == sorted(names)
    assert box.agent("DELETE", "/files/remove", params={"path": "/workspace/many"}).status_code == 200
    assert not box.agent("GET", "/files/exists", params={"path": "/workspace/many"}).json()["exists"]


def test_a_tree_deeper_than_any_path_is_removed(box) -> None:
    box.python(
        "import os\nos.makedirs('/workspace/deep'); os.chdir('/workspace/deep')\n"
        "for _ in range(3000): os.mkdir('d' * 20); os.chdir('d' * 20)\nos.chdir('/')"
    )
    assert box.agent("DELETE", "/files/remove", params={"path": "/workspace/deep"}).status_code == 200
    assert box.sh("ls /workspace | grep -c deep || true") == "0"


def test_big_transfers_are_exact_and_need_no_memory(box, stack) -> None:
    content = os.urandom(1 << 20) * 96 + b"end"
    edge = stack.installation.pids("edge")[0]
    before = {pid: anonymous_mib(pid) for pid in (edge, stack.host_pid(box))}
    assert upload(box, "/workspace/big", content).json()["size"] == len(content)
    received = hashlib.sha256()
    token = {"Authorization": f"Bearer {box.token}"}
    url = f"/s/{box.id}/files/download"
    with stack.client.stream("GET", url, params={"path": "/workspace/big"}, headers=token) as answer:
        for chunk in answer.iter_raw():
            received.update(chunk)
    assert received.hexdigest() == hashlib.sha256(content).hexdigest()
    for pid, mib in before.items():
        assert anonymous_mib(pid) - mib < 32
    span = download(box, "/workspace/big", Range=f"bytes=1000-{90 << 20}")
    assert (span.status_code, span.content) == (206, content[1000 : (90 << 20) + 1])
    box.sh("rm /workspace/big")


def anonymous_mib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))


def test_transfers_are_not_far_from_a_plain_server_that_calls_sendfile(box, stack, tmp_path, request) -> None:
    """The target is 0.6 of it, on a machine that does nothing else. The best of five, or the second best of twelve,
    which asks for as much and depends less on chance."""
    long = request.config.getoption("--long")
    size_mib, rounds, place, wanted = (256, 5, -1, 0.6) if long else (64, 12, -2, 0.3)
    doomed = stack.installation.places.data / "node" / "sandboxes"
    until(lambda: not list(doomed.glob("*.doomed")), "what earlier tests left is swept")
    address = (urlsplit(stack.installation.url).hostname, urlsplit(stack.installation.url).port)
    headers = {"Authorization": f"Bearer {box.token}"}
    at, path = f"/s/{box.id}/files", "/workspace/fast"
    ratios: dict[str, list[float]] = {"up": [], "down": []}
    with plain_files.PlainFileServer(tmp_path) as plain, open(tmp_path / "source", "wb+") as source:
        source.writelines([os.urandom(1 << 20)] * size_mib)
        source.flush()
        for _ in range(rounds):
            reference = plain_files.put(plain.address, "/stored", source)
            ratios["up"].append(reference / plain_files.post_form(address, f"{at}/upload", headers, path, source))
            reference = plain_files.download(plain.address, "/source")
            ratios["down"].append(reference / plain_files.download(address, f"{at}/download?path={path}", headers))
    box.sh(f"rm {path}")
    reached = {way: sorted(found)[place] for way, found in ratios.items()}
    assert {way: round(ratio, 2) for way, ratio in reached.items() if ratio < wanted} == {}


def test_a_full_disk_is_an_error_and_leaves_the_old_file(stack) -> None:
    with stack.box() as box:
        write(box, "/workspace/f", "old")
        box.run("fallocate -l $(($(df -B1 --output=avail /workspace | tail -1) - 8388608)) /workspace/filler")
        for _ in range(2):
            answer = upload(box, "/workspace/f", b"x" * (24 << 20))
            assert answer.status_code == 413, (answer.status_code, answer.text)
        assert box.sh("cat /workspace/f; ls -A /workspace") == "oldf\nfiller"
        box.sh("rm /workspace/filler")
        assert upload(box, "/workspace/f", b"y" * (24 << 20)).status_code == 200


@pytest.mark.parametrize("size", [1000, 8 << 20])
def test_an_upload_that_is_broken_off_leaves_the_old_file(size, box) -> None:
    write(box, "/workspace/broken/f", "old")
    part = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n'
    body = (part.format("path") + "/workspace/broken/f\r\n" + part.format("file")).encode() + b"x" * (size // 2)
    head = f"POST /s/{box.id}/files/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {box.token}\r\n"
    head += f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {size}\r\n\r\n"
    address = urlsplit(box.stack.installation.url)
    with socket.create_connection((address.hostname, address.port)) as client:
        client.sendall(head.encode() + body)
        until(lambda: box.sh("ls -A /workspace/broken").count("\n") == 1, "the upload has begun inside")
    until(lambda: box.sh("ls -A /workspace/broken") == "f", "the half that came is gone")
    assert box.sh("cat /workspace/broken/f") == "old"


def test_an_upload_into_a_sandbox_that_is_killed_is_told_so_and_holds_no_disk(stack) -> None:
    with stack.box() as box:
        part = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n'
        begin = (part.format("path") + "/workspace/f\r\n" + part.format("file")).encode() + b"x" * (4 << 20)
        rest = b"y" * 1000
        head = f"POST /s/{box.id}/files/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {box.token}\r\n"
        head += f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(begin) + len(rest)}\r\n\r\n"
        address = urlsplit(stack.installation.url)
        with socket.create_connection((address.hostname, address.port), timeout=20) as client:
            client.sendall(head.encode() + begin)
            until(lambda: ".atoll-" in box.sh("ls -A /workspace"), "the upload has begun inside")
            box.kill()
            until(lambda: not loops_on(f"{box.id}.img"), "nothing holds the disk")
            client.sendall(rest)
            assert client.recv(12) == b"HTTP/1.1 404"


def test_a_download_that_nobody_reads_ends_with_its_sandbox(stack) -> None:
    with stack.box() as box:
        box.sh("fallocate -l 64M /workspace/f")
        address = urlsplit(stack.installation.url)
        head = f"GET /s/{box.id}/files/download?path=/workspace/f HTTP/1.1\r\nHost: x\r\n"
        head += f"Authorization: Bearer {box.token}\r\n\r\n"
        with socket.create_connection((address.hostname, address.port)) as client:
            client.sendall(head.encode())
            assert client.recv(10) == b"HTTP/1.1 2"
            image = f"{box.id}.img"
            assert loops_on(image)
            box.kill()
            until(lambda: not loops_on(image), "nothing holds the disk")
            while client.recv(1 << 20):
                pass


def loops_on(image: str) -> list[str]:
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it has just been detached
            found.append(path.read_text())
    return [path for path in found if image in path]


# Watch


@pytest.fixture
def watched(box) -> Iterator[tuple[Box, ClientConnection, str]]:
    directory = f"/workspace/watched-{os.urandom(4).hex()}"
    box.sh(f"mkdir {directory}")
    with watching(box, directory) as ws:
        yield box, ws, directory


@contextlib.contextmanager
def watching(box: Box, path: str) -> Iterator[ClientConnection]:
    url = box.stack.installation.url.replace("http://", "ws://") + "/files/watch"
    with connect(url, additional_headers={"Authorization": f"Bearer {box.token}"}, max_size=1 << 20) as ws:
        ws.send(json.dumps({"action": "watch", "path": path}))
        seen = 0
        while not seen:  # a change that is seen says that the watch is on
            box.sh(f"echo >>{path}/.probe")
            with contextlib.suppress(TimeoutError):
                seen = len(ws.recv(timeout=0.2))
        box.sh(f"rm {path}/.probe")
        until_change(ws, "deleted", f"{path}/.probe")
        yield ws


def until_change(ws: ClientConnection, event: str, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while not found or (found[-1]["event"], found[-1]["path"]) != (event, path):
        found.append(json.loads(ws.recv(timeout=20)))
        assert found[-1]["type"] == "change", found[-1]
    return found


def test_watch_tells_created_modified_renamed_deleted(watched) -> None:
    box, ws, at = watched
    write(box, f"{at}/a", "x")
    until_change(ws, "created", f"{at}/a")
    box.sh(f"echo y >>{at}/a")
    until_change(ws, "modified", f"{at}/a")
    box.sh(f"mv {at}/a {at}/b")
    assert until_change(ws, "renamed", f"{at}/b")[-1]["from"] == f"{at}/a"
    box.agent("DELETE", "/files/remove", params={"path": f"{at}/b"})
    assert until_change(ws, "deleted", f"{at}/b")[-1]["timestamp"].endswith("Z")


def test_watch_follows_new_directories_and_tells_what_they_got_before(watched) -> None:
    box, ws, at = watched
    box.sh(f"mkdir -p {at}/x/y/z && echo >{at}/x/y/z/f")
    until_change(ws, "created", f"{at}/x/y/z/f")
    box.sh(f"echo >>{at}/x/y/z/f")
    until_change(ws, "modified", f"{at}/x/y/z/f")
    upload(box, f"{at}/x/y/up", b"content")
    changes = until_change(ws, "created", f"{at}/x/y/up")
    assert not [change for change in changes if ".atoll-" in change["path"]]


def test_a_burst_of_changes_comes_whole_in_messages_below_a_mebibyte(watched) -> None:
    box, ws, at = watched
    box.sh(f"cd {at} && seq -f 'name-that-is-quite-long-%05g' 4000 | xargs touch && touch last")
    changes = until_change(ws, "created", f"{at}/last")
    assert len({change["path"] for change in changes if change["event"] == "created"}) == 4001
    assert sum(len(json.dumps(change)) for change in changes) > 500_000


def test_watch_of_a_file_that_is_not_there_is_told(box) -> None:
    url = box.stack.installation.url.replace("http://", "ws://") + f"/s/{box.id}/files/watch"
    with connect(url, additional_headers={"Authorization": f"Bearer {box.token}"}) as ws:
        ws.send("no json")
        ws.send(json.dumps({"action": "watch", "path": "/workspace/nope"}))
        assert json.loads(ws.recv(timeout=20))["code"] == "FILE_NOT_FOUND"
