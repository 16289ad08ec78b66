"""The edge's TLS context, from certificate files that may be replaced while it serves."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("atoll.edge.tls")

LOOK_EVERY_S = 5.0
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: forward secrecy and authenticated encryption only


class TlsSource:
    def __init__(self, cert: Path, key: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises when the files are no usable pair."""
        self._cert, self._key = cert, key
        self._clock = clock
        self._looked_at = clock()
        self._stamp = self._stamps()
        self._context = make_context(cert, key)

    def context(self) -> ssl.SSLContext:
        """The newest pair that works: a half-replaced one must not end the service."""
        now = self._clock()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._reload()
        return self._context

    def _reload(self) -> None:
        try:
            stamp = self._stamps()
            if stamp == self._stamp:
                return
            self._context = make_context(self._cert, self._key)
        except (OSError, ssl.SSLError) as error:
            log.warning("the changed certificate is not used: %s", error)
            return
        self._stamp = stamp
        log.info("the changed certificate is in use")

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        stats = [path.stat() for path in (self._cert, self._key)]
        return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in stats)


def make_context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.load_cert_chain(cert, key)
    return context
