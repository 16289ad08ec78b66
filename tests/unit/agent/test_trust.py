from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from atoll.agent.errors import AgentError
from atoll.agent.trust import ADDED_TO_LIST, BUNDLES, KEPT, MAX_BUNDLE, OWN_LIST, TrustStore

OURS = "-----BEGIN CERTIFICATE-----\nT3Vycw==\n-----END CERTIFICATE-----\n"
NEWER = "-----BEGIN CERTIFICATE-----\nTmV3ZXI=\n-----END CERTIFICATE-----\n"
PUBLIC = "-----BEGIN CERTIFICATE-----\nUHVibGlj\n-----END CERTIFICATE-----\n"
GIVEN = {"certificate": OURS, "hash": "0123abcd"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """As Debian has it."""
    (tmp_path / "etc/ssl/certs").mkdir(parents=True)
    (tmp_path / "etc/ssl/certs/ca-certificates.crt").write_text(PUBLIC)
    (tmp_path / "etc/ssl/certs/ca-certificates.crt").chmod(0o640)
    return tmp_path


def tree(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def bundle(root: Path) -> str:
    return (root / BUNDLES[0]).read_text()


def test_it_is_added_to_the_list_and_by_its_hash_and_where_the_systems_tool_looks(root):
    env = TrustStore(str(root)).add(GIVEN)
    assert bundle(root) == PUBLIC + OURS
    assert (root / "etc/ssl/certs/0123abcd.0").read_text() == OURS
    assert (root / KEPT).read_text() == OURS
    assert env == {ADDED_TO_LIST: f"/{KEPT}"} | dict.fromkeys(OWN_LIST, f"/{BUNDLES[0]}")
    assert stat.S_IMODE((root / BUNDLES[0]).stat().st_mode) == 0o640
    assert stat.S_IMODE((root / KEPT).stat().st_mode) == 0o644


def test_repeating_it_changes_nothing(root):
    first = TrustStore(str(root)).add(GIVEN)
    before = tree(root)
    assert TrustStore(str(root)).add(GIVEN) == first
    assert tree(root) == before


def test_removing_leaves_what_was_there(root):
    before = tree(root)
    TrustStore(str(root)).add(GIVEN)
    TrustStore(str(root)).remove()
    assert tree(root) == before
    TrustStore(str(root)).remove()
    assert tree(root) == before


def test_another_one_takes_the_place_of_the_last(root):
    TrustStore(str(root)).add(GIVEN)
    TrustStore(str(root)).add({"certificate": NEWER, "hash": "99999999"})
    assert bundle(root) == PUBLIC + NEWER
    assert not (root / "etc/ssl/certs/0123abcd.0").exists()
    assert (root / "etc/ssl/certs/99999999.0").read_text() == NEWER


def test_a_list_that_was_made_anew_by_the_systems_tool_is_cleaned_too(root):
    store = TrustStore(str(root))
    store.add(GIVEN)
    (root / BUNDLES[0]).write_text(OURS + PUBLIC)
    (root / "etc/ssl/certs/0123abcd.0").unlink()
    (root / "etc/ssl/certs/atoll-outbound-rules.pem").symlink_to(root / KEPT)
    (root / "etc/ssl/certs/0123abcd.0").symlink_to("atoll-outbound-rules.pem")
    store.remove()
    assert tree(root) == {BUNDLES[0]: PUBLIC}
    assert os.listdir(root / "etc/ssl/certs") == ["ca-certificates.crt"]


def test_a_certificate_of_another_with_the_same_hash_stays(root):
    (root / "etc/ssl/certs/0123abcd.0").write_text(PUBLIC)
    TrustStore(str(root)).add(GIVEN)
    assert (root / "etc/ssl/certs/0123abcd.0").read_text() == PUBLIC
    assert (root / "etc/ssl/certs/0123abcd.1").read_text() == OURS
    TrustStore(str(root)).remove()
    assert (root / "etc/ssl/certs/0123abcd.0").read_text() == PUBLIC
    assert not (root / "etc/ssl/certs/0123abcd.1").exists()


def test_where_no_list_is_one_is_made_and_nobody_is_told_to_use_it_instead_of_his_own(tmp_path):
    env = TrustStore(str(tmp_path)).add(GIVEN)
    assert bundle(tmp_path) == OURS
    assert env == {ADDED_TO_LIST: f"/{KEPT}"}
    TrustStore(str(tmp_path)).remove()
    assert tree(tmp_path) == {}


def test_lists_of_other_systems_are_found_and_links_between_them_are_one_list(tmp_path):
    (tmp_path / "etc/pki/tls/certs").mkdir(parents=True)
    (tmp_path / "etc/pki/ca-trust/source/anchors").mkdir(parents=True)
    (tmp_path / "etc/pki/ca-trust/extracted/pem").mkdir(parents=True)
    real = tmp_path / "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"
    real.write_text(PUBLIC.removesuffix("\n"))
    (tmp_path / "etc/pki/tls/certs/ca-bundle.crt").symlink_to("../../ca-trust/extracted/pem/tls-ca-bundle.pem")
    (tmp_path / "etc/ssl").mkdir()
    (tmp_path / "etc/ssl/cert.pem").symlink_to("../pki/ca-trust/extracted/pem/tls-ca-bundle.pem")
    env = TrustStore(str(tmp_path)).add(GIVEN)
    assert real.read_text() == PUBLIC + OURS
    assert (tmp_path / "etc/pki/ca-trust/source/anchors/atoll-outbound-rules.crt").read_text() == OURS
    assert (tmp_path / "etc/pki/tls/certs/ca-bundle.crt").is_symlink()
    assert env["SSL_CERT_FILE"] == "/etc/pki/tls/certs/ca-bundle.crt"


def test_a_fifo_a_directory_or_an_endless_file_in_the_place_of_a_list_holds_nobody_up(root):
    store, place = TrustStore(str(root)), root / BUNDLES[0]
    place.unlink()
    os.mkfifo(place)
    store.add(GIVEN)
    assert stat.S_ISFIFO(place.stat().st_mode)
    place.unlink()
    with place.open("wb") as file:
        file.truncate(MAX_BUNDLE + 1)
    store.add(GIVEN)
    assert place.stat().st_size == MAX_BUNDLE + 1
    place.unlink()
    place.mkdir()
    store.add(GIVEN)
    store.remove()


@pytest.mark.parametrize(
    "given",
    [
        None,
        {},
        {"certificate": OURS},
        {"certificate": OURS, "hash": "../../x"},
        {"certificate": OURS + PUBLIC, "hash": "0123abcd"},
        {"certificate": "-----BEGIN PRIVATE KEY-----\nT3Vycw==\n-----END PRIVATE KEY-----\n", "hash": "0123abcd"},
        {"certificate": OURS + "x" * 20_000, "hash": "0123abcd"},
    ],
)
def test_what_is_no_certificate_is_invalid_and_changes_nothing(root, given):
    before = tree(root)
    with pytest.raises(AgentError):
        TrustStore(str(root)).add(given)
    assert tree(root) == before


async def environment(agent: Any, **chosen: str) -> list[str]:
    """Of a program."""
    return (await agent.run("env", env=chosen)).stdout.decode().splitlines()


def told_where(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith((*OWN_LIST, ADDED_TO_LIST))]


async def test_it_comes_and_goes_by_its_route_and_programs_are_told_where_it_is(start_agent, root):
    agent = start_agent(trust_root=str(root))
    assert not told_where(await environment(agent))
    assert (await agent.request("PUT", "/trust", GIVEN)).status == 200
    lines = await environment(agent)
    assert f"SSL_CERT_FILE=/{BUNDLES[0]}" in lines
    assert f"NODE_EXTRA_CA_CERTS=/{KEPT}" in lines
    assert "SSL_CERT_FILE=/mine" in await environment(agent, SSL_CERT_FILE="/mine")
    shown = (await agent.request("GET", "/env")).json()["env"]
    assert not {"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"} & shown.keys()
    assert (await agent.request("DELETE", "/trust")).status == 200
    assert not told_where(await environment(agent))
    assert (await agent.request("PUT", "/trust", {"certificate": "x"})).status == 400


async def test_it_is_there_from_birth_or_gone_with_the_next_one_that_has_none(start_agent, root):
    first = start_agent(trust_root=str(root), trust=GIVEN)
    assert f"SSL_CERT_FILE=/{BUNDLES[0]}" in await environment(first)
    assert bundle(root) == PUBLIC + OURS
    second = start_agent(trust_root=str(root))
    assert not told_where(await environment(second))
    assert bundle(root) == PUBLIC


async def test_a_sandbox_whose_lists_cannot_be_changed_begins_all_the_same(start_agent, tmp_path):
    (tmp_path / "usr").write_text("no directory")
    agent = start_agent(trust_root=str(tmp_path), trust=GIVEN)
    assert (await agent.run("echo", "alive")).stdout == b"alive\n"


@pytest.mark.parametrize("more", [{"trust": GIVEN}, {}])
async def test_lists_behind_more_links_than_can_be_followed_keep_nobody_from_beginning(start_agent, root, more):
    TrustStore(str(root)).add(GIVEN)
    (root / BUNDLES[0]).unlink()
    for number in range(1500):
        (root / f"l{number}").symlink_to(f"l{number + 1}")
    (root / BUNDLES[0]).symlink_to(root / "l0")
    agent = start_agent(trust_root=str(root), **more)
    assert (await agent.run("echo", "alive")).stdout == b"alive\n"


async def test_an_ordinary_process_leaves_the_lists_of_its_caller_alone(start_agent):
    reply = await start_agent(trust=GIVEN).request("PUT", "/trust", GIVEN)
    assert (reply.status, reply.json()["kind"]) == (501, "unsupported")
