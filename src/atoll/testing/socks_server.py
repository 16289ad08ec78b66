"""A SOCKS5 server for tests: with or without a password, plain or in TLS. It dials what the test says it should.

server = SocksServer(("203.0.113.110", 1080), username="ann", password="secret", dial=net.dial)
server.requests     # [("example.com", 443)]: names as names, addresses as text
"""

from __future__ import annotations

import select
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any

from atoll.wire import socks5
from atoll.wire.socks5 import Method, Reply

PIECE = 64 * 1024
IDLE_S = 30.0

Dial = Callable[[str, int], socket.socket]


def dial_by_resolver(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), 5)


class SocksServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    def __init__(
        self,
        address: tuple[str, int],
        username: str = "",
        password: str = "",
        tls: ssl.SSLContext | None = None,
        dial: Dial = dial_by_resolver,
    ) -> None:
        self.username, self.password = username, password
        self.tls, self.dial = tls, dial
        self.requests: list[tuple[str, int]] = []
        self.refused = 0
        """Clients that did not say the right password."""
        self.answer_with: Reply | None = None
        """To every request, and nothing is dialled."""
        super().__init__(address, _Client)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        return thread

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's thread: a client that does not finish its handshake keeps nobody waiting."""
        if self.tls is None:
            super().finish_request(request, client_address)
        else:
            with self.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as encrypted:
                encrypted.settimeout(IDLE_S)
                encrypted.do_handshake()
                super().finish_request(encrypted, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients come and go."""


class _Client(socketserver.BaseRequestHandler):
    server: SocksServer

    def handle(self) -> None:
        self.request.settimeout(IDLE_S)
        if not self._greet():
            return
        host, port = self._asked()
        self.server.requests.append((host, port))
        if self.server.answer_with is not None:
            self.request.sendall(socks5.reply(self.server.answer_with))
            return
        try:
            dialled = self.server.dial(host, port)
        except ConnectionRefusedError:
            self.request.sendall(socks5.reply(Reply.REFUSED))
            return
        except OSError:
            self.request.sendall(socks5.reply(Reply.HOST_UNREACHABLE))
            return
        with dialled:
            self.request.sendall(socks5.reply(Reply.DONE, *dialled.getsockname()[:2]))
            _join(self.request, dialled)

    def _greet(self) -> bool:
        version, count = self._take(2)
        methods = self._take(count)
        wanted = Method.PASSWORD if self.server.username else Method.NONE
        if version != socks5.VERSION or wanted not in methods:
            self.request.sendall(bytes((socks5.VERSION, Method.REFUSED)))
            return False
        self.request.sendall(bytes((socks5.VERSION, wanted)))
        return wanted is Method.NONE or self._authenticate()

    def _authenticate(self) -> bool:
        self._take(1)
        username, password = (self._take(self._take(1)[0]).decode() for _ in range(2))
        good = (username, password) == (self.server.username, self.server.password)
        self.server.refused += not good
        self.request.sendall(bytes((socks5.PASSWORD_VERSION, 0 if good else 1)))
        return good

    def _asked(self) -> tuple[str, int]:
        _, command, _, kind, first = self._take(socks5.REPLY_HEAD + 1)
        assert command == socks5.CONNECT
        rest = self._take(socks5.address_length(kind, first))
        return socks5.decode_address(kind, bytes((first,)) + rest)

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.request.recv(count - len(data))
            if not more:
                raise ConnectionError("closed in the middle")
            data += more
        return data


def _join(one: socket.socket, other: socket.socket) -> None:
    """Until either has ended; a reset is passed on as one."""
    pairs = {one: other, other: one}
    open_ = set(pairs)
    try:
        while open_:
            pending = [each for each in open_ if isinstance(each, ssl.SSLSocket) and each.pending()]
            for source in pending or select.select(list(open_), [], [], IDLE_S)[0]:
                data = source.recv(PIECE)
                if data:
                    pairs[source].sendall(data)
                else:
                    open_.discard(source)
                    pairs[source].shutdown(socket.SHUT_WR)
    except ConnectionResetError:
        for each in pairs:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
