"""An installation's own certificate authority, and the certificate for its names.

    DIR/ca.pem      what clients are told to trust       DIR/ca.key     0600
    DIR/cert.pem    for the domain and all below it      DIR/key.pem    0600

The authority may sign for the installation's own names only, so trusting it lends nobody the power over another name.
No address is in the certificate: BoringSSL, and so every client of gRPC, cannot judge one by an authority's constraints
and refuses the certificate for its names too.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFE = datetime.timedelta(days=3650)
LIFE = datetime.timedelta(days=397)  # the longest that every client accepts
RENEW_BEFORE = datetime.timedelta(days=30)
BACKDATED = datetime.timedelta(hours=1)  # for clients whose clock is behind
LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Files:
    directory: Path

    @property
    def ca(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def ca_key(self) -> Path:
        return self.directory / "ca.key"

    @property
    def cert(self) -> Path:
        return self.directory / "cert.pem"

    @property
    def key(self) -> Path:
        return self.directory / "key.pem"


def ensure(files: Files, domain: str, region: str, now: datetime.datetime) -> bool:
    """Makes what is missing, for other names or near its end. Whether anything was made."""
    names = (domain, f"*.{domain}", f"*.{region}.{domain}", "localhost")
    authority = _load_authority(files, domain, now)
    if authority is not None and _is_good(files, authority[0], names, now):
        return False
    files.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    if authority is None:
        authority = _make_authority(domain, now)
        _write(files.ca_key, _private(authority[1]), 0o600)
        _write(files.ca, _public(authority[0]), 0o644)
    key = ec.generate_private_key(ec.SECP256R1())
    cert = _sign(authority, key, names, now)
    _write(files.key, _private(key), 0o600)
    _write(files.cert, _public(cert) + _public(authority[0]), 0o644)
    return True


def _load_authority(files: Files, domain: str, now: datetime.datetime) -> tuple[x509.Certificate, Key] | None:
    try:
        cert = x509.load_pem_x509_certificate(files.ca.read_bytes())
        key = serialization.load_pem_private_key(files.ca_key.read_bytes(), None)
        allowed = cert.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    except (OSError, ValueError, x509.ExtensionNotFound):
        return None
    good = (
        isinstance(key, ec.EllipticCurvePrivateKey)
        and key.public_key() == cert.public_key()
        and x509.DNSName(domain) in allowed
        and now + LIFE < cert.not_valid_after_utc
    )
    return (cert, key) if good and isinstance(key, ec.EllipticCurvePrivateKey) else None


def _is_good(files: Files, ca: x509.Certificate, names: Sequence[str], now: datetime.datetime) -> bool:
    try:
        cert = x509.load_pem_x509_certificate(files.cert.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), None)
        cert.verify_directly_issued_by(ca)
        given = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    except Exception:  # InvalidSignature, of an authority that was replaced
        return False
    same = [*given] == [*map(x509.DNSName, names)]
    return same and key.public_key() == cert.public_key() and now + RENEW_BEFORE < cert.not_valid_after_utc


def _make_authority(domain: str, now: datetime.datetime) -> tuple[x509.Certificate, Key]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Atoll {domain}"[:64])])
    permitted: list[x509.GeneralName] = [x509.DNSName(domain), x509.DNSName("localhost"), x509.IPAddress(LOOPBACK)]
    cert = (
        _builder(name, name, key, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return cert, key


def _sign(
    authority: tuple[x509.Certificate, Key], key: Key, names: Sequence[str], now: datetime.datetime
) -> x509.Certificate:
    ca, ca_key = authority
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    return (
        _builder(subject, ca.subject, key, now, LIFE)
        .add_extension(x509.SubjectAlternativeName([*map(x509.DNSName, names)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


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


def _public(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)


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
