"""A small internet in two network namespaces: names, web servers, and places that nobody should reach. Needs root.

    with Internet() as net, Installation(data, "--uplink", net.uplink) as atoll:
        ...                     # sandboxes reach http://example.com and https://api.example.com
        net.requests            # what the servers were asked
        net.escaped()           # packets for its addresses that left this machine instead: 0

The *gateway* namespace stands for the host that sandboxes go out through; it has a public address with a web server of
its own, which is no business of a sandbox's. Behind it lies the *far* one with everything else. There is no route from
either to the machine's own network. The servers are threads of this process whose sockets were made over there. What a
process that was killed left behind is removed by the next one.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import ipaddress
import json
import os
import socketserver
import ssl
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, TypeVar

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

T = TypeVar("T")

NAMESPACES = Path("/run/netns")
PREFIX = "atnet"
CLONE_NEWNET = 0x40000000

RESOLVERS = ("8.8.8.8", "1.1.1.1")
GATEWAY = "198.51.100.1"
"""The public address of what stands for the host."""
FAR = "198.51.100.254"
INTRANET = "10.20.30.40"
METADATA = "169.254.169.254"
ATTACKER = "203.0.113.66"
WEB = {
    "example.com": "203.0.113.10",
    "www.example.com": "203.0.113.10",
    "api.example.com": "203.0.113.20",
    "httpbin.org": "203.0.113.30",
    "files.example.com": "203.0.113.40",
    "jsonplaceholder.typicode.com": "203.0.113.50",
    "attacker.example.net": ATTACKER,
}
NAMES = {**WEB, "intranet.corp.example": INTRANET, "metadata.google.internal": METADATA, "rebind.example.net": METADATA}
PUBLIC = sorted({*RESOLVERS, *WEB.values(), GATEWAY, FAR})
UDP_PORT = 4000
FILE = bytes(range(256)) * 4096
CSV = b"city,people\nOslo,709037\nRome,2748109\n"


@dataclass(frozen=True)
class Request:
    server: str
    port: int
    host: str
    method: str
    path: str
    body: bytes


class Internet:
    def __init__(self, suffix: str = "") -> None:
        """`suffix` tells several of one process apart."""
        self.name = f"{PREFIX}-{os.getpid()}-{suffix}".rstrip("-")
        self.uplink = f"netns:{self.name}"
        self.requests: list[Request] = []
        self.connections: list[tuple[str, int]] = []
        """Server and port of each TCP connection that was accepted."""
        self.datagrams: list[tuple[str, int, bytes]] = []
        """Server, source port and content of each UDP packet to `UDP_PORT`."""
        self.queries: list[tuple[str, str, str]] = []
        """Resolver, name and type of each question."""
        self._echoes: dict[str, _Echo] = {}
        self._cleanup = contextlib.ExitStack()

    @property
    def ca_file(self) -> Path:
        return self._directory / "ca.pem"

    def __enter__(self) -> Internet:
        sweep()
        with contextlib.ExitStack() as undo:
            self._directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="atoll-internet-")))
            undo.callback(_remove, self.name)
            _build(self.name)
            tls = _tls(self._directory, sorted({*NAMES, *PUBLIC, "*.example.com"}))
            for server in self._servers(tls):
                thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
                thread.start()
                undo.callback(server.server_close)
                undo.callback(server.shutdown)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def far(self, work: Callable[[], T]) -> T:
        """The result of `work`, done where the servers are; sockets that it makes stay there."""
        return inside(NAMESPACES / f"{self.name}-far", work)

    def gateway(self, work: Callable[[], T]) -> T:
        """The same, at the gateway."""
        return inside(NAMESPACES / self.name, work)

    def send_late(self, server: str, port: int, content: bytes) -> None:
        """From a server of `datagrams` to a port that it heard from at the gateway, asked or not."""
        self._echoes[server].socket.sendto(content, (GATEWAY, port))

    def escaped(self) -> int:
        """Packets for this internet's addresses that this machine sent anywhere else."""
        listed = json.loads(_run("nft", "--json", "list", "counter", "inet", self.name, "escaped"))
        return next(int(entry["counter"]["packets"]) for entry in listed["nftables"] if "counter" in entry)

    def _servers(self, tls: ssl.SSLContext) -> Iterator[_Server]:
        for address in RESOLVERS:
            yield self.far(lambda address=address: _DnsOverUdp(self, address))  # type: ignore[misc]  # a default binds
            yield self.far(lambda address=address: _DnsOverTcp(self, address))  # type: ignore[misc]
        for address in sorted({*WEB.values(), INTRANET, METADATA}):
            yield self.far(lambda address=address: _Web(self, address, 80, None))  # type: ignore[misc]
            yield self.far(lambda address=address: _Web(self, address, 443, tls))  # type: ignore[misc]
            yield self.far(lambda address=address: _Echo(self, address))  # type: ignore[misc]
        yield self.gateway(lambda: _Web(self, GATEWAY, 80, None))
        yield self.gateway(lambda: _Echo(self, GATEWAY))


