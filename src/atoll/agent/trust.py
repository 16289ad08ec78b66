"""One more authority in the sandbox's own lists of those that it trusts, and away again.

Programs look in three places: a file with all authorities (curl, git, most of OpenSSL's users), a directory with one
file for each, named by the hash of its subject (OpenSSL, so Python), or a list that they bring along (requests, Node).
So the certificate goes into the first two, and variables say where the file is to those of the third kind that ask.
`KEPT` is where the systems' own tools look when they make the first two anew, and how we know what we added.

Everything here is the sandbox's and may be anything: files are opened as files, and not beyond a size.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from .env import Env
from .errors import AgentError, Kind, invalid
from .files import end_of_links, open_regular

KEPT = "usr/local/share/ca-certificates/atoll-outbound-rules.crt"
ANCHORS = ("etc/pki/ca-trust/source/anchors", "etc/ca-certificates/trust-source/anchors", "etc/pki/trust/anchors")
"""What Fedora's, Arch's and SUSE's tools look in beside it, where they are."""
BUNDLES = (
    "etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "etc/ssl/ca-bundle.pem",  # SUSE
    "etc/ssl/cert.pem",
)
HASHED = ("etc/ssl/certs", "etc/pki/tls/certs")
MAX_BUNDLE = 4 * 1024 * 1024  # Debian's has 220 KiB
MAX_CERTIFICATE = 16 * 1024
MAX_SAME_HASH = 10
MAX_NAMES = 10_000
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+\n-----END CERTIFICATE-----\n")
_HASH = re.compile(r"[0-9a-f]{8}")
_LIKE_OURS = re.compile(r"[0-9a-f]{8}\.[0-9]|atoll-outbound-rules\.pem")
"""The second is a link that Debian's tool makes."""
_BEGIN = b"-----BEGIN CERTIFICATE-----"

OWN_LIST = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "PIP_CERT")
"""These replace the list that a program brings along, so they are for a file that has the public authorities too."""
ADDED_TO_LIST = "NODE_EXTRA_CA_CERTS"


class TrustStore:
    def __init__(self, root: str = "/") -> None:
        self._root = root

    def add(self, given: object) -> Env:
        """What programs should have in their environment. Repeating it changes nothing; another certificate takes the
        place of the last one."""
        certificate, subject_hash = _checked(given)
        if self._read(KEPT, MAX_CERTIFICATE) != certificate:
            self.remove()
        self._write(KEPT, certificate)  # first: from here on we know what to take away
        for directory in ANCHORS:
            if os.path.isdir(self._path(directory)):
                self._write(f"{directory}/{os.path.basename(KEPT)}", certificate)
        bundles = list(self._bundles()) or [BUNDLES[0]]
        for bundle in bundles:
            self._append(bundle, certificate)
        for directory in HASHED:
            if os.path.isdir(self._path(directory)):
                self._write(self._hashed(directory, subject_hash, certificate), certificate)
        return self._variables(bundles[0], certificate)

    def remove(self) -> None:
        certificate = self._read(KEPT, MAX_CERTIFICATE)
        if not certificate:
            return
        for bundle in self._bundles():
            self._cut(bundle, certificate)
        for directory in HASHED:
            for name in self._names(directory):
                if _LIKE_OURS.fullmatch(name) and self._read(f"{directory}/{name}", MAX_CERTIFICATE) == certificate:
                    self._unlink(f"{directory}/{name}")
        for directory in ANCHORS:
            self._unlink(f"{directory}/{os.path.basename(KEPT)}")
        self._unlink(KEPT)

    # ---- steps

    def _bundles(self) -> Iterator[str]:
        """Those that are there, each once: some are links to others."""
        seen: set[str] = set()
        for bundle in BUNDLES:
            real = end_of_links(self._path(bundle))
            if os.path.isfile(real) and real not in seen:
                seen.add(real)
                yield bundle

    def _append(self, bundle: str, certificate: bytes) -> None:
        content = self._read(bundle, MAX_BUNDLE)
        if content is None:
            if os.path.lexists(self._path(bundle)):
                return  # too large or no file: not a list of authorities
            content = b""
        if certificate not in content:
            gap = b"\n" if content and not content.endswith(b"\n") else b""
            self._write(bundle, content + gap + certificate)

    def _cut(self, bundle: str, certificate: bytes) -> None:
        content = self._read(bundle, MAX_BUNDLE)
        if content is None or certificate not in content:
            return
        left = content.replace(certificate, b"")
        self._write(bundle, left) if left else self._unlink(bundle)

    def _hashed(self, directory: str, subject_hash: str, certificate: bytes) -> str:
        """A free name, or the one where it is already."""
        for number in range(MAX_SAME_HASH):
            name = f"{directory}/{subject_hash}.{number}"
            if not os.path.lexists(self._path(name)) or self._read(name, MAX_CERTIFICATE) == certificate:
                return name
        raise AgentError(Kind.TOO_MANY, f"{directory} has too many authorities of one name")

    def _variables(self, bundle: str, certificate: bytes) -> Env:
        others = (self._read(bundle, MAX_BUNDLE) or b"").replace(certificate, b"")
        env = {ADDED_TO_LIST: f"/{KEPT}"}
        if _BEGIN in others:
            env |= dict.fromkeys(OWN_LIST, f"/{bundle}")
        return env

    # ---- files

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name)

    def _names(self, directory: str) -> list[str]:
        with suppress(OSError), os.scandir(self._path(directory)) as entries:
            return [entry.name for entry in islice(entries, MAX_NAMES)]
        return []

    def _read(self, name: str, most: int) -> bytes | None:
        """None: it is not there, is no file, or is larger."""
        try:
            fd = open_regular(self._path(name), os.O_RDONLY)
        except (OSError, AgentError):
            return None
        with os.fdopen(fd, "rb") as file:
            content = file.read(most + 1)
        return content if len(content) <= most else None

    def _write(self, name: str, content: bytes) -> None:
        """In the place of what was there, with its owner and mode: nobody reads half of it."""
        path = end_of_links(self._path(name))
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        staging = f"{path}.atoll"
        with suppress(FileNotFoundError):
            os.unlink(staging)
        fd = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                mode = 0o644
                with suppress(FileNotFoundError):
                    old = os.stat(path)
                    mode = old.st_mode & 0o777
                    os.fchown(fd, old.st_uid, old.st_gid)
                os.fchmod(fd, mode)
                file.write(content)
            os.rename(staging, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(staging)
            raise

    def _unlink(self, name: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(self._path(name))


def _checked(given: object) -> tuple[bytes, str]:
    if not isinstance(given, dict):
        raise invalid("an authority is an object with a certificate and a hash")
    certificate, subject_hash = given.get("certificate"), given.get("hash")
    if (
        not isinstance(certificate, str)
        or len(certificate) > MAX_CERTIFICATE
        or not _CERTIFICATE.fullmatch(certificate)
    ):
        raise invalid("certificate is one certificate in PEM")
    if not isinstance(subject_hash, str) or not _HASH.fullmatch(subject_hash):
        raise invalid("hash is that of the certificate's subject, 8 hexadecimal digits")
    return certificate.encode(), subject_hash
