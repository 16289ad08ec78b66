"""Files: contents, entries, watches, and URLs for those who have no client."""

from __future__ import annotations

import io
import queue
import time
from datetime import UTC, datetime, timedelta

import e2b
import httpx
import package
import pytest
from e2b import FilesystemEventType as Event
from packaging.version import Version
from talk import URL, accepted, routed, said
from waiting import until

covers = pytest.mark.covers

BYTES = bytes(range(256)) * 40


# ---- contents


@covers(
    "Filesystem.write", "Filesystem.read", "POST /files", "GET /files", "12.3 parents are made, 0644, owned by the user"
)
def test_text_is_written_and_read(sandbox, place):
    path = f"{place}/deep/er/name with blanks ü.txt"
    made = sandbox.files.write(path, "Grüße\n", user="user", request_timeout=30)
    assert (made.path, made.name) == (path, "name with blanks ü.txt")
    assert sandbox.files.read(path, user="user", request_timeout=30) == "Grüße\n"
    assert said(sandbox, f"stat -c '%a %U' '{path}' {place}/deep") == "644 user\n755 user"
    sandbox.files.write(path, "")
    assert sandbox.files.read(path) == ""


@covers("WriteInfo.type", "Filesystem.write")
def test_what_was_written_is_a_file(sandbox, place):
    assert sandbox.files.write(f"{place}/a", b"x").type in (e2b.FileType.FILE, "file")


@covers("Filesystem.read", "12.2 formats: text, bytes, stream")
def test_formats(sandbox, place):
    sandbox.files.write(f"{place}/a", BYTES)
    assert bytes(sandbox.files.read(f"{place}/a", format="bytes")) == BYTES
    assert b"".join(sandbox.files.read(f"{place}/a", format="stream")) == BYTES


@covers("Filesystem.read")
def test_streams_have_a_limit_for_silence(sandbox, place):
    sandbox.files.write(f"{place}/a", BYTES)
    assert b"".join(sandbox.files.read(f"{place}/a", format="stream", stream_idle_timeout=10)) == BYTES


@covers("Filesystem.write", "Filesystem.read", "12.3 multipart, octet-stream, gzip")
def test_ways_to_write(sandbox, place):
    ways = ({}, {"gzip": True}, {"use_octet_stream": True}, {"use_octet_stream": False})
    for number, more in enumerate(each for each in ways if each.keys() <= accepted(sandbox.files.write)):
        path = f"{place}/{number}"
        sandbox.files.write(path, data=BYTES, **more)
        packed = {"gzip": bool(number % 2)} if "gzip" in accepted(sandbox.files.read) else {}
        assert bytes(sandbox.files.read(path, format="bytes", **packed)) == BYTES, more


@covers("Filesystem.write")
def test_streams_are_written(sandbox, place):
    sandbox.files.write(f"{place}/a", io.BytesIO(BYTES))
    assert bytes(sandbox.files.read(f"{place}/a", format="bytes")) == BYTES


@covers("12.3 X-Metadata-*: extended attributes, replaced by each upload", "EntryInfo.metadata", "WriteInfo.metadata")
def test_metadata_of_files(sandbox, place):
    made = sandbox.files.write(f"{place}/a", "x", metadata={"Source": "a form", "two": "2"})
    assert made.metadata == {"source": "a form", "two": "2"}
    assert sandbox.files.get_info(f"{place}/a").metadata == made.metadata
    sandbox.files.write(f"{place}/a", "y")
    assert not sandbox.files.get_info(f"{place}/a").metadata


@covers("Filesystem.write_files", "WriteEntry")
def test_several_files_at_once(sandbox, place):
    files = [{"path": f"{place}/a/1", "data": "one"}, {"path": f"{place}/b/2", "data": b"two"}]
    ways = ({"user": "user", "request_timeout": 30}, {"gzip": True}, {"use_octet_stream": True})
    for more in (each for each in ways if each.keys() <= accepted(sandbox.files.write_files)):
        made = sandbox.files.write_files(files, **more)
        assert [each.path for each in made] == [f"{place}/a/1", f"{place}/b/2"]
    assert [sandbox.files.read(each["path"]) for each in files] == ["one", "two"]