def inside(namespace: Path, work: Callable[[], T]) -> T:
    """In a thread of its own, which ends there: a thread that has entered a namespace is not brought back."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def enter() -> None:
        try:
            fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {namespace}")
            finally:
                os.close(fd)
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


# ---- namespaces


def _build(name: str) -> None:
    far = f"{name}-far"
    on_far = sorted({*RESOLVERS, *NAMES.values()})
    _run("ip", "netns", "add", name)
    _run("ip", "netns", "add", far)
    _batch(name, "link set lo up", f"link add wan0 type veth peer name wan0 netns {far}")
    _batch(far, "link set lo up", *(f"address add {address}/32 dev lo" for address in on_far))
    _batch(far, f"address add {FAR}/24 dev wan0", "link set wan0 up")
    _batch(name, f"address add {GATEWAY}/24 dev wan0", "link set wan0 up", f"route add default via {FAR}")
    _run("nft", "-f", "-", input=_watch(name))


def _watch(name: str) -> str:
    """Counts on the machine's own side; nothing there is held up."""
    return f"""
table inet {name} {{
  counter escaped {{ }}
  chain out {{
    type filter hook postrouting priority 300; policy accept;
    oifname != "lo" ip daddr {{ {", ".join([*PUBLIC, METADATA, INTRANET])} }} counter name escaped
  }}
}}
"""


def _remove(name: str) -> None:
    for argv in (("nft", "delete", "table", "inet", name), *(("ip", "netns", "del", f"{name}{end}") for end in ENDS)):
        subprocess.run(argv, capture_output=True, check=False)


ENDS = ("", "-far")


def sweep() -> None:
    """After internets whose process is gone."""
    for path in NAMESPACES.glob(f"{PREFIX}-*"):
        owner = path.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            _remove(path.name.removesuffix("-far"))


def _batch(namespace: str, *lines: str) -> None:
    _run("ip", "-netns", namespace, "-batch", "-", input="\n".join(lines))


