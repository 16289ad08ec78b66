"""Published software in a sandbox, used from outside over TLS, by name and by path, as its users use it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import secrets
import select
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection, connect

from names import DOMAIN
from software import INSIDE, PROGRAMS, PYTHON, carry_in, installed
from stack import Box

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

WEB, FILES, FLASK, JUPYTER, GRPC = 8000, 8001, 5000, 8888, 50051
SECRET = "of-this-jupyter"
COMMANDS = {
    WEB: "node web.mjs",
    FILES: f"python3 -m http.server {FILES} --bind 127.0.0.1 --directory {INSIDE}",
    FLASK: f"python3 -m flask --app static_files run --port {FLASK}",
    JUPYTER: "python3 -m jupyter_server --ServerApp.allow_remote_access=True --ServerApp.ip=127.0.0.1"
    f" --ServerApp.port={JUPYTER} --IdentityProvider.token={SECRET} --ServerApp.root_dir=/workspace",
    GRPC: "python3 grpc_server.py",
}
LISTENS = """
import socket, time
for port in {ports}:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.02)
"""
TEXT = bytes(range(32, 127)) * 100
PIECE = b"0123456789abcdef" * 256
"""What a pipe that has room takes at once."""
LARGE, HELD, MEMORY = 200 << 20, 48 << 20, 32 << 20
"""Of a body of pieces; of it on the way while nobody takes it; what the edge may need for it."""
BLOCK = 1 << 20
STUCK_S = 0.5
"""Without a byte taken."""
VERSIONS = ["1.1", "2"]


@dataclass(frozen=True)
class Site:
    """One address of a port. It is on this machine, whatever it is called; TLS verifies the name."""

    name: str
    mount: str
    edge: int
    authority: str
    key: dict[str, str]

    @property
    def host(self) -> str:
        return f"{self.name}:{self.edge}"

    @property
    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority)

    def tls(self) -> ssl.SSLSocket:
        return self.trusting.wrap_socket(self._plain(), server_hostname=self.name)

    def _plain(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.edge), timeout=30)

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"https://{self.host}{self.mount}",
            headers=self.key,
            timeout=30,
            transport=Loopback(verify=self.trusting),
        )

    def websocket(self, path: str, **more: Any) -> ClientConnection:
        headers = {**self.key, **more.pop("headers", {})}
        more = {"ssl": self.trusting, "sock": self._plain(), "proxy": None, "max_size": None, **more}
        return connect(f"wss://{self.host}{self.mount}{path}", additional_headers=headers, **more)

    def curl(self, path: str, *options: str) -> list[str]:
        """A command that speaks HTTP/2, and says so behind what it got."""
        words = ["--http2", "--cacert", self.authority, "--resolve", f"{self.host}:127.0.0.1", *options]
        words += [word for name, value in self.key.items() for word in ("-H", f"{name}: {value}")]
        return ["curl", "-sS", "-w", "\n%{http_version} %{http_code}", *words, f"https://{self.host}{self.mount}{path}"]


class Loopback(httpx.HTTPTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host="127.0.0.1")
        return super().handle_request(request)


@pytest.fixture(scope="module")
def box(named_stack) -> Iterator[Box]:
    with named_stack.box() as made:
        carry_in(made)
        made.agent("POST", "/files/write", json={"path": f"{INSIDE}/text", "content": TEXT.decode()}).raise_for_status()
        for command in COMMANDS.values():
            body = {"command": f"export PYTHONPATH=$PWD/{PYTHON}; exec {command}", "workdir": INSIDE, "timeout": 600}
            made.agent("POST", "/commands/background", json=body).raise_for_status()
        waited = made.python(LISTENS.format(ports=list(COMMANDS)))
        assert waited["success"], waited
        yield made


@pytest.fixture(scope="module")
def by_name(named_stack, box) -> Callable[[int], Site]:
    return lambda port: _site(named_stack, f"{port}-{box.id}.{DOMAIN}", "")


@pytest.fixture(scope="module")
def by_path(named_stack, box) -> Callable[[int], Site]:
    return lambda port: _site(named_stack, DOMAIN, f"/s/{box.id}/{port}")


def _site(stack, name: str, mount: str) -> Site:
    authority = str(stack.installation.places.tls / "ca.pem")
    return Site(name, mount, stack.port, authority, {"X-API-Key": stack.installation.api_key})


@pytest.fixture(params=["by_name", "by_path"])
def site(request) -> Callable[[int], Site]:
    return request.getfixturevalue(request.param)


@pytest.fixture
def web(site) -> Iterator[httpx.Client]:
    with site(WEB).client() as made:
        yield made


@pytest.fixture
def event() -> str:
    """A name that no other test uses: see web.mjs."""
    return secrets.token_hex(4)


# ---- HTTP/1.1


def test_an_event_is_here_before_the_next_is_made(web, event):
    with web.stream("GET", f"/events?as={event}") as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert next(lines) == "data: 1"
        web.post(f"/go/{event}")
        assert next(lines) == "data: 2"


@pytest.mark.parametrize("port", [FILES, FLASK])
def test_the_head_of_a_file_has_its_length_and_no_body(site, port):
    with site(port).client() as client:
        head = client.head("/text")
        assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(TEXT)), b"")
        assert client.get("/text").content == TEXT


def test_a_range_of_a_file(site):
    with site(FLASK).client() as client:
        part = client.get("/text", headers={"Range": "bytes=1000-1999"})
        assert (part.status_code, part.content) == (206, TEXT[1000:2000])
        assert part.headers["Content-Range"] == f"bytes 1000-1999/{len(TEXT)}"
        assert client.get("/text", headers={"Range": f"bytes={len(TEXT)}-"}).status_code == 416


@pytest.mark.parametrize("port", [FILES, FLASK])
def test_a_file_that_did_not_change_is_not_sent_again(site, port):
    with site(port).client() as client:
        before = {"If-Modified-Since": client.get("/text").headers["Last-Modified"]}
        again = client.get("/text", headers=before)
        assert (again.status_code, again.content) == (304, b"")
        assert client.get("/text").content == TEXT


class Talk:
    """HTTP/1.1 event by event: httpx hides preliminary answers and trailers."""

    def __init__(self, site: Site, sock: ssl.SSLSocket) -> None:
        self._site, self._sock, self._state = site, sock, h11.Connection(h11.CLIENT)

    def ask(self, method: str, path: str, **headers: str) -> None:
        fields = {"Host": self._site.host, **self._site.key, **headers}
        self.say(h11.Request(method=method, target=self._site.mount + path, headers=list(fields.items())))

    def say(self, *events: Any) -> None:
        self._sock.sendall(b"".join(self._state.send(each) or b"" for each in events))

    def hear(self) -> Any:
        while (event := self._state.next_event()) is h11.NEED_DATA:
            self._state.receive_data(self._sock.recv(65536))
        return event

    def rest(self) -> tuple[bytes, dict[str, str]]:
        """Of the answer: its body and its trailers."""
        body = b""
        while isinstance(event := self.hear(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage)
        return body, {name.decode(): value.decode() for name, value in event.headers}


@pytest.fixture
def talk(site) -> Iterator[Talk]:
    with site(WEB).tls() as sock:
        yield Talk(site(WEB), sock)


def test_trailers_of_an_answer(talk):
    talk.ask("GET", "/trailers", TE="trailers", Connection="TE")
    talk.say(h11.EndOfMessage())
    assert talk.hear().status_code == 200
    assert talk.rest() == (b"onetwo", {"x-digest": hashlib.sha256(b"onetwo").hexdigest()})


def test_trailers_of_a_request(talk):
    talk.ask("POST", "/measure", **{"Transfer-Encoding": "chunked", "Trailer": "X-Digest"})
    talk.say(h11.Data(data=b"one"), h11.Data(data=b"two"), h11.EndOfMessage(headers=[("X-Digest", "abc")]))
    assert talk.hear().status_code == 200
    found = json.loads(talk.rest()[0])
    assert (found["size"], found["trailers"]) == (6, {"x-digest": "abc"})


def test_a_program_is_asked_whether_a_body_may_come(talk):
    talk.ask("POST", "/measure", **{"Expect": "100-continue", "Content-Length": "5"})
    answer = talk.hear()
    assert (type(answer), answer.status_code) == (h11.InformationalResponse, 100)
    talk.say(h11.Data(data=b"12345"), h11.EndOfMessage())
    assert talk.hear().status_code == 200
    assert json.loads(talk.rest()[0])["size"] == 5


def test_a_body_that_the_program_refuses_is_never_asked_for(talk):
    talk.ask("POST", "/refused", **{"Expect": "100-continue", "Content-Length": "5"})
    answer = talk.hear()
    assert (type(answer), answer.status_code) == (h11.Response, 417)


# ---- HTTP/2: curl


def fetched(command: list[str], body: bytes | None = None) -> bytes:
    done = subprocess.run(command, input=body, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_range_of_a_file_by_http_2(site):
    assert fetched(site(FLASK).curl("/text", "-r", "1000-1999")) == TEXT[1000:2000] + b"\n2 206"


def test_the_head_of_a_file_by_http_2(site):
    said = fetched(site(FLASK).curl("/text", "--head")).lower()
    assert f"content-length: {len(TEXT)}\r\n".encode() in said
    assert said.endswith(b"\r\n\n2 200")


def test_trailers_by_http_2(site):
    said = fetched(site(WEB).curl("/trailers", "-D", "-")).lower()
    assert said.endswith(f"onetwox-digest: {hashlib.sha256(b'onetwo').hexdigest()}\r\n\n2 200".encode())


def test_an_upload_by_http_2_is_whole(site):
    body = secrets.token_bytes(10 << 20)
    found, _, outcome = fetched(site(WEB).curl("/measure", "--data-binary", "@-"), body).rpartition(b"\n")
    assert (json.loads(found)["digest"], outcome) == (hashlib.sha256(body).hexdigest(), b"2 200")


# ---- large bodies


@contextlib.contextmanager
def little_memory(pid: int) -> Iterator[None]:
    """At no time within."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    before = _peak(pid)
    yield
    assert _peak(pid) - before < MEMORY


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


