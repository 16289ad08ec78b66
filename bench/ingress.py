"""The way in beside nginx and Caddy: requests, transfers, latency, idle WebSockets, and a large table of sandboxes.

The program measured is the same process for all: `quick_server.c`, in one sandbox, at 127.0.0.1 of its network
namespace. Atoll's edge gets its connections there from the sandbox's agent. No other process of the host could reach
it, so the references are put into that namespace. A reference has as many hops as the edge:

    client ── the host's loopback ── edge                          ── the sandbox's loopback ── program
    client ── the host's loopback ── nginx, in the namespace       ── the sandbox's loopback ── program
    client, in the namespace ── the sandbox's loopback ── Caddy, in it too ── the same ── program

nginx serves sockets that were made on the host and handed over to it (as for an upgrade of its binary). Caddy of the
distribution cannot be given any, so its clients go in to it. Targets are for the ratio to nginx.

All take turns in several rounds; the ratio is the median of the rounds'. Each proxy is set up as one who knows it
would: kept connections, nothing spooled to disk, the same certificate. nginx keeps an access log, as the edge does, in
batches like the edge's; Caddy keeps none, as the distribution sets it up.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import os
import resource
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from plain_client import Api, SandboxClient
from report import Report
from rich.progress import track

from atoll import compose
from atoll.core.ids import new_sandbox_id
from atoll.core.settings import EdgeSettings, Places
from atoll.testing.installation import Installation, borrow_templates
from atoll.testing.internet import inside
from atoll.testing.plain_files import post_form

T = TypeVar("T")

HERE = Path(__file__).parent
DOMAIN = "bench.example.net"
PORT = 8000
INSIDE_PORTS = (8080, 8443)
"""Of Caddy, where nobody else listens but our own program."""
GIB = 1 << 30
KIB = b"/bytes/1024"
CONNECTIONS = 32
LOAD_S, ALONE_S = 2, 1
LOAD_ROUNDS, TRANSFER_ROUNDS, TABLE_ROUNDS = 7, 5, 15
WEBSOCKETS, BOXES = 5000, 8
"""A sandbox has room for 1,024 connections at once, and a program in it for little more."""
SANDBOXES = 100_000
HEARTBEAT_S = 15.0
STALLED_S = 1.0
PATIENCE_S = 60.0
MEMORY_MIB = 16.0
"""That what is constant may move by."""
BESIDE_IDLE = 1.5


# ---- ways to the program


@dataclass(frozen=True)
class Way:
    port: int
    host: str
    prefix: bytes = b""
    """Before the path."""
    headers: Mapping[str, str] = field(default_factory=dict)
    namespace: Path | None = None
    """Where its clients have to be, when not on the host."""
    tls: ssl.SSLContext | None = None
    processes: Callable[[], list[int]] = list
    """Those that carry it."""

    def connect(self) -> socket.socket:
        """A socket stays in the namespace that it was made in."""
        sock = inside(self.namespace, self._connect) if self.namespace else self._connect()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls.wrap_socket(sock, server_hostname=self.host) if self.tls else sock

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def head(self, method: str, path: bytes, **more: str) -> bytes:
        fields = {"Host": self.host, **self.headers, **{name.replace("_", "-"): value for name, value in more.items()}}
        lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in fields.items())
        return method.encode() + b" " + self.prefix + path + b" HTTP/1.1\r\n" + lines + b"\r\n"


def answer_head(sock: socket.socket, status: int) -> tuple[bytes, bytes]:
    """With what has come behind it."""
    got = b""
    while b"\r\n\r\n" not in got:
        more = sock.recv(65536)
        if not more:
            raise RuntimeError(f"closed after {got!r}")
        got += more
    head, _, rest = got.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1] != str(status).encode():
        raise RuntimeError(f"not {status}: {got[:300]!r}")
    return head, rest


def download(way: Way, size: int, pause_s: float = 0.0) -> float:
    """GB/s."""
    buffer = bytearray(1 << 20)
    with way.connect() as sock:
        begun = time.perf_counter()
        sock.sendall(way.head("GET", b"/bytes/%d" % size))
        left = size - len(answer_head(sock, 200)[1])
        time.sleep(pause_s)
        while left:
            got = sock.recv_into(buffer)
            if not got:
                raise RuntimeError(f"{left} bytes are missing")
            left -= got
        return size / (time.perf_counter() - begun) / 1e9


def upload(way: Way, size: int) -> float:
    """GB/s."""
    buffer = bytes(1 << 20)
    with way.connect() as sock:
        begun = time.perf_counter()
        sock.sendall(way.head("PUT", b"/", Content_Length=str(size)))
        for _ in range(size >> 20):
            sock.sendall(buffer)
        head, counted = answer_head(sock, 200)
        counted += sock.recv(int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0]) - len(counted))
        took = time.perf_counter() - begun
    if counted != str(size).encode():
        raise RuntimeError(f"{counted!r} of {size} bytes arrived")
    return size / took / 1e9


# ---- load


TELL = """
done = function(summary, latency)
  local failed = summary.errors
  io.write(string.format('\\n{"requests": %d, "us": %d, "p50_us": %d, "p99_us": %d, "failed": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Of the proxy's processes, for each request."""


def load(way: Way, connections: int, seconds: int) -> Load:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(TELL)
        script.flush()
        origin = "https://localhost" if way.tls else "http://127.0.0.1"  # no certificate of ours is for an address
        enter = ["nsenter", f"--net={way.namespace}"] if way.namespace else []
        command = [*enter, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name]
        for name, value in {"Host": way.host, **way.headers}.items():
            command += ["-H", f"{name}: {value}"]
        before = cpu_s(way.processes())
        url = f"{origin}:{way.port}{(way.prefix + KIB).decode()}"
        output = subprocess.run([*command, url], check=True, stdout=subprocess.PIPE, text=True).stdout
        used = cpu_s(way.processes()) - before
    told = json.loads(output.splitlines()[-1])
    if told["failed"] or not told["requests"]:
        raise RuntimeError(f"{' '.join(command)} {url}: {output}")
    return Load(
        per_second=1e6 * told["requests"] / told["us"],
        p50_ms=told["p50_us"] / 1000,
        p99_ms=told["p99_us"] / 1000,
        cpu_us=1e6 * used / told["requests"],
    )


def cpu_s(pids: list[int]) -> float:
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def memory_kib(pids: list[int], which: str = "VmRSS") -> int:
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{which}:"))


def steps(count: int, what: str) -> Iterable[int]:
    return track(range(count), description=what, transient=True, disable=not sys.stdout.isatty())


def in_turns(what: str, rounds: int, ways: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """A round to warm up, then the others. Each begins with another way."""
    taken: dict[str, list[T]] = {name: [] for name in ways}
    names = list(ways)
    for turn in steps(rounds + 1, what):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            taken[name].append(ways[name]())
    return {name: samples[1:] for name, samples in taken.items()}


# ---- proxies that are started here


@dataclass(frozen=True)
class Served:
    process: subprocess.Popen[bytes]
    told: Path

    def pids(self) -> list[int]:
        """Its own, or those of its workers."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(each) for each in children] or [pid]

    def await_answer(self, way: Way) -> None:
        """Until then it refuses connections, or says that it knows of no such sandbox."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(RuntimeError, OSError):
                download(way, 1)
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self.told.stem} does not serve: {self.told.read_text(errors='replace')[-2000:]}")


@contextlib.contextmanager
def served(
    command: list[str], told: Path, environment: Mapping[str, str], descriptors: Sequence[int] = ()
) -> Iterator[Served]:
    with told.open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, pass_fds=descriptors, stdout=log, stderr=log
        )
    try:
        yield Served(process, told)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


NGINX = """
daemon off;
worker_processes auto;
worker_rlimit_nofile {files};
pid {scratch}/nginx.pid;
error_log {scratch}/nginx.log warn;
events {{ worker_connections 16384; }}
http {{
  access_log {scratch}/access.log combined buffer=64k flush=1s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_temp_path {scratch}/nginx-body;
  proxy_temp_path {scratch}/nginx-proxy;
  map $http_upgrade $kept {{ default upgrade; '' ''; }}
  upstream program {{ server 127.0.0.1:{program}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{tls} ssl;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://program;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
      proxy_buffers 16 64k;
      proxy_busy_buffers_size 256k;
      client_body_buffer_size 256k;
      proxy_read_timeout 1h;
      proxy_set_header Connection $kept;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $host;
    }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(namespace: Path, scratch: Path, cert: Path, key: Path) -> Iterator[tuple[Served, list[int]]]:
    """With its ports for plain HTTP and for TLS."""
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.create_server(("127.0.0.1", 0)) as tls:
        sockets, ports = (plain, tls), [each.getsockname()[1] for each in (plain, tls)]
        config = scratch / "nginx.conf"
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        values = {"scratch": scratch, "cert": cert, "key": key, "program": PORT, "files": files}
        config.write_text(NGINX.format(**values, plain=ports[0], tls=ports[1]))
        handed = [each.fileno() for each in sockets]
        environment = {"NGINX": "".join(f"{fd};" for fd in handed)}
        command = ["nsenter", f"--net={namespace}", "nginx", "-c", str(config), "-p", str(scratch)]
        with served(command, scratch / "nginx.out", environment, handed) as process:
            yield process, ports


def caddy_config(cert: Path, key: Path) -> dict[str, Any]:  # Any: JSON
    forward = {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{PORT}"}]}
    plain, tls = ({"listen": [f"127.0.0.1:{port}"], "routes": [{"handle": [forward]}]} for port in INSIDE_PORTS)
    quiet = {"automatic_https": {"disable": True}}
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": {
            "tls": {"certificates": {"load_files": [{"certificate": str(cert), "key": str(key)}]}},
            "http": {
                "servers": {
                    "plain": {**plain, **quiet},
                    "tls": {**tls, **quiet, "tls_connection_policies": [{"default_sni": DOMAIN}]},
                }
            },
        },
    }


@contextlib.contextmanager
def caddy(namespace: Path, scratch: Path, cert: Path, key: Path) -> Iterator[Served]:
    config = scratch / "caddy.json"
    config.write_text(json.dumps(caddy_config(cert, key)))
    environment = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(scratch))
    command = ["nsenter", f"--net={namespace}", "caddy", "run", "--config", str(config)]
    with served(command, scratch / "caddy.out", environment) as process:
        yield process


# ---- the program in its sandboxes


def compiled(scratch: Path) -> Path:
    program = scratch / "quick_server"
    subprocess.run(["gcc", "-O2", "-static", "-o", str(program), str(HERE / "quick_server.c")], check=True)
    return program


def serving_box(api: Api, program: Path, **more: object) -> SandboxClient:
    """A sandbox in which the program listens."""
    sandbox = api.create("base", **more)
    address = ("127.0.0.1", int(api.url.rpartition(":")[2]))
    with program.open("rb") as file:
        headers = {"Authorization": sandbox.agent.headers["Authorization"]}
        post_form(address, f"/s/{sandbox.id}/files/upload", headers, "/workspace/quick_server", file)
    start = f"chmod +x quick_server; setsid ./quick_server {PORT} > told 2>&1 < /dev/null & "
    listens = f"until bash -c '> /dev/tcp/127.0.0.1/{PORT}' 2> /dev/null; do kill -0 $! || exit; sleep 0.02; done"
    result = sandbox.command(f"{start} {listens}; cat told")
    if result["stdout"] or result["exit_code"]:
        raise RuntimeError(f"the program does not start: {result}")
    return sandbox


def pid_of(atoll: Installation, sandbox: SandboxClient) -> int:
    record = atoll.places.run / "launcher" / f"{sandbox.id}.json"
    return int(json.loads(record.read_text())["pid"])


# ---- figures


def bench_ingress(report: Report, templates: Path, size: int = GIB) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        scratch = Path(name)
        program = compiled(scratch)
        borrow_templates(templates, scratch / "data")
        with Installation(scratch / "data", "--templates", "base", "--domain", DOMAIN) as atoll:
            box = serving_box(Api(atoll, by_address=True), program, inbound_auth="public")
            with all_ways(atoll, box, scratch) as ways:
                bench_requests(report, ways)
                bench_latency(report, ways)
                bench_transfers(report, ways, size)
                bench_websockets(report, Api(atoll, by_address=True), program, ways)
            bench_table(report, atoll, box, scratch)


@contextlib.contextmanager
def all_ways(atoll: Installation, box: SandboxClient, scratch: Path) -> Iterator[dict[str, Way]]:
    namespace = Path(f"/proc/{pid_of(atoll, box)}/ns/net")
    cert, key = atoll.places.tls / "cert.pem", atoll.places.tls / "key.pem"
    trusting = ssl.create_default_context(cafile=atoll.places.tls / "ca.pem")
    host = f"{PORT}-{box.id}.{DOMAIN}"
    with nginx(namespace, scratch, cert, key) as (second, ports), caddy(namespace, scratch, cert, key) as third:
        edge = Way(int(atoll.url.rpartition(":")[2]), host, processes=lambda: atoll.pids("edge"))
        key_header = {"X-API-Key": atoll.api_key}
        by_path = replace(edge, host="127.0.0.1", prefix=f"/s/{box.id}/{PORT}".encode(), headers=key_header)
        by_nginx = Way(ports[0], host, processes=second.pids)
        by_caddy = Way(INSIDE_PORTS[0], host, namespace=namespace, processes=third.pids)
        others = {
            "nginx": by_nginx,
            "nginx TLS": replace(by_nginx, port=ports[1], tls=trusting),
            "Caddy": by_caddy,
            "Caddy TLS": replace(by_caddy, port=INSIDE_PORTS[1], tls=trusting),
        }
        for name, way in others.items():
            (second if "nginx" in name else third).await_answer(way)
        nobody = Way(PORT, host, namespace=namespace)
        ours = {"by name": edge, "by path, with a key": by_path, "TLS": replace(edge, tls=trusting)}
        yield {**ours, **others, "nobody": nobody}


BESIDE = {
    "by name": ("nginx", "Caddy"),
    "by path, with a key": ("nginx",),
    "TLS": ("nginx TLS", "Caddy TLS"),
}
"""Whom each way of ours is compared with; targets are for the first."""


def bench_requests(report: Report, ways: Mapping[str, Way]) -> None:
    """1 KiB, kept connections."""
    work = {name: lambda way=way: load(way, CONNECTIONS, LOAD_S) for name, way in ways.items()}
    taken = in_turns("requests", LOAD_ROUNDS, work)
    rates = {name: [each.per_second for each in loads] for name, loads in taken.items()}
    report.put("ingress: requests, the program alone", rates["nobody"], "/s")
    for name, (first, *others) in BESIDE.items():
        report.put(f"ingress: requests, {name}, beside {first}", rates[name], "/s", rates[first], at_least=0.5)
        for other in others:
            report.put(f"ingress: requests, {name}, beside {other}", rates[name], "/s", rates[other])
        used = {which: [each.cpu_us for each in taken[which]] for which in (name, first)}
        report.put(f"ingress: processor time of a request, {name}, beside {first}", used[name], "µs", used[first])


def bench_latency(report: Report, ways: Mapping[str, Way]) -> None:
    """One kept connection, one request after the other."""
    work = {name: lambda way=way: load(way, 1, ALONE_S) for name, way in ways.items() if name != "nobody"}
    taken = in_turns("latency", LOAD_ROUNDS, work)
    for name, (first, *_) in BESIDE.items():
        for which, at_most in (("p50", 0.3), ("p99", None)):
            ours, theirs = ([getattr(each, f"{which}_ms") for each in taken[way]] for way in (name, first))
            report.put(f"ingress: a request alone, {name}, beside {first}, {which}", ours, "ms", theirs)
            added = [mine - other for mine, other in zip(ours, theirs, strict=True)]
            report.put(f"ingress: added to a request alone, {name}, {which}", added, "ms", at_most=at_most)


def bench_transfers(report: Report, ways: Mapping[str, Way], size: int) -> None:
    edge = ways["by name"].processes()
    before = memory_kib(edge)
    for pid in edge:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # its peak is counted from now on
    for what, move in (("download", download), ("upload", upload)):
        work = {name: lambda way=way, move=move: move(way, size) for name, way in ways.items() if name != "nobody"}
        taken = in_turns(f"{what}s", TRANSFER_ROUNDS, work)
        for name, (first, *others) in BESIDE.items():
            called = f"ingress: {what} of {size >> 20} MiB, {name}, beside"
            report.put(f"{called} {first}", taken[name], "GB/s", taken[first], at_least=0.8)
            for other in others:
                report.put(f"{called} {other}", taken[name], "GB/s", taken[other])
    for name in BESIDE:
        download(ways[name], size, pause_s=STALLED_S)
    grown = (memory_kib(edge, "VmHWM") - before) / 1024
    report.need("ingress: memory of the edge during all transfers, added at most", grown, "MiB", at_most=MEMORY_MIB)


# ---- WebSockets


def open_websocket(way: Way) -> socket.socket:
    key = base64.b64encode(os.urandom(16)).decode()
    sock = way.connect()
    sock.sendall(
        way.head(
            "GET", b"/", Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Key=key, Sec_WebSocket_Version="13"
        )
    )
    head, _ = answer_head(sock, 101)
    accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
    if accept not in head:
        raise RuntimeError(f"the key was not answered: {head!r}")
    return sock


def echoed(sock: socket.socket) -> None:
    """A text frame there, and back without its mask."""
    mask, text = os.urandom(4), b"still here"
    sock.sendall(bytes((0x81, 0x80 | len(text))) + mask + bytes(each ^ mask[i % 4] for i, each in enumerate(text)))
    frame = sock.recv(2 + len(text), socket.MSG_WAITALL)
    if frame != bytes((0x81, len(text))) + text:
        raise RuntimeError(f"not the echo: {frame!r}")


@contextlib.contextmanager
def idle(what: str, ways: list[Way], count: int) -> Iterator[tuple[float, list[socket.socket]]]:
    """So many WebSockets, and what memory each takes of who carries them."""
    pids = ways[0].processes()
    before = memory_kib(pids)
    with contextlib.ExitStack() as stack:
        sockets = []
        for number in steps(count, f"WebSockets through {what}"):
            sockets.append(stack.enter_context(open_websocket(ways[number % len(ways)])))
        yield (memory_kib(pids) - before) / count, sockets


def bench_websockets(report: Report, api: Api, program: Path, ways: Mapping[str, Way]) -> None:
    """They stay for longer than the edge's rounds of looking for silent ones. nginx has as many as one program can."""
    boxes = [serving_box(api, program, inbound_auth="public") for _ in range(BOXES)]
    through = [replace(ways["by name"], host=f"{PORT}-{box.id}.{DOMAIN}") for box in boxes]
    requests = {"requests": lambda: load(ways["by name"], 1, ALONE_S)}
    with idle("nginx", [ways["nginx"]], WEBSOCKETS // BOXES) as (theirs, _):
        pass
    alone = in_turns("requests without WebSockets", LOAD_ROUNDS, requests)["requests"]
    with idle("the edge", through, WEBSOCKETS) as (ours, sockets):
        beside = in_turns("requests beside WebSockets", LOAD_ROUNDS, requests)["requests"]
        begun = time.perf_counter()
        for sock in sockets:
            echoed(sock)
        echo_ms = 1000 * (time.perf_counter() - begun) / len(sockets)
    many = f"ingress: {WEBSOCKETS:,} idle WebSockets"
    report.put(f"{many}: memory of each, beside nginx", [ours], "KiB", [theirs])
    for which, limit in (("p50", BESIDE_IDLE), ("p99", None)):
        times, without = ([getattr(each, f"{which}_ms") for each in loads] for loads in (beside, alone))
        report.put(f"{many}: a request, beside one without them, {which}", times, "ms", without, at_most=limit)
    report.put(f"{many}: then an echo of each in turn", [echo_ms], "ms")
    for box in boxes:
        box.kill()


# ---- a large table


class RouteFeed(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """What an edge asks a server, answered with the same routes for ever."""

    daemon_threads = True

    def __init__(self, path: Path, routes: list[dict[str, Any]]) -> None:
        super().__init__(str(path), _FeedHandler)
        self.lines = b"".join(json.dumps(route).encode() + b"\n" for route in [*routes, {"ready": True}])
        self.over = threading.Event()

    def server_close(self) -> None:
        self.over.set()
        self.shutdown()
        super().server_close()


class _FeedHandler(http.server.BaseHTTPRequestHandler):
    server: RouteFeed
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path != "/internal/routes":
            self.reply(404, b"{}")
            return
        self.close_connection = True
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(self.server.lines)
        with contextlib.suppress(OSError):  # the edge has left
            while not self.server.over.wait(HEARTBEAT_S):
                self.wfile.write(b"{}\n")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(200, b"{}")

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def route_of(atoll: Installation, sandbox_id: str) -> dict[str, Any]:
    """As the server tells its edge."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(atoll.places.server_socket))
        sock.sendall(f"GET /internal/routes/{sandbox_id} HTTP/1.0\r\nHost: server\r\n\r\n".encode())
        answered = b"".join(iter(lambda: sock.recv(65536), b""))
    return dict(json.loads(answered.partition(b"\r\n\r\n")[2]))


@contextlib.contextmanager
def edge_alone(atoll: Installation, run: Path, route: dict[str, Any], count: int) -> Iterator[Way]:
    """An edge of its own, with so many sandboxes in its table. The one that is there comes last."""
    places = Places.of(atoll.places.data, run)
    places.run.mkdir(parents=True)
    others = [{**route, "id": (name := new_sandbox_id()), "socket": str(run / name)} for _ in range(count - 1)]
    with RouteFeed(places.server_socket, [*others, route]) as feed, socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=feed.serve_forever, daemon=True).start()
        port = listener.getsockname()[1]
        settings = EdgeSettings(places, "127.0.0.1", port, listener.fileno(), domain=DOMAIN)
        environment = {
            compose.SETTINGS_VARIABLE: compose.encode_settings(settings),
            compose.LOG_LEVEL_VARIABLE: "WARNING",
        }
        command = [sys.executable, "-m", "atoll.compose", "edge"]
        with served(command, run / "edge.out", environment, [listener.fileno()]) as edge:
            way = Way(port, f"{PORT}-{route['id']}.{DOMAIN}", processes=edge.pids)
            edge.await_answer(way)
            yield way


def bench_table(report: Report, atoll: Installation, box: SandboxClient, scratch: Path) -> None:
    """Two edges of the same kind, of which one knows many sandboxes more. They are told so by a stand-in of the server;
    the requests go to the same real sandbox."""
    route = route_of(atoll, str(box.id))
    with contextlib.ExitStack() as stack:
        edges = {
            count: stack.enter_context(edge_alone(atoll, scratch / f"run{count}", route, count))
            for count in (1, SANDBOXES)
        }
        work = {str(count): lambda way=way: load(way, CONNECTIONS, LOAD_S) for count, way in edges.items()}
        taken = in_turns("table", TABLE_ROUNDS, work)
        held = [memory_kib(way.processes()) / 1024 for way in edges.values()]
    few, many = ([each.per_second for each in taken[str(count)]] for count in edges)
    report.put(f"ingress: requests with {SANDBOXES:,} sandboxes, beside one", many, "/s", few, at_least=0.95)
    few, many = ([each.cpu_us for each in taken[str(count)]] for count in edges)
    report.put(f"ingress: processor time of a request with {SANDBOXES:,} sandboxes, beside one", many, "µs", few)
    report.put(f"ingress: memory of an edge with {SANDBOXES:,} sandboxes, beside one", [held[1]], "MiB", [held[0]])
