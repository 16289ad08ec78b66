"""A connection through a SOCKS5 server: what `egress_proxy` of a policy asks for.

The server is somebody's machine, dialled with the same care as any other (`dial` refuses what is never reachable). The
name goes to it as a name when the connection has one. A failure says what the server said; of the username, the
password and the certificate nothing is said to anybody.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable

from atoll.core.errors import Unavailable
from atoll.core.policy import EgressProxy
from atoll.wire import socks5
from atoll.wire.socks5 import SocksError

from .streams import PlainStream, Stream, TlsStream, read_exactly, trusting

ANSWER_S = 20.0  # from the connection to the proxy to the one that it made

Dial = Callable[[str, int], Awaitable[socket.socket]]


async def connect(
    proxy: EgressProxy, host: str, port: int, dial: Dial, authorities: ssl.SSLContext | None = None
) -> Stream:
    """Open to `host`, an address or a name. `Unavailable` with the reason when it is not; errors of `dial` pass.

    `authorities`: whom to believe about a proxy's certificate when it brings no `ca_cert`."""
    try:
        tls = _context(proxy, authorities) if proxy.tls else None
    except SocksError as error:
        raise _unavailable(proxy, str(error)) from None
    stream: Stream = PlainStream(await dial(proxy.host, proxy.port))
    try:
        async with asyncio.timeout(ANSWER_S):
            if tls is not None:
                stream = TlsStream(stream, tls, proxy.server_name or proxy.host)
                await stream.handshake()
            await _ask(stream, proxy, host, port)
    except BaseException as error:
        stream.abort()
        if (why := _reason(error)) is not None:
            raise _unavailable(proxy, why) from None
        raise
    return stream


def _unavailable(proxy: EgressProxy, why: str) -> Unavailable:
    return Unavailable(f"the egress proxy {proxy.address} does not connect: {why}")


async def _ask(stream: Stream, proxy: EgressProxy, host: str, port: int) -> None:
    with_password = bool(proxy.username)
    await stream.write(socks5.greeting(with_password))
    socks5.chosen_method(await read_exactly(stream, 2), with_password)
    if with_password:
        await stream.write(socks5.credentials(proxy.username, proxy.password))
        socks5.password_verdict(await read_exactly(stream, 2))
    await stream.write(socks5.connect_request(host, port))
    head = await read_exactly(stream, socks5.REPLY_HEAD)
    socks5.reply_verdict(head)
    kind, first = head[3], await read_exactly(stream, 1)
    await read_exactly(stream, socks5.address_length(kind, first[0]))


def _context(proxy: EgressProxy, authorities: ssl.SSLContext | None) -> ssl.SSLContext:
    if not proxy.ca_cert:
        return authorities or trusting()
    try:
        return trusting(only=proxy.ca_cert)
    except (ssl.SSLError, ValueError):
        raise SocksError("its ca_cert is not a certificate in PEM") from None


def _reason(error: BaseException) -> str | None:
    """None: it says itself, or is no failure."""
    if isinstance(error, SocksError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS"
    if isinstance(error, OSError):
        return error.strerror or "it closed the connection"
    return None