@pytest.fixture
def edge(named_stack) -> int:
    (pid,) = named_stack.installation.pids("edge")
    return pid


@functools.cache
def large_digest() -> str:
    digest = hashlib.sha256()
    for _ in range(LARGE // len(PIECE)):
        digest.update(PIECE)
    return digest.hexdigest()


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_download_waits_for_its_reader_and_needs_no_memory(by_name, edge, event, version):
    digest = hashlib.sha256()
    command = by_name(WEB).curl(f"/bytes/{LARGE}?as={event}", f"--http{version}")
    with (
        by_name(WEB).client() as web,
        little_memory(edge),
        running(command) as curl,
    ):
        assert web.get(f"/await/{event}").json()["written"] < HELD
        left = LARGE
        while piece := curl.stdout.read(min(left, BLOCK)):
            digest.update(piece)
            left -= len(piece)
        assert curl.stdout.read().decode() == f"\n{version} 200"
    assert digest.hexdigest() == large_digest()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_upload_waits_for_its_reader_and_needs_no_memory(by_name, edge, event, version):
    command = by_name(WEB).curl(f"/later?as={event}", f"--http{version}", "-X", "POST", "-T", "-")
    with (
        by_name(WEB).client() as web,
        little_memory(edge),
        running(command) as curl,
    ):
        count = pieces_taken(curl.stdin.fileno())
        assert count * len(PIECE) < HELD
        web.post(f"/go/{event}")
        for _ in range(LARGE // len(PIECE) - count):
            curl.stdin.write(PIECE)
        curl.stdin.close()
        found, _, outcome = curl.stdout.read().decode().rpartition("\n")
    assert outcome == f"{version} 200"
    assert json.loads(found) == {"size": LARGE, "digest": large_digest(), "trailers": {}}


def pieces_taken(pipe: int) -> int:
    """How many of them go in before nothing is taken any more, or too much was."""
    count = 0
    while count * len(PIECE) < HELD and select.select([], [pipe], [], STUCK_S)[1]:
        os.write(pipe, PIECE)
        count += 1
    return count


# ---- the end of connections


def test_a_client_that_leaves_is_one_that_leaves_inside(site, web, event):
    with site(WEB).client() as other, other.stream("GET", f"/hold?as={event}") as answer:
        assert next(answer.iter_raw()) == b"begun"
    assert web.get(f"/await/{event}").json() == {"whole": False}


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_program_that_leaves_is_not_taken_for_one_that_is_done(web, framing):
    with pytest.raises(httpx.RemoteProtocolError), web.stream("GET", f"/cut/{framing}") as answer:
        assert b"".join(answer.iter_raw()) == b"nothing: it raises"


def test_a_client_of_http_2_that_leaves_is_one_that_leaves_inside(by_name, event):
    with by_name(WEB).client() as web:
        with running(by_name(WEB).curl(f"/hold?as={event}", "--no-buffer")) as curl:
            assert curl.stdout.read(5) == b"begun"
        assert web.get(f"/await/{event}").json() == {"whole": False}


STREAM_BROKE = 92
"""Of curl: CURLE_HTTP2_STREAM."""


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_program_that_leaves_is_not_taken_for_one_that_is_done_by_http_2(site, framing):
    assert subprocess.run(site(WEB).curl(f"/cut/{framing}"), capture_output=True).returncode == STREAM_BROKE


# ---- where programs listen


def test_a_port_that_opens_a_second_after_the_request_is_reached(by_name):
    with by_name(WEB).client() as web, by_name(9001).client() as late:
        begun = time.monotonic()
        web.post("/listen?port=9001&host=127.0.0.1&after_ms=1000").raise_for_status()
        late.post("/go/nothing").raise_for_status()
        assert time.monotonic() - begun > 0.8, "the port was open already"


@pytest.mark.parametrize(("port", "address"), [(9002, "::1"), (9003, "0.0.0.0"), (9004, "::"), (9005, "own")])
def test_a_program_is_reached_at_whatever_address_it_listens(by_name, box, port, address):
    host = box.sh("hostname -I").split()[0] if address == "own" else address
    with by_name(WEB).client() as web, by_name(port).client() as there:
        web.post("/listen", params={"port": port, "host": host}).raise_for_status()
        assert there.post("/measure", content=b"12345").json()["size"] == 5


# ---- WebSocket: the package ws of Node


MESSAGES = ["täxt", b"\x00\xff bytes", "", b"", "long " * (1 << 18)]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: f"{type(each).__name__}-{len(each)}")
def test_a_message_comes_back_as_it_was(site, event, message):
    with site(WEB).websocket(f"/echo?as={event}") as ws:
        ws.send(message)
        assert ws.recv(30) == message


def test_a_message_in_fragments_comes_back_whole(site, event):
    with site(WEB).websocket(f"/echo?as={event}") as ws:
        ws.send(["a", "b", "c"])
        assert ws.recv(30) == "abc"


def test_a_ping_of_the_client_is_answered_by_the_program(site, web, event):
    with site(WEB).websocket(f"/echo?as={event}") as ws:
        assert ws.ping("are you there").wait(30)
        assert web.get(f"/await/{event}-ping").json() == {"data": "are you there"}


def test_a_ping_of_the_program_is_answered_by_the_client(site, event):
    with site(WEB).websocket(f"/ping?as={event}") as ws:
        assert ws.recv(30) == "pong are you there"


def test_the_clients_close_code_and_reason_are_heard_inside(site, web, event):
    with site(WEB).websocket(f"/echo?as={event}") as ws:
        ws.close(4001, "as you wish, ünd so")
    heard = web.get(f"/await/{event}").json()
    assert (heard["code"], heard["reason"]) == (4001, "as you wish, ünd so")


def test_the_programs_close_code_and_reason_are_heard_outside(site, event):
    with site(WEB).websocket(f"/close?as={event}") as ws:
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(30)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4002, "enough, ünd schön")


