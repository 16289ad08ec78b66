"""`filesystem.Filesystem` and `/files` of a real sandbox: through the unmodified `e2b` package, and on the wire."""

from __future__ import annotations

import gzip
import io
import os
import stat
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from e2b import (
    FileNotFoundException,
    FilesystemEventType,
    FileType,
    InvalidArgumentException,
    NotEnoughSpaceException,
    NotFoundException,
    Sandbox,
    SandboxException,
)

from envd import Envd, Heard, headers_of, sdk_of
from stack import Box, until

pytestmark = pytest.mark.root

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def box(stack) -> Iterator[Box]:
    with stack.box("base") as made:
        yield made


@pytest.fixture(scope="module")
def sandbox(box) -> Sandbox:
    return sdk_of(box)


@pytest.fixture
def place(sandbox, request) -> str:
    """A directory of the test's own."""
    path = f"/home/user/{request.node.originalname}"
    assert sandbox.files.make_dir(path)
    return path


def raw(box: Box, method: str, path: str = "/files", **more: Any) -> httpx.Response:
    headers = {**headers_of(box), **more.pop("headers", {})}
    return box.stack.client.request(method, path, headers=headers, **more)


# ---- content


def test_what_is_written_is_read(sandbox, place):
    for name, content in (("text", "grüße"), ("empty", ""), ("bytes", bytes(range(256)))):
        info = sandbox.files.write(f"{place}/deep/{name}", content)
        assert (info.name, info.path) == (name, f"{place}/deep/{name}")
        wanted = content.encode() if isinstance(content, str) else content
        assert bytes(sandbox.files.read(f"{place}/deep/{name}", format="bytes")) == wanted


def test_paths_begin_at_home_unless_they_are_absolute(sandbox):
    assert sandbox.files.write("here.txt", "1").path == "/home/user/here.txt"
    assert sandbox.files.write("~/there.txt", "2").path == "/home/user/there.txt"
    assert sandbox.files.read("/home/user/here.txt") + sandbox.files.read("~/there.txt") == "12"
    assert sandbox.files.write("root.txt", "3", user="root").path == "/root/root.txt"


def test_a_file_is_its_users_and_keeps_its_mode(sandbox, place):
    sandbox.files.write(f"{place}/f", "1")
    sandbox.commands.run(f"chmod 750 {place}/f")
    info = sandbox.files.write(f"{place}/f", "2")
    there = sandbox.files.get_info(info.path)
    assert (there.owner, there.group, there.mode, there.permissions) == ("user", "user", 0o750, "-rwxr-x---")


def test_several_files_are_written_at_once(sandbox, place):
    entries = [{"path": f"{place}/{name}", "data": name * 1000} for name in "cab"]
    assert [each.path for each in sandbox.files.write_files(entries)] == [each["path"] for each in entries]
    assert [sandbox.files.read(each["path"]) for each in entries] == [each["data"] for each in entries]


def test_a_file_that_is_there_twice_is_refused(box, place):
    parts = [("file", (f"{place}/x", b"1")), ("file", (f"{place}/x", b"2"))]
    answer = raw(box, "POST", files=parts)
    assert (answer.status_code, answer.json()["code"]) == (400, 400)
    assert "twice" in answer.json()["message"]


def test_streams_pass_in_constant_pieces(sandbox, place):
    content = os.urandom(3 * MIB + 1)
    sandbox.files.write(f"{place}/big", io.BytesIO(content))
    assert b"".join(sandbox.files.read(f"{place}/big", format="stream")) == content


def test_packed_uploads_and_downloads(sandbox, box, place):
    sandbox.files.write(f"{place}/packed", "a" * MIB, gzip=True)
    assert sandbox.files.read(f"{place}/packed", gzip=True) == "a" * MIB
    with box.stack.client.stream(
        "GET", "/files", params={"path": f"{place}/packed"}, headers={**headers_of(box), "Accept-Encoding": "gzip"}
    ) as answer:
        sent = b"".join(answer.iter_raw())
    assert answer.headers["Content-Encoding"] == "gzip"
    assert (len(sent) < 10_000, gzip.decompress(sent)) == (True, b"a" * MIB)


