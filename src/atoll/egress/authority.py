"""The installation's authority for names that have header rules, and certificates for such names on demand.

    DATA/egress/ca.pem      what sandboxes with rules are told to trust      DATA/egress/ca.key      0600

Only this process reads the key. Which names rules will have nobody knows beforehand, so the authority is not bound to
some; it can sign for names only (no address), for servers only, and no further authority. All certificates share one
key that lives in this process's memory, so one costs a signature.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFE = datetime.timedelta(days=3650)
LIFE = datetime.timedelta(days=7)
RENEW_BEFORE = datetime.timedelta(days=2)
BACKDATED = datetime.timedelta(hours=1)
MAX_CONTEXTS = 1024
"""Of the names served last; a context is some tens of KiB."""
EVERY_ADDRESS = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: forward secrecy and authenticated encryption only

Key = ec.EllipticCurvePrivateKey
Clock = Callable[[], datetime.datetime]


@dataclass(frozen=True)
class Files:
    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def key(self) -> Path:
        return self.directory / "ca.key"


def now_utc() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Authority:
    def __init__(self, certificate: x509.Certificate, key: Key, clock: Clock = now_utc) -> None:
        self.certificate = certificate
        self._key = key
        self._clock = clock
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: OrderedDict[str, tuple[datetime.datetime, ssl.SSLContext]] = OrderedDict()

    @classmethod
    def ensure(cls, directory: Path, label: str = "", clock: Clock = now_utc) -> Authority:
        """The kept one; one that is missing, broken or near its end is made anew. `label` tells people whose it is."""
        files = Files(directory)
        kept = _load(files, clock())
        if kept is None:
            kept = make(label, clock())
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(files.key, _private(kept[1]), 0o600)
            _write(files.certificate, _public(kept[0]), 0o644)
        return cls(*kept, clock)

    @property
    def pem(self) -> str:
        return _public(self.certificate).decode()

    def context(self, name: str) -> ssl.SSLContext:
        """For serving as `name`: TLS 1.2 and later, HTTP/1.1."""
        now = self._clock()
        known = self._contexts.get(name)
        if known is not None and now + RENEW_BEFORE < known[0]:
            self._contexts.move_to_end(name)
            return known[1]
        leaf = self.sign(name)
        context = _serving(_public(leaf) + _private(self._leaf_key))
        self._contexts[name] = (leaf.not_valid_after_utc, context)
        self._contexts.move_to_end(name)
        while len(self._contexts) > MAX_CONTEXTS:
            self._contexts.popitem(last=False)
        return context

    def sign(self, name: str) -> x509.Certificate:
        now = self._clock()
        return (
            _builder(_named(name), self.certificate.subject, self._leaf_key, now, LIFE)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def make(label: str, now: datetime.datetime) -> tuple[x509.Certificate, Key]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named(f"Atoll outbound rules {label}".strip())
    no_address: list[x509.GeneralName] = [x509.IPAddress(network) for network in EVERY_ADDRESS]
    certificate = (
        _builder(name, name, key, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.NameConstraints(None, no_address), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _load(files: Files, now: datetime.datetime) -> tuple[x509.Certificate, Key] | None:
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return (certificate, key) if now + LIFE < certificate.not_valid_after_utc else None


def _serving(pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols(["http/1.1"])
    file = os.memfd_create("leaf", os.MFD_CLOEXEC)  # `ssl` reads keys from files only, and this one never lies in any
    try:
        os.write(file, pem)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    return context


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, now: datetime.datetime, life: datetime.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Appears complete, and with its mode from the beginning."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    staging.unlink(missing_ok=True)
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    staging.rename(path)