def test_a_client_that_is_gone_is_gone_inside(site, web, event):
    with site(WEB).websocket(f"/echo?as={event}") as ws:
        ws.send("x")
        ws.recv(30)
        ws.socket.shutdown(socket.SHUT_RDWR)
        assert web.get(f"/await/{event}").json()["code"] == 1006


def test_a_program_that_is_gone_is_gone_outside(site, event):
    with site(WEB).websocket(f"/drop?as={event}") as ws:
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(30)
        assert closed.value.rcvd is None


def test_compression_is_between_the_client_and_the_program(site, web, event):
    deflate = ClientPerMessageDeflateFactory(server_max_window_bits=11, client_max_window_bits=12)
    message = "the same again and again " * 40000
    with site(WEB).websocket(f"/echo?as={event}", extensions=[deflate], compression=None) as ws:
        ws.send(message)
        assert ws.recv(30) == message
        said = ws.response.headers["Sec-WebSocket-Extensions"]
        assert f"Sec-WebSocket-Extensions: {said}" == ws.response.headers["X-Said"]
        assert "server_max_window_bits=11" in said
        offered = ws.request.headers["Sec-WebSocket-Extensions"]
    inside = web.get(f"/await/{event}").json()
    assert inside["offered"] == offered
    assert max(inside["read"], inside["written"]) < len(message) // 10


