from __future__ import annotations

import datetime
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from atoll.egress import authority as module
from atoll.egress.authority import CA_LIFE, LIFE, MAX_CONTEXTS, RENEW_BEFORE, Authority

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime.datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    inner = server.wrap_bio(to_server, to_client, server_side=True)
    outer = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (outer, inner):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return outer


def test_it_is_made_once_and_its_key_is_for_nobody_else(tmp_path, clock):
    directory = tmp_path / "egress"
    first = Authority.ensure(directory, "1a2b3c4d", clock)
    again = Authority.ensure(directory, "1a2b3c4d", clock)
    assert first.certificate == again.certificate
    assert first.pem == (directory / "ca.pem").read_text()
    assert stat.S_IMODE((directory / "ca.key").stat().st_mode) == 0o600
    assert "1a2b3c4d" in first.certificate.subject.rfc4514_string()


@pytest.mark.parametrize("damage", ["ca.pem", "ca.key"])
def test_half_of_it_is_no_authority_so_another_is_made(tmp_path, clock, damage):
    first = Authority.ensure(tmp_path, "", clock)
    (tmp_path / damage).write_text("broken")
    second = Authority.ensure(tmp_path, "", clock)
    assert second.certificate != first.certificate
    assert Authority.ensure(tmp_path, "", clock).certificate == second.certificate


def test_a_key_of_another_is_noticed(tmp_path, clock):
    first = Authority.ensure(tmp_path / "a", "", clock)
    Authority.ensure(tmp_path / "b", "", clock)
    (tmp_path / "b/ca.key").rename(tmp_path / "a/ca.key")
    assert Authority.ensure(tmp_path / "a", "", clock).certificate != first.certificate


def test_it_is_made_anew_before_it_ends_before_a_certificate_of_its_own(tmp_path, clock):
    first = Authority.ensure(tmp_path, "", clock)
    clock.now = NOW + CA_LIFE - LIFE - datetime.timedelta(hours=1)
    assert Authority.ensure(tmp_path, "", clock).certificate == first.certificate
    clock.now = NOW + CA_LIFE - LIFE
    assert Authority.ensure(tmp_path, "", clock).certificate != first.certificate


def test_what_it_signs_is_short_lived_and_for_one_name(tmp_path, clock):
    leaf = Authority.ensure(tmp_path, "", clock).sign("api.example.com")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["api.example.com"]
    assert leaf.not_valid_after_utc - NOW == LIFE
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_openssl_takes_it_for_the_name_and_for_no_address(tmp_path):
    """With its strictest reading."""
    authority = Authority.ensure(tmp_path)

    def verified(leaf: x509.Certificate, *options: str) -> bool:
        (tmp_path / "leaf.pem").write_bytes(leaf.public_bytes(module.serialization.Encoding.PEM))
        argv = ("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(tmp_path / "ca.pem"))
        done = subprocess.run((*argv, *options, str(tmp_path / "leaf.pem")), capture_output=True, check=False)
        return done.returncode == 0

    leaf = authority.sign("api.example.com")
    assert verified(leaf, "-verify_hostname", "api.example.com")
    assert not verified(leaf, "-verify_hostname", "www.example.com")
    assert verified(authority.sign("a" * 63 + "." + "b" * 63 + ".example.com"))


def test_clients_that_trust_it_accept_what_it_serves_with_and_others_do_not(tmp_path):
    authority = Authority.ensure(tmp_path)
    client = ssl.create_default_context(cadata=authority.pem)
    client.set_alpn_protocols(["h2", "http/1.1"])
    done = handshake(authority.context("api.example.com"), client, "api.example.com")
    assert done.selected_alpn_protocol() == "http/1.1"
    assert done.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(authority.context("api.example.com"), client, "www.example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(authority.context("api.example.com"), ssl.create_default_context(), "api.example.com")


def test_it_may_not_sign_for_addresses(tmp_path, monkeypatch):
    authority = Authority.ensure(tmp_path)
    address = x509.IPAddress(module.ipaddress.ip_address("203.0.113.7"))
    monkeypatch.setattr(module.x509, "DNSName", lambda name: address)
    context = authority.context("203.0.113.7")
    monkeypatch.undo()
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(permitted|excluded) subtree"):
        handshake(context, ssl.create_default_context(cadata=authority.pem), "203.0.113.7")


def test_a_context_is_kept_until_its_certificate_is_near_its_end(tmp_path, clock):
    authority = Authority.ensure(tmp_path, "", clock)
    first = authority.context("a.example.com")
    clock.now = NOW + LIFE - RENEW_BEFORE - datetime.timedelta(seconds=1)
    assert authority.context("a.example.com") is first
    clock.now = NOW + LIFE - RENEW_BEFORE
    assert authority.context("a.example.com") is not first


def test_the_least_used_contexts_go_first(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(module, "MAX_CONTEXTS", 3)
    assert MAX_CONTEXTS > 3
    authority = Authority.ensure(tmp_path, "", clock)
    kept = {name: authority.context(f"{name}.example.com") for name in "abc"}
    authority.context("a.example.com")
    authority.context("d.example.com")
    assert authority.context("a.example.com") is kept["a"]
    assert authority.context("b.example.com") is not kept["b"]


def test_the_private_key_is_not_where_it_could_be_read(tmp_path):
    authority = Authority.ensure(tmp_path)
    authority.context("api.example.com")
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["ca.key", "ca.pem"]
    assert "PRIVATE" not in authority.pem
