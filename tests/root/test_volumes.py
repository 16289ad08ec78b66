"""Volumes of a real installation: several sandboxes at once, the content from outside, sealed at rest, no way round."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import jwt
import pytest

from atoll.core.ids import new_sandbox_id
from atoll.core.ingress import VOLUME_AUDIENCE
from atoll.storage.sparse import extents
from atoll.testing.installation import Installation, borrow_templates
from stack import Box, Stack, templates_dir, until

pytestmark = pytest.mark.root

MIB = 1024 * 1024
BUSYBOX = {"templateID": "busybox"}


@dataclass
class Volume:
    stack: Stack
    id: str
    name: str
    token: str

    def ask(self, method: str, what: str, path: str, token: str | None = None, **more: object) -> httpx.Response:
        params = {"path": path, **more.pop("params", {})}
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return self.stack.client.request(
            method, f"/volumecontent/{self.id}/{what}", params=params, headers=headers, **more
        )

    def write(self, path: str, content: bytes, **params: object) -> dict[str, object]:
        answer = self.ask("PUT", "file", path, params=params, content=content)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def read(self, path: str) -> bytes:
        answer = self.ask("GET", "file", path)
        assert answer.status_code == 200, answer.text
        return answer.content

    @property
    def image(self) -> Path:
        return self.stack.installation.places.data / "node" / "volumes" / f"{self.id}.img"


@pytest.fixture
def volume(stack) -> Iterator[Volume]:
    made = stack.api("POST", "/volumes", json={"name": f"v-{new_sandbox_id()}"})
    assert made.status_code == 201, made.text
    facts = made.json()
    yield Volume(stack, facts["volumeID"], facts["name"], facts["token"])
    stack.api("DELETE", f"/volumes/{facts['volumeID']}")


@pytest.fixture
def with_volume(stack) -> Iterator[Callable[..., Box]]:
    made: list[Box] = []

    def create(volume: Volume, path: str = "/mnt/data") -> Box:
        made.append(born(stack, {**BUSYBOX, "volumeMounts": [{"name": volume.name, "path": path}]}))
        return made[-1]

    yield create
    for each in made:
        each.kill()


def born(stack: Stack, body: dict[str, object]) -> Box:
    answer = stack.api("POST", "/sandboxes", json=body)
    assert answer.status_code == 201, answer.text
    sandbox_id = answer.json()["sandboxID"]
    token = stack.api("POST", f"/v1/sandboxes/{sandbox_id}/token/refresh").json()["auth_token"]
    return Box(stack, sandbox_id, token)


def sh(box: Box, command: str) -> str:
    body = {"command": "sh", "args": ["-c", command], "timeout": 30, "workdir": "/workspace"}
    result = box.agent("POST", "/commands/run", json=body).json()
    assert result["exit_code"] == 0, result
    return str(result["stdout"]).strip()


def test_two_sandboxes_share_it_and_it_outlives_both(volume, with_volume):
    one, two = with_volume(volume), with_volume(volume, "/elsewhere/deep")
    sh(one, "echo hello > /mnt/data/f")
    assert sh(two, "cat /elsewhere/deep/f; echo more >> /elsewhere/deep/f") == "hello"
    assert sh(one, "cat /mnt/data/f") == "hello\nmore"
    one.kill()
    two.kill()
    assert volume.read("/f") == b"hello\nmore\n"


def test_its_files_are_the_users_also_when_they_came_from_outside(volume, with_volume):
    entry = volume.write("/a/b/c", b"x" * 10)
    assert (entry["path"], entry["size"], entry["uid"], entry["type"]) == ("/a/b/c", 10, 1000, "file")
    box = with_volume(volume)
    assert sh(
        box, "stat -c '%U %a %n' /mnt/data/a/b/c; echo y >> /mnt/data/a/b/c; wc -c < /mnt/data/a/b/c"
    ).split() == [*("user", "644", "/mnt/data/a/b/c", "12")]


def test_a_large_file_passes_both_ways(volume):
    content = os.urandom(MIB) * 32
    volume.write("/big", content)
    assert volume.read("/big") == content


def test_directories_are_made_listed_changed_and_removed(volume):
    assert volume.ask("POST", "dir", "/a/b").status_code == 404  # without `force` no parents
    assert volume.ask("POST", "dir", "/a/b", params={"force": "true", "mode": str(0o700)}).json()["mode"] == 0o700
    assert volume.ask("POST", "dir", "/a/b").status_code == 409
    volume.write("/a/f", b"1")
    listed = volume.ask("GET", "dir", "/", params={"depth": "2"}).json()
    assert [(each["path"], each["type"]) for each in listed] == [
        ("/a", "directory"),
        ("/a/b", "directory"),
        ("/a/f", "file"),
    ]
    changed = volume.ask("PATCH", "path", "/a/f", json={"mode": 0o600, "uid": 0, "gid": 0}).json()
    assert (changed["mode"], changed["uid"], changed["gid"]) == (0o600, 0, 0)
    assert volume.ask("DELETE", "path", "/a").status_code == 204
    assert volume.ask("GET", "path", "/a").status_code == 404
    assert volume.ask("DELETE", "path", "/a").status_code == 404
    assert volume.ask("DELETE", "path", "/").status_code == 400


def test_paths_from_outside_end_at_the_volumes_root(volume, with_volume):
    for path in ("/../etc/passwd", "../../etc/passwd", "/a/../../etc/passwd", "//etc/passwd"):
        assert volume.ask("GET", "file", path).status_code == 404, path
    box = with_volume(volume)
    sh(box, "ln -s /etc/hostname /mnt/data/link; ln -s ../../../../../../proc/1/environ /mnt/data/proc")
    host = Path("/etc/hostname").read_bytes()
    assert host not in volume.ask("GET", "file", "/link").content
    assert b"ATOLL" not in volume.ask("GET", "file", "/proc").content
    assert volume.ask("GET", "path", "/link").json()["type"] == "symlink"


def test_each_volume_has_a_token_of_its_own(stack, volume):
    other = stack.api("POST", "/volumes", json={"name": f"v-{new_sandbox_id()}"}).json()
    try:
        assert volume.ask("GET", "path", "/", token=other["token"]).status_code == 403
    finally:
        stack.api("DELETE", f"/volumes/{other['volumeID']}")
    key = bytes.fromhex((stack.installation.places.data / "server" / "token.key").read_text().strip())
    facts = {"aud": VOLUME_AUDIENCE, "sub": volume.id, "exp": time.time() - 1}
    for token in (
        jwt.encode(facts, key, algorithm="HS256"),
        jwt.encode({**facts, "exp": time.time() + 60, "aud": "atoll-link"}, key, algorithm="HS256"),
        jwt.encode({"sub": volume.id, "exp": time.time() + 60}, key, algorithm="HS256"),
        jwt.encode({**facts, "exp": time.time() + 60}, bytes(32), algorithm="HS256"),
        stack.installation.api_key,
    ):
        assert volume.ask("GET", "path", "/", token=token).status_code == 401


def test_a_sandboxs_token_opens_no_volume(volume, with_volume):
    box = with_volume(volume)
    assert volume.ask("GET", "path", "/", token=box.token).status_code == 401


def test_it_is_sealed_at_rest(volume):
    marker = b"plain-" + os.urandom(16).hex().encode()
    volume.write("/" + marker.decode(), marker * 1000)
    assert volume.read("/" + marker.decode()) == marker * 1000
    os.sync()
    with volume.image.open("rb") as image:
        size = os.fstat(image.fileno()).st_size
        written = b"".join(os.pread(image.fileno(), end - start, start) for start, end in extents(image.fileno(), size))
    assert len(written) > 1000 * len(marker)
    assert marker not in written


def test_programs_gain_nothing_by_set_user_id_in_it(volume, with_volume):
    one, two = with_volume(volume), with_volume(volume)
    sh(one, "cp /bin/busybox /mnt/data/id && chmod 755 /mnt/data/id")
    volume.ask("PATCH", "path", "/id", json={"uid": 0, "gid": 0, "mode": 0o4755})
    assert sh(two, "/mnt/data/id -u") == "1000"


def test_it_is_full_at_its_size(stack, with_volume, volume):
    box = with_volume(volume)
    free_kib = int(sh(box, "df -k /mnt/data | tail -1").split()[3])
    assert 9 * 1024 * 1024 < free_kib <= 10 * 1024 * 1024
    other = int(sh(box, "df -k / | tail -1").split()[3])
    assert other != free_kib


def test_a_path_through_a_link_is_refused_and_nothing_is_left(stack, volume):
    body = {"templateID": "busybox", "volumeMounts": [{"name": volume.name, "path": "/etc/mtab/x"}]}
    for path in ("/proc/x", "/dev", "relative", "/etc/passwd"):
        body["volumeMounts"][0]["path"] = path
        answer = stack.api("POST", "/sandboxes", json=body)
        assert answer.status_code == 400, (path, answer.text)
    assert stack.api("DELETE", f"/volumes/{volume.id}").status_code == 204


def test_it_is_not_deleted_while_it_is_mounted(stack, volume, with_volume):
    box = with_volume(volume)
    assert stack.api("DELETE", f"/volumes/{volume.id}").status_code == 409
    box.kill()
    assert stack.api("DELETE", f"/volumes/{volume.id}").status_code == 204
    assert not volume.image.exists()
    assert volume.ask("GET", "path", "/").status_code == 404


def test_who_comes_while_it_is_deleted_keeps_it_or_finds_none(stack):
    """Never a sandbox whose volume is gone under it; who comes in between may try again. The doors to it from outside
    are opened at the same moment."""
    for _ in range(4):
        facts = stack.api("POST", "/volumes", json={"name": f"v-{new_sandbox_id()}"}).json()
        volume = Volume(stack, facts["volumeID"], facts["name"], facts["token"])
        body = {**BUSYBOX, "volumeMounts": [{"name": volume.name, "path": "/mnt/data"}]}
        with ThreadPoolExecutor(4) as pool:
            births = [pool.submit(stack.api, "POST", "/sandboxes", json=body) for _ in range(2)]
            deleted = pool.submit(stack.api, "DELETE", f"/volumes/{volume.id}")
            seen = pool.submit(volume.ask, "GET", "dir", "/").result()
        answers = [each.result() for each in births]
        born_ids = [each.json()["sandboxID"] for each in answers if each.status_code == 201]
        assert deleted.result().status_code == (409 if born_ids else 204), (deleted.result().text, answers)
        assert seen.status_code in (200, 404, 503), seen.text
        assert {each.status_code for each in answers} <= {201, 400, 404, 503}, [each.text for each in answers]
        for each in born_ids:
            stack.api("DELETE", f"/sandboxes/{each}")
        stack.api("DELETE", f"/volumes/{volume.id}")
        assert not volume.image.exists()


def test_numbers_and_bodies_that_no_client_sends_are_refused(volume):
    for depth in ("9" * 5000, "\u0661", "-1", "1e3"):
        assert volume.ask("GET", "dir", "/", params={"depth": depth}).status_code == 400, depth
    for body in ("[" * 3000, '{"mode":' + " " * 5000 + "1}", '{"mode":"1"}', "[]"):
        assert volume.ask("PATCH", "path", "/", content=body).status_code == 400, body[:20]


def test_who_shows_its_files_is_replaced_when_it_has_died(stack, volume):
    """A directory that some sandbox has filled can be more than its memory holds."""
    volume.write("/f", b"here")
    handles = stack.installation.places.data / "node" / "sandboxes"
    (handle,) = (path for path in handles.glob("*.json") if volume.id in read(path))
    record = stack.installation.places.run / "launcher" / handle.name
    os.kill(int(json.loads(record.read_text())["pid"]), signal.SIGKILL)
    until(lambda: json.loads(handle.read_text().splitlines()[-1])["state"] != "running", "its end is noticed")
    assert volume.ask("GET", "file", "/f").status_code in (200, 503)  # the edge may hear of it only now
    assert volume.read("/f") == b"here"


def test_a_stopped_sandbox_has_it_again(stack, volume, with_volume):
    box = with_volume(volume)
    sh(box, "echo kept > /mnt/data/f")
    box.control("POST", "/stop")
    box.control("POST", "/start")
    assert sh(box, "cat /mnt/data/f") == "kept"


def test_another_launcher_goes_on_with_the_same_file_system(tmp_path):
    """Two over one image would destroy it."""
    borrow_templates(templates_dir(), tmp_path)
    with Installation(tmp_path, "--templates", "busybox") as installation:
        stack = Stack(installation)
        facts = stack.api("POST", "/volumes", json={"name": "kept"}).json()
        volume = Volume(stack, facts["volumeID"], "kept", facts["token"])
        body = {**BUSYBOX, "volumeMounts": [{"name": "kept", "path": "/mnt/data"}]}
        boxes = [born(stack, body)]
        sh(boxes[0], "echo before > /mnt/data/f")
        (launcher,) = installation.pids("launcher")
        os.kill(launcher, signal.SIGKILL)
        until(lambda: installation.pids("launcher") not in ([], [launcher]), "there is another launcher")
        until(lambda: stack.api("POST", "/sandboxes", json=BUSYBOX).status_code == 201, "sandboxes are made again")
        boxes.append(born(stack, body))
        sh(boxes[1], "cat /mnt/data/f && echo after >> /mnt/data/f")
        assert sh(boxes[0], "cat /mnt/data/f") == "before\nafter"
        assert len(loop_devices(volume.image)) == 1
        for each in boxes:
            each.kill()
        stack.client.close()
    until(lambda: not loop_devices(volume.image), "nobody has the image")
    shutil.rmtree(installation.places.run, ignore_errors=True)  # the log of the launcher that was killed


def loop_devices(image: Path) -> list[str]:
    backing = (path / "loop" / "backing_file" for path in Path("/sys/block").glob("loop*"))
    return [str(path) for path in backing if read(path).startswith(str(image))]


def read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""  # it has gone
