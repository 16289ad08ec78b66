from __future__ import annotations

import subprocess

import pytest

from atoll.core.errors import Unavailable
from atoll.core.policy import OPEN, parse
from atoll.egress.authority import Authority, make, now_utc
from atoll.node import trust

RULES = parse({"rules": {"api.example.com": [{"transform": {"headers": {"X-Key": "secret"}}}]}})


@pytest.mark.parametrize("label", ["", "1a2b3c4d", "Some  One's\tLab", "x" * 80])
def test_the_hash_is_openssls(label):
    authority = Authority(*make(label, now_utc()))
    said = subprocess.run(
        ["openssl", "x509", "-noout", "-subject_hash"], input=authority.pem, capture_output=True, text=True, check=True
    )
    assert trust.subject_hash(authority.certificate) == said.stdout.strip()


def test_only_a_policy_with_header_rules_needs_it(tmp_path):
    authority = Authority.ensure(tmp_path)
    assert trust.for_policy(OPEN, tmp_path / "ca.pem") is None
    assert trust.for_policy(OPEN, tmp_path / "missing.pem") is None
    assert trust.for_policy(RULES, tmp_path / "ca.pem") == {
        "certificate": authority.pem,
        "hash": trust.subject_hash(authority.certificate),
    }


def test_where_nothing_sets_headers_there_is_no_authority(tmp_path):
    assert trust.for_policy(RULES, tmp_path / "missing.pem") is None


def test_a_broken_one_is_said(tmp_path):
    (tmp_path / "broken.pem").write_text("no certificate")
    with pytest.raises(Unavailable):
        trust.for_policy(RULES, tmp_path / "broken.pem")