@covers("Filesystem.write_files")
def test_several_files_with_metadata(sandbox, place):
    sandbox.files.write_files([{"path": f"{place}/a", "data": "x"}], metadata={"k": "v"})
    assert sandbox.files.get_info(f"{place}/a").metadata == {"k": "v"}


@covers("12.4 paths: absolute, relative to home, ~", "20 default user, home directory")
def test_paths_are_relative_to_the_home(sandbox):
    sandbox.files.write("relative/file", "here")
    assert sandbox.files.read("/home/user/relative/file") == "here"
    assert sandbox.files.read("~/relative/file") == "here"
    sandbox.files.write("mine", "root's", user="root")
    assert said(sandbox, "cat /root/mine", user="root") == "root's"


@covers("FileNotFoundException")
def test_a_missing_file_has_an_error_of_its_own(sandbox):
    with pytest.raises(e2b.FileNotFoundException):
        sandbox.files.read("/home/user/none")


@covers("12.2 missing file: 404, path 'x' does not exist")
def test_a_missing_file(sandbox):
    for call in (sandbox.files.read, sandbox.files.list, sandbox.files.get_info):
        with pytest.raises(e2b.NotFoundException) as caught:
            call("/home/user/none")
        assert type(caught.value) is getattr(e2b, "FileNotFoundException", e2b.NotFoundException)


@covers("InvalidArgumentException", "12.2 a directory: 400")
def test_a_directory_is_no_file(sandbox, place):
    with pytest.raises(e2b.InvalidArgumentException, match="directory"):
        sandbox.files.read(place)
    with pytest.raises(e2b.InvalidArgumentException):
        sandbox.files.write(place, "x")


FILL = """python3 -c "
import os
file, size, at = os.open('/home/user/fill', os.O_CREAT | os.O_RDWR), 1 << 30, 0
while size >= 4096:
    try:
        os.posix_fallocate(file, at, size)
        at += size
    except OSError:
        size //= 2
" """


@covers("NotEnoughSpaceException", "12.3 no space: 507")
def test_a_full_disk(own):
    made = own()
    said(made, FILL, user="root")
    with pytest.raises(e2b.NotEnoughSpaceException):
        made.files.write("big", b"x" * 1_000_000)


# ---- entries


@covers("Filesystem.make_dir", "Filesystem.exists", "Filesystem.remove", "15 MakeDir twice: already there")
def test_directories_are_made_and_removed(sandbox, place):
    path = f"{place}/a/b/c"
    more = {"user": "user", "request_timeout": 30}
    assert sandbox.files.exists(path, **more) is False
    assert sandbox.files.make_dir(path, **more) is True
    assert sandbox.files.make_dir(path) is False
    assert sandbox.files.exists(path) is True
    sandbox.files.remove(f"{place}/a", **more)
    assert sandbox.files.exists(f"{place}/a") is False
    sandbox.files.remove(f"{place}/a")


@covers("Filesystem.list", "15 ListDir: depth, lexical order")
def test_directories_are_listed(sandbox, place):
    for path in ("b/two", "a/one", "c"):
        sandbox.files.write(f"{place}/{path}", "x")
    assert [each.name for each in sandbox.files.list(place, user="user", request_timeout=30)] == ["a", "b", "c"]
    deep = [each.path.removeprefix(f"{place}/") for each in sandbox.files.list(place, depth=2)]
    assert deep == ["a", "a/one", "b", "b/two", "c"]
    with pytest.raises(e2b.InvalidArgumentException):
        sandbox.files.list(f"{place}/c")


