"""SOCKS5 (RFC 1928) with a username and password (RFC 1929): messages of both sides. Pure.

Each message says how long it is as it is read, so a reader asks for exactly as much: what follows the last one belongs
to the connection that was asked for.
"""

from __future__ import annotations

import ipaddress
import struct
from enum import IntEnum

VERSION, PASSWORD_VERSION = 5, 1
CONNECT = 1
MAX_FIELD = 255
REPLY_HEAD = 4


class Method(IntEnum):
    NONE = 0
    PASSWORD = 2
    REFUSED = 0xFF


class Kind(IntEnum):
    IPV4 = 1
    NAME = 3
    IPV6 = 4


class Reply(IntEnum):
    DONE = 0
    FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    EXPIRED = 6
    NO_COMMAND = 7
    NO_KIND = 8


MEANING = {
    Reply.FAILURE: "a general failure",
    Reply.NOT_ALLOWED: "not allowed by its rules",
    Reply.NETWORK_UNREACHABLE: "the network is unreachable",
    Reply.HOST_UNREACHABLE: "the host is unreachable",
    Reply.REFUSED: "the connection was refused",
    Reply.EXPIRED: "the time to live expired",
    Reply.NO_COMMAND: "it does not support CONNECT",
    Reply.NO_KIND: "it does not support this kind of address",
}


class SocksError(ValueError):
    """The peer does not speak SOCKS5, or not so that it helps; the message is safe to show."""


# ---- what a client says


def greeting(password: bool) -> bytes:
    """Only what we want: a server that could choose to ask for nothing would get what is for nobody."""
    return bytes((VERSION, 1, Method.PASSWORD if password else Method.NONE))


def credentials(username: str, password: str) -> bytes:
    """Raises SocksError when they do not fit; it does not say them. An empty password is beyond the RFC and in use:
    then the username is the secret."""
    fields = [text.encode() for text in (username, password)]
    if not username or not all(len(field) <= MAX_FIELD for field in fields):
        raise SocksError("a username has 1 to 255 bytes, a password at most 255")
    return bytes((PASSWORD_VERSION,)) + b"".join(bytes((len(field),)) + field for field in fields)


def connect_request(host: str, port: int) -> bytes:
    """`host`: an address, or a name that the server resolves."""
    return bytes((VERSION, CONNECT, 0)) + encode_address(host) + struct.pack("!H", port)


def encode_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("ascii", "strict")
        if not 0 < len(name) <= MAX_FIELD:
            raise SocksError("a name has 1 to 255 bytes") from None
        return bytes((Kind.NAME, len(name))) + name
    return bytes((Kind.IPV4 if address.version == 4 else Kind.IPV6,)) + address.packed


# ---- what a server says


def chosen_method(raw: bytes, password: bool) -> None:
    """Two bytes. Raises SocksError when it is not the one that was offered."""
    version, method = raw
    if version != VERSION:
        raise SocksError("it does not speak SOCKS5")
    if method == Method.REFUSED:
        raise SocksError("it wants a username and a password" if not password else "it takes no username and password")
    if method != (Method.PASSWORD if password else Method.NONE):
        raise SocksError("it chose an authentication that was not offered")


def password_verdict(raw: bytes) -> None:
    """Two bytes."""
    if raw[0] != PASSWORD_VERSION:
        raise SocksError("it does not speak SOCKS5")
    if raw[1] != 0:
        raise SocksError("the username or password is wrong")


def reply_verdict(head: bytes) -> None:
    """The first four bytes. Raises SocksError with what a failure means."""
    if head[0] != VERSION or head[2] != 0:
        raise SocksError("it does not speak SOCKS5")
    code = head[1]
    if code != Reply.DONE:
        known = code in Reply.__members__.values()
        raise SocksError(MEANING[Reply(code)] if known else f"an unknown failure, {code}")


def address_length(kind: int, first: int) -> int:
    """How many bytes of an address, port included, follow its kind and its first byte."""
    lengths = {Kind.IPV4: 3, Kind.IPV6: 15, Kind.NAME: first}
    if kind not in lengths:
        raise SocksError("an unknown kind of address")
    return lengths[Kind(kind)] + 2


def decode_address(kind: int, raw: bytes) -> tuple[str, int]:
    """`raw`: from its first byte to the port's last."""
    (port,) = struct.unpack("!H", raw[-2:])
    if kind == Kind.NAME:
        return raw[1:-2].decode("latin-1"), port
    return str(ipaddress.ip_address(raw[:-2])), port


def reply(code: Reply, host: str = "0.0.0.0", port: int = 0) -> bytes:  # noqa: S104  # no listener: what servers say
    return bytes((VERSION, code, 0)) + encode_address(host) + struct.pack("!H", port)
