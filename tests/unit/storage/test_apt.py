from __future__ import annotations

import pytest

from atoll.core.errors import Unsupported
from atoll.storage import apt


def test_sources_without_entries_are_passed_over(tmp_path):
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("# moved\n\n")
    (parts / "a.list").write_text("deb file:/a stable main\n")
    (parts / "b.sources").write_text("Types: deb\n")
    (parts / "c.list.disabled").write_text("deb file:/c stable main\n")
    assert apt.source_files(tmp_path) == [parts / "a.list", parts / "b.sources"]


def test_a_host_without_sources_is_refused(tmp_path):
    with pytest.raises(Unsupported):
        apt.source_files(tmp_path)


def test_transport_settings_are_carried_and_hooks_are_not():
    dump = [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::Check-Date "false";',
        'Acquire::http "";',
        'APT::Update::Post-Invoke:: "rm -rf /";',
        'DPkg::Pre-Install-Pkgs:: "/usr/sbin/dpkg-preconfigure";',
        'Dir::Etc::sourcelist "sources.list";',
    ]
    assert apt.carried_options(dump) == dump[:2]


def test_the_release_is_the_hosts():
    assert apt.codename({"VERSION_CODENAME": '"bookworm"'}) == "bookworm"
    with pytest.raises(Unsupported):
        apt.codename({"ID": "arch"})