@covers("Filesystem.get_info", "EntryInfo.permissions", "EntryInfo.modified_time")
def test_an_entry_says_what_it_is(sandbox, place):
    sandbox.files.write(f"{place}/a", "12345")
    said(sandbox, f"chmod 640 {place}/a")
    info = sandbox.files.get_info(f"{place}/a", user="user", request_timeout=30)
    assert (info.name, info.path, info.type, info.size) == ("a", f"{place}/a", e2b.FileType.FILE, 5)
    assert (info.mode, info.permissions, info.owner, info.group) == (0o640, "-rw-r-----", "user", "user")
    assert abs(datetime.now(UTC) - info.modified_time.astimezone(UTC)) < timedelta(minutes=1)
    assert info.symlink_target is None
    assert sandbox.files.get_info(place).type is e2b.FileType.DIR


@covers("15 links: type and mode of the target, its path", "EntryInfo.symlink_target")
def test_a_link(sandbox, place):
    sandbox.files.write(f"{place}/a", "x")
    said(sandbox, f"ln -s a {place}/link; ln -s none {place}/broken")
    info = sandbox.files.get_info(f"{place}/link")
    assert (info.type, info.symlink_target) == (e2b.FileType.FILE, f"{place}/a")
    assert info.permissions.startswith("L")
    assert sandbox.files.get_info(f"{place}/broken").symlink_target == f"{place}/broken"


@covers("Filesystem.rename", "15 Move: parents are made")
def test_rename(sandbox, place):
    sandbox.files.write(f"{place}/a", "x")
    more = {"user": "user", "request_timeout": 30}
    moved = sandbox.files.rename(old_path=f"{place}/a", new_path=f"{place}/new/b", **more)
    assert (moved.path, sandbox.files.read(moved.path)) == (f"{place}/new/b", "x")
    with pytest.raises(e2b.NotFoundException):
        sandbox.files.rename(f"{place}/a", f"{place}/c")


# ---- watches


class Watch:
    """Both forms of the client: one polls, the other calls back."""

    def __init__(self, sandbox, kind, path, **more):
        self._heard: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.ended: list[object] = []
        self.seen: list[object] = []
        if kind == "async":
            more |= {"on_event": self._heard.put, "on_exit": self.ended.append, "timeout": 60}
        self.handle = sandbox.files.watch_dir(path, user="user", request_timeout=30, **more)
        self._kind = kind

    def wait_for(self, *wanted):
        until(lambda: all(any(each == (e.name, e.type) for e in self._found()) for each in wanted), str(wanted))

    def _found(self):
        if self._kind == "sync":
            known = {"request_timeout"} & accepted(self.handle.get_new_events)
            self.seen += self.handle.get_new_events(**dict.fromkeys(known, 30))
        while not self._heard.empty():
            self.seen.append(self._heard.get())
        return self.seen


@covers("Filesystem.watch_dir", "15 a watch: create, write, chmod, rename, remove")
def test_a_watch_tells_what_happens(sandbox, place, kind):
    watch = Watch(sandbox, kind, place)
    sandbox.files.write(f"{place}/a", "x")
    watch.wait_for(("a", Event.CREATE), ("a", Event.WRITE))
    said(sandbox, f"cd {place}; chmod 600 a; mv a b; rm b")
    watch.wait_for(("a", Event.CHMOD), ("a", Event.RENAME), ("b", Event.CREATE), ("b", Event.REMOVE))
    watch.handle.stop()


@covers("WatchHandle.get_new_events", "WatchHandle.stop")
def test_a_stopped_watcher_is_gone(sandbox, place, kind):
    if kind == "async":
        pytest.skip("the async client calls back")
    watch = Watch(sandbox, kind, place)
    sandbox.files.write(f"{place}/a", "x")
    watch.wait_for(("a", Event.CREATE))
    watch.handle.stop(**dict.fromkeys({"request_timeout"} & accepted(watch.handle.stop), 30))
    with pytest.raises(e2b.SandboxException):
        watch.handle.get_new_events()


