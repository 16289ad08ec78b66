from __future__ import annotations

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from atoll.edge.certificates import LIFE, RENEW_BEFORE, Files, ensure

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path / "tls")
    assert ensure(made, "d.test", "local", NOW)
    return made


def cert(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_what_is_good_is_kept(files):
    before = {path: path.read_bytes() for path in files.directory.iterdir()}
    assert not ensure(files, "d.test", "local", NOW + LIFE - RENEW_BEFORE - DAY)
    assert {path: path.read_bytes() for path in files.directory.iterdir()} == before


def test_before_its_end_the_certificate_is_renewed_by_the_same_authority(files):
    authority, old = files.ca.read_bytes(), cert(files.cert)
    assert ensure(files, "d.test", "local", NOW + LIFE - RENEW_BEFORE + DAY)
    assert files.ca.read_bytes() == authority
    assert cert(files.cert).not_valid_after_utc > old.not_valid_after_utc
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(files.cert, files.key)


def test_an_authority_near_its_end_is_replaced(files):
    authority = files.ca.read_bytes()
    assert ensure(files, "d.test", "local", NOW + datetime.timedelta(days=3649))
    assert files.ca.read_bytes() != authority


def test_another_domain_needs_another_authority_another_region_does_not(files):
    authority = files.ca.read_bytes()
    assert ensure(files, "d.test", "eu", NOW)
    assert files.ca.read_bytes() == authority
    assert ensure(files, "e.test", "eu", NOW)
    assert files.ca.read_bytes() != authority


@pytest.mark.parametrize("name", ["ca.pem", "ca.key", "cert.pem", "key.pem"])
def test_what_is_missing_or_broken_is_made_again(files, name):
    for hurt in (Path.unlink, lambda path: path.write_bytes(b"-----BEGIN"), lambda path: path.write_bytes(b"")):
        hurt(files.directory / name)
        assert ensure(files, "d.test", "local", NOW)
        assert not ensure(files, "d.test", "local", NOW)
        cert(files.cert).verify_directly_issued_by(cert(files.ca))


def test_keys_are_private_and_the_authority_is_not(files):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files.directory.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "cert.pem": 0o644, "key.pem": 0o600}


def test_the_authority_may_sign_for_the_installations_names_only(files):
    constraints = cert(files.ca).extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert [str(each.value) for each in constraints.value.permitted_subtrees or []] == [
        "d.test",
        "localhost",
        "127.0.0.0/8",
    ]
    basic = cert(files.ca).extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (basic.ca, basic.path_length) == (True, 0)