def test_a_broken_packed_body_leaves_no_file(box, place):
    for body in (b"no gzip at all", gzip.compress(b"x" * 1000)[:-10], b""):
        check_broken(box, place, body)


def check_broken(box: Box, place: str, body: bytes) -> None:
    headers = {"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}
    answer = raw(box, "POST", params={"path": f"{place}/f"}, content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert raw(box, "GET", params={"path": f"{place}/f"}).status_code == 404


def test_ranges_and_times(box, sandbox, place):
    sandbox.files.write(f"{place}/f", "0123456789")
    answer = raw(box, "GET", params={"path": f"{place}/f"}, headers={"Range": "bytes=2-4"})
    assert (answer.status_code, answer.text, answer.headers["Content-Range"]) == (206, "234", "bytes 2-4/10")
    assert raw(box, "GET", params={"path": f"{place}/f"}, headers={"Range": "bytes=20-"}).status_code == 416
    modified = answer.headers["Last-Modified"]
    again = raw(box, "GET", params={"path": f"{place}/f"}, headers={"If-Modified-Since": modified})
    assert (again.status_code, again.content) == (304, b"")
    same = raw(box, "GET", params={"path": f"{place}/f"}, headers={"Range": "bytes=0-0", "If-Range": modified})
    assert (same.status_code, same.text) == (206, "0")
    other = {"Range": "bytes=0-0", "If-Range": "Thu, 01 Jan 1970 00:00:01 GMT"}
    assert raw(box, "GET", params={"path": f"{place}/f"}, headers=other).text == "0123456789"
    head = raw(box, "HEAD", params={"path": f"{place}/f"})
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, "10", b"")


def test_a_page_is_never_run(box, sandbox, place):
    sandbox.files.write(f"{place}/p.html", "<script>alert(1)</script>")
    headers = raw(box, "GET", params={"path": f"{place}/p.html"}).headers
    assert (headers["Content-Type"], headers["Content-Security-Policy"]) == ("text/html", "sandbox")
    assert headers["Content-Disposition"] == 'inline; filename="p.html"'


def test_signed_addresses_need_nothing_else(box, sandbox, place):
    sandbox.files.write(f"{place}/s", "signed")
    url = httpx.URL(sandbox.download_url(f"{place}/s"))
    assert box.stack.client.get(url.raw_path.decode()).text == "signed"
    upload = httpx.URL(sandbox.upload_url(f"{place}/up", use_signature_expiration=60))
    answer = box.stack.client.post(upload.raw_path.decode(), files={"file": ("up", b"came")})
    assert (answer.status_code, sandbox.files.read(f"{place}/up")) == (200, "came")
    tampered = url.copy_set_param("path", "/etc/hostname")
    refused = box.stack.client.get(tampered.raw_path.decode())
    assert (refused.status_code, refused.json()["code"]) == (401, 401)


def test_metadata_is_what_the_last_upload_said(sandbox, place):
    sandbox.files.write(f"{place}/m", "1", metadata={"Author": "ann", "stage": "draft"})
    assert sandbox.files.get_info(f"{place}/m").metadata == {"author": "ann", "stage": "draft"}
    assert [each.metadata for each in sandbox.files.list(place)] == [{"author": "ann", "stage": "draft"}]
    shown = sandbox.commands.run(f"python3 -c \"import os; print(os.getxattr('{place}/m', 'user.e2b.author'))\"")
    assert shown.stdout == "b'ann'\n"
    sandbox.files.write(f"{place}/m", "2")
    assert not sandbox.files.get_info(f"{place}/m").metadata


def test_too_much_metadata_is_refused(box, place):
    headers = {"X-Metadata-k": "v" * 4096, "Content-Type": "application/octet-stream"}
    answer = raw(box, "POST", params={"path": f"{place}/m"}, content=b"1", headers=headers)
    assert answer.status_code == 400


def test_refusals_are_in_the_words_that_clients_know(sandbox, box, place):
    with pytest.raises(FileNotFoundException, match="does not exist"):
        sandbox.files.read(f"{place}/nope")
    with pytest.raises(InvalidArgumentException, match="is a directory"):
        sandbox.files.read(place)
    with pytest.raises(InvalidArgumentException):
        sandbox.files.write(place, "a directory is in the way")
    unknown = raw(box, "GET", params={"path": "/etc/hostname", "username": "nobody-here"})
    assert (unknown.status_code, unknown.json()["message"]) == (401, "invalid username: 'nobody-here'")
    assert raw(box, "GET", params={"path": "/etc/shadow"}).status_code == 403
    assert raw(box, "GET", params={"path": "/dev/zero"}).status_code == 400
    assert raw(box, "GET", params={"path": f"{place}/x"}, headers={"Accept-Encoding": "br, *;q=0"}).status_code == 406


def test_a_full_disk_says_so(stack):
    with stack.box("busybox", disk_gb=1) as small, pytest.raises(NotEnoughSpaceException):
        sdk_of(small).files.write("/home/user/f", io.BytesIO(bytes(1100 * MIB)))


def test_a_body_may_come_in_pieces(box, sandbox, place):
    sandbox.files.write(f"{place}/a", "aaa")

    def pieces() -> Iterator[bytes]:
        yield b'{"source_paths": ["%b/a"], ' % place.encode()
        assert box.stack.client.get("/health").status_code == 200  # the first piece is there
        yield b'"destination": "%b/b"}' % place.encode()

    assert raw(box, "POST", "/files/compose", content=pieces()).json()["path"] == f"{place}/b"


def test_files_are_put_together(box, sandbox, place):
    for name in "ab":
        sandbox.files.write(f"{place}/{name}", name * 3)
    body = {"source_paths": [f"{place}/a", f"{place}/b"], "destination": f"{place}/deep/ab", "username": "user"}
    assert raw(box, "POST", "/files/compose", json=body).json()["path"] == f"{place}/deep/ab"
    assert sandbox.files.read(f"{place}/deep/ab") == "aaabbb"
    body["source_paths"].append("/etc/shadow")
    assert raw(box, "POST", "/files/compose", json=body).status_code == 403


# ---- entries


def test_entries_say_what_is_there(sandbox, place):
    sandbox.files.write(f"{place}/d/f", "12345")
    info = sandbox.files.get_info(f"{place}/d/f")
    assert (info.name, info.type, info.size, info.mode) == ("f", FileType.FILE, 5, 0o644)
    there = sandbox.files.get_info(f"{place}/d")
    assert (there.type, there.permissions, there.owner) == (FileType.DIR, "drwxr-xr-x", "user")
    assert sandbox.files.exists(f"{place}/d/f")
    assert not sandbox.files.exists(f"{place}/nope")


def test_links_show_where_they_lead(sandbox, place):
    sandbox.files.write(f"{place}/f", "1")
    sandbox.commands.run(f"cd {place} && ln -s f link && ln -s nowhere broken && ln -s .. up && chmod 600 f")
    link = sandbox.files.get_info(f"{place}/link")
    assert (link.type, link.mode, link.symlink_target) == (FileType.FILE, 0o600, f"{place}/f")
    assert (link.permissions, link.size) == ("Lrwxrwxrwx", 1)
    broken = sandbox.files.get_info(f"{place}/broken")
    assert (broken.type, broken.mode, broken.symlink_target) == (None, 0, f"{place}/broken")
    assert sandbox.files.get_info(f"{place}/up").type == FileType.DIR


def test_a_listing_goes_as_deep_as_it_is_told_and_follows_no_link(sandbox, place):
    sandbox.commands.run(f"cd {place} && mkdir -p a/b/c && touch a/1 a/b/2 && ln -s a z")
    assert [each.path for each in sandbox.files.list(place)] == [f"{place}/a", f"{place}/z"]
    deep = [each.path.removeprefix(f"{place}/") for each in sandbox.files.list(place, depth=3)]
    assert deep == ["a", "a/1", "a/b", "a/b/2", "a/b/c", "z"]
    assert [each.path for each in sandbox.files.list(f"{place}/z")] == [f"{place}/z/1", f"{place}/z/b"]
    with pytest.raises(FileNotFoundException):
        sandbox.files.list(f"{place}/nope")
    with pytest.raises(InvalidArgumentException):
        sandbox.files.list(f"{place}/a/1")


def test_directories_are_made_once(sandbox, place):
    assert sandbox.files.make_dir(f"{place}/a/b")
    assert not sandbox.files.make_dir(f"{place}/a/b")
    sandbox.files.write(f"{place}/f", "")
    with pytest.raises(InvalidArgumentException):
        sandbox.files.make_dir(f"{place}/f")


def test_moving_and_removing(sandbox, place):
    sandbox.files.write(f"{place}/a", "1")
    assert sandbox.files.rename(f"{place}/a", f"{place}/new/b").path == f"{place}/new/b"
    with pytest.raises(FileNotFoundException):
        sandbox.files.rename(f"{place}/a", f"{place}/c")
    sandbox.files.remove(f"{place}/new")
    sandbox.files.remove(f"{place}/new")
    assert sandbox.files.list(place) == []


def test_odd_names_are_names(sandbox, place):
    for name in ("a b", "ü", "q?&#%41", "'\"", "new\nline", "-rf", "%2e%2e"):
        sandbox.files.write(f"{place}/{name}", name)
        assert sandbox.files.read(f"{place}/{name}") == name
    assert len(sandbox.files.list(place)) == 7


# ---- watches


def test_a_watcher_tells_what_has_changed(sandbox, place):
    watcher = sandbox.files.watch_dir(place)
    sandbox.files.write(f"{place}/f", "1")
    sandbox.commands.run(f"cd {place} && echo 2 >> f && chmod 600 f && mv f g && rm g")
    seen: list[tuple[str, FilesystemEventType]] = []

    def all_seen() -> bool:
        seen.extend((each.name, each.type) for each in watcher.get_new_events())
        return ("g", FilesystemEventType.REMOVE) in seen

    until(all_seen, "all events")
    kinds = FilesystemEventType
    assert seen[:3] == [("f", kinds.CREATE), ("f", kinds.CHMOD), ("f", kinds.WRITE)]
    for each in (("f", kinds.CHMOD), ("f", kinds.RENAME), ("g", kinds.CREATE)):
        assert each in seen[3:]
    watcher.stop()
    with pytest.raises(SandboxException):
        watcher.get_new_events()


def test_a_recursive_watch_sees_new_directories_and_shows_entries(sandbox, place):
    watcher = sandbox.files.watch_dir(place, recursive=True, include_entry=True)
    sandbox.commands.run(f"mkdir -p {place}/a/b && echo 12 > {place}/a/b/f")
    seen: dict[str, Any] = {}

    def all_seen() -> bool:
        for each in watcher.get_new_events():
            seen[each.name] = each.entry or seen.get(each.name)
        return "a/b/f" in seen

    until(all_seen, "the deepest file")
    assert seen["a"].type == FileType.DIR
    watcher.stop()


def test_watches_are_for_directories(sandbox, place):
    with pytest.raises(NotFoundException):
        sandbox.files.watch_dir(f"{place}/nope")
    sandbox.files.write(f"{place}/f", "")
    with pytest.raises(InvalidArgumentException):
        sandbox.files.watch_dir(f"{place}/f")


def test_a_stream_of_changes(box, sandbox, place):
    heard = Heard()
    changes = Envd(box).listen(heard, "filesystem.Filesystem/WatchDir", {"path": place})
    assert next(changes) == {"start": {}}
    sandbox.files.make_dir(f"{place}/d")
    assert next(changes) == {"filesystem": {"name": "d", "type": "EVENT_TYPE_CREATE"}}
    changes.close()


def test_set_bits_are_in_the_permissions(sandbox, place):
    sandbox.commands.run(f"cd {place} && mkdir d && chmod 1777 d && touch s && chmod 4755 s")
    assert sandbox.files.get_info(f"{place}/d").permissions == "dtrwxrwxrwx"
    there = sandbox.files.get_info(f"{place}/s")
    assert (there.permissions, stat.S_IMODE(there.mode)) == ("urwxr-xr-x", 0o4755)
