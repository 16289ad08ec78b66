"""ClientHellos as clients write them, and as none would."""

from __future__ import annotations

import ssl
from contextlib import suppress


def vector(width: int, content: bytes) -> bytes:
    return len(content).to_bytes(width, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, content)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def alpn(*protocols: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, each) for each in protocols)))


def message(
    *extensions: bytes,
    version: bytes = b"\x03\x03",
    session: bytes = b"",
    ciphers: bytes = b"\x13\x01",
    compressions: bytes = b"\x00",
    without_extensions: bool = False,
) -> bytes:
    body = version + bytes(32) + vector(1, session) + vector(2, ciphers) + vector(1, compressions)
    if not without_extensions:
        body += vector(2, b"".join(extensions))
    return b"\x01" + vector(3, body)


def records(handshake: bytes, *sizes: int, version: bytes = b"\x03\x01") -> bytes:
    """In records of these sizes, the rest in one."""
    pieces, at = [], 0
    for size in (*sizes, len(handshake)):
        if handshake[at : at + size] or at == 0:
            pieces.append(b"\x16" + version + vector(2, handshake[at : at + size]))
        at += size
    return b"".join(pieces)


def hello_of_python(name: str | None, *protocols: str, **settings: object) -> bytes:
    """What OpenSSL sends."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    for setting, value in settings.items():
        setattr(context, setting, value)
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()