def _run(*argv: str, input: str = "") -> str:
    done = subprocess.run(argv, input=input, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


# ---- servers


_Server = socketserver.BaseServer


class _Web(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, net: Internet, address: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.net, self.tls = net, tls
        self.address, self.port = address, port
        super().__init__((address, port), _Page)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without asking anybody for the address's name

    def get_request(self) -> tuple[Any, Any]:
        connection, client = super().get_request()
        self.net.connections.append((self.address, self.port))
        return connection, client

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's thread: a client that does not finish its handshake keeps nobody waiting."""
        if self.tls is None:
            super().finish_request(request, client_address)
        else:
            with self.tls.wrap_socket(request, server_side=True) as encrypted:
                super().finish_request(encrypted, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients come and go."""


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Web
    timeout = 30

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        host = self.headers.get("Host", "")
        self.server.net.requests.append(
            Request(self.server.address, self.server.port, host, self.command, self.path, body)
        )
        status, kind, content = self._content(host, body)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer

    def _content(self, host: str, body: bytes) -> tuple[int, str, bytes]:
        path = self.path.partition("?")[0]
        if self.server.address == METADATA:
            return 200, "application/json", b'{"AccessKeyId": "AKIAFAKE", "SecretAccessKey": "not-a-secret"}'
        if path == "/data":
            return 200, "application/json", b'{"data": [1, 2, 3]}'
        if path == "/posts/1":
            return 200, "application/json", b'{"id": 1, "title": "A post"}'
        if path in ("/data.csv", "/file.csv"):
            return 200, "text/csv", CSV
        if path == "/file.bin":
            return 200, "application/octet-stream", FILE
        if path in ("/get", "/post", "/put", "/delete", "/anything", "/headers"):
            told = {
                "method": self.command,
                "url": f"{'https' if self.server.tls else 'http'}://{host}{self.path}",
                "headers": dict(self.headers.items()),
                "data": body.decode(errors="replace"),
                "origin": self.client_address[0],
            }
            return 200, "application/json", json.dumps(told).encode()
        if path == "/":
            return 200, "text/html", f"<!doctype html><title>Example Domain</title><h1>{host}</h1>".encode()
        return 404, "text/plain", b"not found"

    def log_message(self, format: str, *args: Any) -> None:
        """`Internet.requests` is the log."""


class _Echo(socketserver.ThreadingUDPServer):
    daemon_threads = True

    def __init__(self, net: Internet, address: str) -> None:
        self.net, self.address = net, address
        super().__init__((address, UDP_PORT), _EchoOnce)
        net._echoes[address] = self


class _EchoOnce(socketserver.BaseRequestHandler):
    server: _Echo

    def handle(self) -> None:
        data, answering = self.request
        self.server.net.datagrams.append((self.server.address, self.client_address[1], data))
        answering.sendto(data, self.client_address)


class _DnsOverUdp(socketserver.ThreadingUDPServer):
    daemon_threads = True

    def __init__(self, net: Internet, address: str) -> None:
        self.net, self.address = net, address
        super().__init__((address, 53), _UdpQuestion)


class _UdpQuestion(socketserver.BaseRequestHandler):
    server: _DnsOverUdp

    def handle(self) -> None:
        data, answering = self.request
        answering.sendto(answer(self.server.net, self.server.address, data), self.client_address)


class _DnsOverTcp(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, net: Internet, address: str) -> None:
        self.net, self.address = net, address
        super().__init__((address, 53), _TcpQuestions)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients come and go."""


class _TcpQuestions(socketserver.StreamRequestHandler):
    server: _DnsOverTcp
    timeout = 30

    def handle(self) -> None:
        while len(head := self.rfile.read(2)) == 2:
            message = answer(self.server.net, self.server.address, self.rfile.read(struct.unpack("!H", head)[0]))
            self.wfile.write(struct.pack("!H", len(message)) + message)


def answer(net: Internet, resolver: str, wire: bytes) -> bytes:
    query = dns.message.from_wire(wire)
    response = dns.message.make_response(query, recursion_available=True)
    if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
        response.set_rcode(dns.rcode.NOTIMP)
        return response.to_wire()
    question = query.question[0]
    name = question.name.to_text(omit_final_dot=True).lower()
    net.queries.append((resolver, name, dns.rdatatype.to_text(question.rdtype)))
    address = NAMES.get(name)
    if address is None:
        response.set_rcode(dns.rcode.NXDOMAIN)
    elif question.rdtype == dns.rdatatype.A:
        response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", address))
    return response.to_wire()


# ---- certificates


def _tls(directory: Path, names: list[str]) -> ssl.SSLContext:
    """Of an authority that was made just now and is forgotten; its certificate stays in ca.pem while it is needed."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Atoll test internet")])

    def certificate(
        subject: x509.Name, public: ec.EllipticCurvePublicKey, is_authority: bool
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    root = certificate(authority, authority_key.public_key(), True).add_extension(usage, critical=True)
    leaf = certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "servers")]), key.public_key(), False)
    leaf = leaf.add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
    (directory / "ca.pem").write_bytes(
        root.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    (directory / "server.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + leaf.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    return context


def _alternative(name: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


__all__ = ["ATTACKER", "GATEWAY", "INTRANET", "METADATA", "NAMES", "PUBLIC", "RESOLVERS", "WEB", "Internet", "Request"]
