"""Novita's volumes, mounted while a sandbox runs, and its secrets."""

from __future__ import annotations

import e2b
import pytest
from place import PLACE
from talk import IMPOSSIBLE_ID, URL, said
from waiting import until

covers = pytest.mark.covers


@pytest.fixture
def volume(volumes, named):
    made = volumes.create(named("vol"), quota_size_gib=1)
    yield made
    volumes.destroy(made.volume_id)


# ---- volumes


@covers("Volume.create", "Volume.get_info", "Volume.list", "21.4 a volume's quota in GiB, and what is used of it")
def test_a_volume_has_a_quota(volume, volumes):
    other = volumes.create("x" + volume.name, quota_size_gib=3)
    assert volumes.get_info(other.volume_id).quota_size_gib == 3
    assert volumes.destroy(other.volume_id) is True
    info = volumes.get_info(volume.volume_id)
    assert (info.volume_id, info.name, info.quota_size_gib) == (volume.volume_id, volume.name, 1)
    assert info.token
    assert 0 <= info.used_size_bytes < 1 << 30
    (listed,) = [each for each in volumes.list() if each.volume_id == volume.volume_id]
    assert (listed.name, listed.quota_size_gib) == (volume.name, 1)
    assert 0 <= listed.used_size_bytes < 1 << 30


@covers("VolumeInfo.quota_inodes", "Volume.create", "Volume.update_quota")
def test_a_quota_of_files(volumes, named):
    made = volumes.create(named("vol"), quota_size_gib=1, quota_inodes=20_000)
    for info in (volumes.get_info(made.volume_id), *(each for each in volumes.list() if each.name == made.name)):
        assert info.quota_inodes >= 20_000
        assert 0 <= info.used_inodes < 20_000
    assert volumes.update_quota(made.volume_id, quota_size_gib=2, quota_inodes=40_000).quota_inodes >= 40_000
    volumes.destroy(made.volume_id)


@covers("Volume.update_quota", "21.4 PATCH /volumes/{id}: another quota")
def test_a_quota_is_raised(volume, volumes):
    assert volumes.update_quota(volume.volume_id, quota_size_gib=2).quota_size_gib == 2
    assert volumes.update_quota(volume_id=volume.volume_id).quota_size_gib == 2
    assert volumes.get_info(volume.volume_id).quota_size_gib == 2
    with pytest.raises(e2b.NotFoundException):
        volumes.update_quota("no-such-volume", 3)


@covers("Sandbox.mount_volume", "Sandbox.unmount_volume", "21.4 volumes are mounted and unmounted while it runs")
def test_a_volume_is_mounted_while_it_runs(own, volume):
    first, second = own(), own()
    for made in (first, second):
        assert made.mount_volume(name=volume.name, path="/mnt/late")
        assert made.get_info().volume_mounts == [{"name": volume.name, "path": "/mnt/late"}]
    first.files.write("/mnt/late/seen", "by both")
    assert second.files.read("/mnt/late/seen") == "by both"
    assert first.unmount_volume(path="/mnt/late")
    assert first.get_info().volume_mounts == []
    assert said(first, "ls -A /mnt/late 2>/dev/null | wc -l") == "0"
    program = second.commands.run("cd /mnt/late && exec sleep 1000", background=True)
    until(lambda: said(second, f"readlink /proc/{program.pid}/cwd") == "/mnt/late", "it works there")
    assert second.unmount_volume("/mnt/late", force=True)
    assert second.get_info().volume_mounts == []
    assert program.kill()  # a volume in which a program still works is not deleted


@covers("21.4 mounts that are refused: unknown volumes and sandboxes")
def test_mounts_that_are_refused(own, volume, client):
    made = own()
    with pytest.raises(e2b.SandboxException):
        made.mount_volume("no-such-volume", "/mnt/x")
    with pytest.raises(e2b.SandboxException):
        made.unmount_volume("/mnt/never")
    made.kill()
    with pytest.raises(e2b.NotFoundException):
        made.mount_volume(volume.name, "/mnt/x")
    with pytest.raises(e2b.NotFoundException):
        client.get_info(IMPOSSIBLE_ID)


# ---- secrets


@covers(
    "Secret.create",
    "Secret.get",
    "Secret.list",
    "Secret.update",
    "Secret.delete",
    "SecretBinding.name",
    "21.4 secrets: a placeholder and hosts, never the value",
)
def test_a_secret_is_kept_and_never_shown(secrets, named):
    account = {"api_key": PLACE["key"], "api_url": URL, "domain": "sandboxes.example.com", "request_timeout": 30}
    name = named("key")
    made = secrets.create(name=name, value="hush", hosts=["api.example.com"], description="mine", **account)
    assert (made.name, made.hosts, made.description) == (name, ["api.example.com"], "mine")
    assert made.has_secret is True
    assert made.status == "active"
    assert made.updated_at
    assert made.placeholder
    assert "hush" not in repr(made)
    found = secrets.get(name=name, **account)
    assert found == made
    assert [each.hosts for each in secrets.list(**account) if each.name == name] == [["api.example.com"]]
    changed = secrets.update(name=name, value="hush hush", hosts=["*.example.com"], description="yours", **account)
    assert (changed.hosts, changed.description, changed.placeholder) == (["*.example.com"], "yours", made.placeholder)
    assert secrets.delete(name=name, **account) == name
    with pytest.raises(e2b.SandboxException, match="404"):
        secrets.get(name)


@covers("Sandbox.create", "21.3 secrets in the environment are placeholders")
def test_a_sandbox_has_the_placeholder_in_its_environment(own, secrets, named):
    made = secrets.create(name=named("key"), value="hush", hosts=["api.example.com"])
    sandbox = own(secret_envs={"API_KEY": made.name})
    assert said(sandbox, "echo $API_KEY") == made.placeholder
    assert "hush" not in said(sandbox, "env; cat /proc/1/environ | tr '\\0' '\\n' || true", user="root")
    secrets.delete(made.name)


@pytest.mark.refused
@covers("21.3 a secret that is not there: a refusal that names it")
def test_a_sandbox_with_a_secret_that_is_not_there(client):
    with pytest.raises(e2b.SandboxException, match="no-such-secret"):
        client.create(secret_envs={"API_KEY": "no-such-secret"})
