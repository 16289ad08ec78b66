"""Real builds of a tiny template. They need root, mmdebstrap and the host's package sources."""

from __future__ import annotations

import os
import select
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.storage import apt, templates
from atoll.storage.spec import File, TemplateSpec
from atoll.storage.templates import stock_specs

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]

TINY = next(spec for spec in stock_specs() if spec.name == "busybox")
CHILD = TemplateSpec(
    name="child",
    parent="busybox",
    files=(File("/etc/added", "new\n", 0o600, 1000, 1000), File("/etc/hosts", "changed\n")),
    commands=(
        "rm /etc/nsswitch.conf",
        "rm -r /var/tmp && mkdir /var/tmp",
        "id -u > /seen && hostname >> /seen && ls /sys/class/net >> /seen 2>/dev/null || :",
        "cat /proc/net/dev > /network",
        "echo $$ > /dev/shm/x && echo y > /tmp/y && echo z > /run/z",
    ),
)


def mounts(data_dir: Path) -> list[str]:
    """Those below the data directory: the rest of the host is others' business."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(data_dir) in line]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    made = {template.name: template for template in templates.build_templates(data_dir, [TINY, CHILD])}
    assert mounts(data_dir) == []
    return data_dir, made


def layer(built, name: str) -> Path:
    return Path(built[1][name].layers[0])


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_the_lowest_layer_has_its_programs_and_mount_points(built):
    root = layer(built, "busybox")
    assert (root / "bin/busybox").stat().st_mode & 0o111
    assert os.readlink(root / "bin/sh") == "/bin/busybox"
    for name in ("proc", "sys", "dev", "run", "tmp", ".atoll"):
        assert list((root / name).iterdir()) == []
    assert (root / "workspace").stat().st_uid == 1000
    assert root.stat().st_mode & 0o7777 == 0o755


def test_an_upper_layer_holds_the_difference_alone(built):
    found = names(layer(built, "child"))
    assert {"etc/added", "etc/hosts", "etc/nsswitch.conf", "var/tmp"} <= found
    assert not {name for name in found if name.startswith(("bin", "usr", "tmp", "run", "dev", "proc"))}
    added = (layer(built, "child") / "etc/added").stat()
    assert (added.st_uid, added.st_mode & 0o777) == (1000, 0o600)


def test_what_was_removed_is_a_whiteout_and_what_was_replaced_is_opaque(built):
    root = layer(built, "child")
    gone = (root / "etc/nsswitch.conf").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(root / "var/tmp", "trusted.overlay.opaque") == b"y"


def test_no_other_overlay_mark_stays(built):
    root = layer(built, "child")
    marks = {mark for path in [root, *root.rglob("*")] for mark in os.listxattr(path, follow_symlinks=False)}
    assert marks <= {"trusted.overlay.opaque"}


def test_commands_run_as_root_without_a_network_in_their_own_host(built):
    root = layer(built, "child")
    assert (root / "seen").read_text().split()[:2] == ["0", "template"]
    interfaces = [line.split(":")[0].strip() for line in (root / "network").read_text().splitlines()[2:]]
    assert "lo" in interfaces
    hosts = {name for name in os.listdir("/sys/class/net") if name != "lo"}
    assert not hosts & set(interfaces)


def test_nothing_of_the_hosts_package_sources_is_in_a_layer(built):
    lines = {
        line.strip().encode()
        for path in apt.source_files()
        for line in path.read_text().splitlines()
        if "://" in line and not line.startswith("#")
    }
    assert lines
    for name in ("busybox", "child"):
        for path in layer(built, name).rglob("*"):
            if stat.S_ISREG(path.lstat().st_mode):
                content = path.read_bytes()
                assert not [line for line in lines if line in content], path


def test_nothing_is_built_twice(built):
    data_dir, made = built

    def refuse(step: str, fraction: float) -> None:
        raise AssertionError(f"built again: {step}")

    assert templates.build_templates(data_dir, [TINY, CHILD], refuse) == list(made.values())


def test_a_failing_command_leaves_neither_layer_nor_scratch(built):
    data_dir, _ = built
    broken = TemplateSpec("broken", parent="busybox", commands=("echo on purpose >&2; exit 7",))
    with pytest.raises(Exception, match=r"command 1 of template broken failed \(exit 7\): on purpose"):
        templates.build_templates(data_dir, [TINY, broken])
    assert mounts(data_dir) == []
    assert list((templates.place(data_dir) / "broken" / "layers").iterdir()) == []
    assert not (templates.place(data_dir) / "broken" / "template.json").exists()


# Lowest layer, not an upper one: a FIFO seen through an overlay is another pipe than the one in the upper directory.
BUILDER = """
import dataclasses, sys
from pathlib import Path
from atoll.storage import templates
tiny = next(spec for spec in templates.stock_specs() if spec.name == "busybox")
commands = (*tiny.commands, "mkfifo /fifo", "exec 3>/fifo; sleep 100000")
endless = dataclasses.replace(tiny, name="endless", commands=commands)
before_last = 0.75 + 0.15 * (len(commands) - 1) / len(commands)
def progress(step, fraction):
    if abs(fraction - before_last) < 1e-6:
        print("the fifo is there", flush=True)
templates.build_templates(Path(sys.argv[1]), [endless], progress)
"""


def test_a_killed_build_ends_with_all_its_processes_and_mounts_and_the_next_one_sweeps(built):
    data_dir, _ = built
    layers = templates.place(data_dir) / "endless" / "layers"
    argv = [sys.executable, "-c", BUILDER, str(data_dir)]
    env = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=env) as builder:
        try:
            assert builder.stdout
            assert b"fifo" in builder.stdout.readline()
            (fifo,) = layers.glob(".new-*/root/fifo")
            # Opening waits for the command inside; the end of the stream is the end of every process that held it.
            with fifo.open("rb", buffering=0) as stream:
                builder.kill()
                assert select.select([stream], [], [], 20)[0]
                assert stream.read(1) == b""
        finally:
            builder.kill()
    assert mounts(data_dir) == []
    templates.build_templates(data_dir, [TINY, TemplateSpec("endless", parent="busybox")])
    assert [path.name.startswith(".new-") for path in layers.iterdir()] == [False]