@covers("AsyncWatchHandle.stop")
def test_a_stopped_watch_says_that_it_ended(sandbox, place, kind):
    if kind == "sync":
        pytest.skip("the sync client polls")
    watch = Watch(sandbox, kind, place)
    sandbox.files.write(f"{place}/a", "x")
    watch.wait_for(("a", Event.CREATE))
    watch.handle.stop()
    if Version(package.VERSION) >= Version("2.36"):
        until(lambda: watch.ended == [None], "its end")


@covers("Filesystem.watch_dir", "15 a watch of a tree covers new directories")
def test_a_watch_of_a_tree(sandbox, place, kind):
    watch = Watch(sandbox, kind, place, recursive=True)
    sandbox.files.make_dir(f"{place}/new")
    watch.wait_for(("new", Event.CREATE))
    said(sandbox, f"echo x > {place}/new/file")
    watch.wait_for(("new/file", Event.WRITE))
    watch.handle.stop()


@covers("Filesystem.watch_dir", "FilesystemEvent.entry", "15 includeEntry")
def test_a_watch_with_entries(sandbox, place, kind):
    watch = Watch(sandbox, kind, place, include_entry=True, allow_network_mounts=True)
    sandbox.files.write(f"{place}/a", "12345")
    watch.wait_for(("a", Event.WRITE))
    assert next(each.entry.path for each in watch.seen if each.entry is not None) == f"{place}/a"
    watch.handle.stop()


@covers("15 a watch of nothing: not_found, of a file: invalid_argument")
def test_a_watch_of_what_is_no_directory(sandbox, place, kind):
    sandbox.files.write(f"{place}/a", "x")
    with pytest.raises(e2b.NotFoundException):
        Watch(sandbox, kind, f"{place}/none")
    with pytest.raises(e2b.InvalidArgumentException):
        Watch(sandbox, kind, f"{place}/a")


# ---- URLs


@covers("Sandbox.download_url", "Sandbox.upload_url", "12.1 signatures", "22.11 signed URLs without a sandbox id")
def test_signed_urls(sandbox, place):
    sandbox.files.write(f"{place}/a b", BYTES)
    url = sandbox.download_url(f"{place}/a b", user="user", use_signature_expiration=60)
    assert sandbox.sandbox_id not in url
    assert httpx.get(url).content == BYTES
    assert httpx.get(sandbox.download_url(f"{place}/a b")).content == BYTES
    up = sandbox.upload_url(f"{place}/up", user="user", use_signature_expiration=60)
    assert httpx.post(up, files={"file": ("ignored", b"new")}).status_code == 200
    assert sandbox.files.read(f"{place}/up") == "new"


@covers("12.1 a signature that is wrong, or expired: 401 with its sentence")
def test_signatures_that_are_refused(sandbox, place):
    sandbox.files.write(f"{place}/a", "x")
    url = sandbox.download_url(f"{place}/a", use_signature_expiration=60)
    headers = routed(sandbox, 49983)
    other = httpx.get(url.replace("v1_", "v1_A"), headers=headers)
    assert (other.status_code, other.json()["message"]) == (401, "invalid signature")
    old = httpx.get(sandbox.download_url(f"{place}/a", use_signature_expiration=-5), headers=headers)
    assert old.json() == {"code": 401, "message": "signature is already expired"}
    none = httpx.get(f"{URL}/files", params={"path": f"{place}/a"}, headers=headers)
    assert none.json()["message"] == "missing signature query parameter" or none.status_code == 401


@covers("get_signature")
def test_a_signature_made_by_hand(sandbox, place, client):
    sandbox.files.write(f"{place}/a", "by hand")
    token = sandbox._subject._envd_access_token
    signature = e2b.get_signature(
        path=f"{place}/a", operation="read", user="user", envd_access_token=token, expiration_in_seconds=60
    )
    query = {
        "path": f"{place}/a",
        "username": "user",
        "signature": signature["signature"],
        "signature_expiration": signature["expiration"],
    }
    assert httpx.get(f"{URL}/files", params=query, headers=routed(sandbox, 49983)).text == "by hand"
    assert signature["expiration"] >= time.time()