# ---- Jupyter


@pytest.fixture
def jupyter(site) -> Iterator[httpx.Client]:
    with site(JUPYTER).client() as made:
        made.headers["Authorization"] = f"token {SECRET}"
        yield made


def test_a_notebook_is_kept_in_jupyter(jupyter, box, event):
    cells = [{"cell_type": "code", "source": "6 * 7", "metadata": {}, "outputs": [], "execution_count": None}]
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    path = f"/api/contents/{event}.ipynb"
    assert jupyter.put(path, json={"type": "notebook", "content": content}).status_code == 201
    (cell,) = jupyter.get(path).json()["content"]["cells"]
    assert cell["source"] == "6 * 7"
    assert "6 * 7" in box.sh(f"cat /workspace/{event}.ipynb")


def test_jupyters_own_token_is_asked_for_beside_ours(jupyter):
    del jupyter.headers["Authorization"]
    assert jupyter.get("/api/contents").status_code == 403
    del jupyter.headers["X-API-Key"]
    assert jupyter.get("/api/contents").status_code == 401


def test_a_kernel_of_jupyter_executes_a_cell(site, jupyter, event):
    there = site(JUPYTER)
    kernel = jupyter.post("/api/kernels").json()["id"]
    headers = {"Authorization": f"token {SECRET}", "Origin": f"https://{there.host}"}
    with there.websocket(f"/api/kernels/{kernel}/channels?session_id={event}", headers=headers) as ws:
        header = {"msg_id": event, "msg_type": "execute_request", "username": "", "session": event, "version": "5.4"}
        content = {"code": "print(6 * 7); 'the value'", "silent": False, "store_history": True, "allow_stdin": False}
        request = {"header": {**header, "date": "2020-01-01T00:00:00Z"}, "parent_header": {}, "metadata": {}}
        ws.send(json.dumps({**request, "content": content, "channel": "shell", "buffers": []}))
        said = list(_answers_to(event, ws))
    printed = "".join(content["text"] for kind, content in said if kind == "stream")
    (value,) = (content["data"]["text/plain"] for kind, content in said if kind == "execute_result")
    assert (printed, value) == ("42\n", "'the value'")
    assert jupyter.delete(f"/api/kernels/{kernel}").status_code == 204


def _answers_to(request: str, ws: ClientConnection) -> Iterator[tuple[str, dict[str, Any]]]:
    """Until the kernel is idle again."""
    while True:
        message = json.loads(ws.recv(30))
        if message["parent_header"].get("msg_id") == request:
            yield message["msg_type"], message["content"]
            if message["content"].get("execution_state") == "idle":
                return


# ---- gRPC: the package grpcio, inside and outside


@pytest.fixture(scope="module")
def grpc(names, named_stack, box) -> Callable[[str], Any]:
    """What grpc_client.py finds out about a fact."""
    account = {"KEY": named_stack.installation.api_key, "CA": str(named_stack.installation.places.tls / "ca.pem")}
    target = f"{GRPC}-{box.id}.{DOMAIN}:{named_stack.port}"
    packages = installed(".".join(map(str, sys.version_info[:2]))) / PYTHON

    def found(fact: str) -> Any:
        client = (sys.executable, str(PROGRAMS / "grpc_client.py"), fact)
        return json.loads(names.run(*client, PYTHONPATH=str(packages), TARGET=target, **account))

    return found


def test_a_grpc_call_and_its_metadata(grpc):
    details = b"\x08\x05\x12\x04what\x00\xff".hex()
    wanted = {"answer": "HELLO", "before": "the answer", "after": "the answer", "bytes": details}
    assert grpc("unary") == wanted


def test_the_key_that_opened_is_not_in_the_metadata_inside(grpc):
    seen = dict(grpc("metadata"))
    assert seen["mine"] == "yes"
    assert "x-api-key" not in seen


def test_a_grpc_message_larger_than_a_window(grpc):
    assert grpc("big") == 3 << 20


def test_many_grpc_calls_at_once(grpc):
    assert grpc("at_once") == [f"N{number}" for number in range(50)]


def test_a_grpc_stream_of_answers_comes_one_by_one(grpc):
    assert grpc("stream") == ["0", "1", "2"]


def test_a_grpc_stream_goes_both_ways_at_once(grpc):
    assert grpc("both_ways") == ["0 a", "1 b", "2 c"]


FAILURE = {
    "code": "NOT_FOUND",
    "message": "not here: 100 % gone, schön",
    "details": b"\x08\x05\x12\x04what\x00\xff".hex(),
}


def test_a_grpc_failure_comes_with_its_message_and_details(grpc):
    assert grpc("failed") == FAILURE


def test_a_grpc_failure_after_answers_comes_after_them(grpc):
    assert grpc("failed_late") == {"came": ["one", "two"], **FAILURE}


def test_a_grpc_method_that_nobody_has(grpc):
    assert grpc("unknown") == "UNIMPLEMENTED"


def test_a_grpc_deadline_is_known_inside_and_ends_the_call_there(grpc):
    found = grpc("deadline")
    assert found["code"] == "DEADLINE_EXCEEDED"
    assert 0.9 < found["took"] < 3
    assert 0 < found["remaining"] <= 1
    assert found["left"]


def test_a_grpc_call_that_is_cancelled_ends_inside(grpc):
    assert grpc("cancelled")["left"]


def test_a_grpc_call_without_a_key_is_not_authenticated(grpc):
    assert grpc("refused") == "UNAUTHENTICATED"
