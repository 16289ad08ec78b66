"""The file tree of a sandbox, made before its birth and handed over as one descriptor.

    /            overlay: the template's layers below (read-only, idmapped), the sealed disk above
    /dev         one read-only tmpfs for all, with a devpts and a tmpfs (/dev/shm) of its own on top
    /sys         a read-only skeleton: only what programs ask for (the processors' list)
    /.atoll      the agent's runtime, read-only
    volumes      where the sandbox was told to have them, idmapped like the disk
    /proc        mounted at birth, by a process that is in the sandbox's pid namespace

The pieces are put together at a private staging place and taken as a recursive clone, so it needs no
kernel newer than 5.19. Each step that fails ends the slot; nothing is left out with a warning.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import disk, volumes, walk
from . import syscalls as sc
from .privileges import own_bounding_set

RUNTIME_MOUNT = ".atoll"
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
TTY_GID = 5
MAX_TERMINALS = 128
SYS_VISIBLE = ("devices/system/cpu",)


@dataclass(frozen=True)
class Tree:
    fd: int
    """A detached clone of everything; the newborn attaches it as its root."""


class Stage:
    """The launcher's private place for half-made trees, in its own mount namespace."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sc.mount("atoll-stage", str(directory), "tmpfs", sc.MS_NOSUID, "mode=0700,size=16m")
        self.directory = directory
        self.dev = directory / "dev"
        self.sys = directory / "sys"
        _make_dev(self.dev)
        _make_sys(self.sys)
        (directory / "slots").mkdir()

    @contextlib.contextmanager
    def place(self, name: str) -> Iterator[Path]:
        """A mount of its own, so that one lazy unmount takes everything attached below it."""
        place = self.directory / "slots" / name
        place.mkdir()
        sc.mount("atoll-slot", str(place), "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "mode=0755,size=1m")
        try:
            yield place
        finally:
            sc.umount(str(place))
            place.rmdir()


def _make_dev(directory: Path) -> None:
    directory.mkdir()
    sc.mount("atoll-dev", str(directory), "tmpfs", sc.MS_NOSUID | sc.MS_NOEXEC, "mode=0755,size=64k")
    previous = os.umask(0)
    try:
        for name, (major, minor) in DEVICES.items():
            os.mknod(directory / name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        for name, target in DEVICE_LINKS.items():
            os.symlink(target, directory / name)
        for name in ("pts", "shm", "mqueue"):
            (directory / name).mkdir(mode=0o755)
    finally:
        os.umask(previous)
    sc.mount(None, str(directory), None, sc.MS_REMOUNT_RO)


def _make_sys(directory: Path) -> None:
    directory.mkdir()
    sc.mount("atoll-sys", str(directory), "tmpfs", sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC, "mode=0755,size=64k")
    for path in SYS_VISIBLE:
        source, target = Path("/sys") / path, directory / path
        target.mkdir(parents=True)
        if source.is_dir():
            fd = sc.clone_mount(str(source))
            sc.mount_setattr(
                fd, sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV | sc.MOUNT_ATTR_NOEXEC
            )
            sc.attach_mount(fd, str(target))
            os.close(fd)
    (directory / "fs" / "cgroup").mkdir(parents=True)
    sc.mount(None, str(directory), None, sc.MS_REMOUNT_RO)


@contextlib.contextmanager
def file_ids(base: int) -> Iterator[None]:
    """Act on files as the sandbox's root: overlayfs makes its work directory with the caller's fsuid, and id 0 of
    the host has no place in the sandbox's map. Changing fsuid drops the file capabilities; they are raised again."""
    capabilities = own_bounding_set()
    sc.setfsids(base, base)
    sc.capset(capabilities)
    try:
        yield
    finally:
        sc.setfsids(0, 0)
        sc.capset(capabilities)


def build(
    place: Path, stage: Stage, *, layers: Sequence[str], runtime: str, image: str, key: bytes, userns_fd: int,
    base_id: int, shm_mib: int, mounts: Sequence[volumes.VolumeRequest] = (),
) -> Tree:  # fmt: skip
    _attach_disk(place / "disk", image, key, userns_fd)
    idmap = sc.MOUNT_ATTR_IDMAP
    for number, layer in enumerate(layers):
        _attach_layer(place / f"l{number}", layer, idmap, userns_fd)
    root = place / "root"
    root.mkdir()
    with file_ids(base_id), inside(place):
        options = [("upperdir", f"disk/{disk.SEALED}/upper"), ("workdir", f"disk/{disk.SEALED}/work")]
        _attach_overlay(_names(len(layers)), options, sc.MOUNT_ATTR_NODEV)
        _attach_inner(root, stage, runtime, base_id, shm_mib)
    for number, volume in enumerate(mounts):
        _attach_volume(place / f"v{number}", volume, root, base_id, userns_fd)
    return Tree(sc.clone_mount(str(root), recursive=True))


def _attach_disk(target: Path, image: str, key: bytes, userns_fd: int) -> None:
    fd = disk.mount_image(image)
    try:
        disk.unseal(fd, key)
        sc.mount_setattr(fd, sc.MOUNT_ATTR_IDMAP | sc.MOUNT_ATTR_NODEV, userns_fd=userns_fd)
        target.mkdir()
        sc.attach_mount(fd, str(target))
    finally:
        os.close(fd)


def _attach_layer(target: Path, layer: str, idmap: int = 0, userns_fd: int = 0) -> None:
    """Layers hold device nodes and set-uid programs; both are decided by the overlay's own mount, not here."""
    fd = sc.clone_mount(layer)
    try:
        attributes = idmap | sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NODEV | sc.MOUNT_ATTR_NOSUID
        sc.mount_setattr(fd, attributes, userns_fd=userns_fd)
        target.mkdir()
        sc.attach_mount(fd, str(target))
    finally:
        os.close(fd)


def volume_mount(staged: Path, volume: volumes.VolumeRequest, userns_fd: int) -> int:
    """Detached, as a sandbox may have it. Set-user-id programs count for nothing there: another sandbox may have put
    them in."""
    fd = sc.clone_mount(str(volumes.stage(volume, staged)))
    try:
        attributes = sc.MOUNT_ATTR_IDMAP | sc.MOUNT_ATTR_NODEV | sc.MOUNT_ATTR_NOSUID
        sc.mount_setattr(fd, attributes, userns_fd=userns_fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _attach_volume(staged: Path, volume: volumes.VolumeRequest, root: Path, base_id: int, userns_fd: int) -> None:
    fd = volume_mount(staged, volume, userns_fd)
    try:
        root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with file_ids(base_id):
                target = volumes.open_target(root_fd, volume.path)
        finally:
            os.close(root_fd)
        try:
            sc.attach_mount_at(fd, target)
        finally:
            os.close(target)
    finally:
        os.close(fd)


def _names(count: int) -> list[str]:
    return [f"l{number}" for number in range(count)]


@contextlib.contextmanager
def inside(directory: Path) -> Iterator[None]:
    """overlayfs takes names relative to the caller: short ones, since fsconfig takes 256 bytes, and none that shows
    the host's paths in the sandbox's list of mounts."""
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir("/")


def _attach_overlay(lower: Sequence[str], options: Sequence[tuple[str, str | None]], attributes: int) -> None:
    """On `root` of the current directory."""
    fs = sc.new_filesystem("overlay", [("source", "atoll"), ("lowerdir", ":".join(lower)), *options])
    fd = sc.create_mount(fs, "overlay", attributes)
    try:
        sc.attach_mount(fd, "root")
    finally:
        os.close(fd)


def _attach_inner(root: Path, stage: Stage, runtime: str, base_id: int, shm_mib: int) -> None:
    """Targets are found without following a link: the upper layer of a kept disk is the sandbox's own work."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in ("dev", "sys", "proc", RUNTIME_MOUNT):
            walk.make(root_fd, name)
        _attach_clone(str(stage.dev), root_fd, "dev", sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NOEXEC)
        _attach_new("devpts", _devpts_options(base_id), root_fd, "dev/pts", sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NOEXEC)
        shm = [("mode", "1777"), ("size", f"{shm_mib}m"), ("uid", str(base_id)), ("gid", str(base_id))]
        _attach_new("tmpfs", shm, root_fd, "dev/shm", sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV)
        _attach_clone(str(stage.sys), root_fd, "sys", sc.MOUNT_ATTR_RDONLY, recursive=True)
        _attach_clone(
            runtime, root_fd, RUNTIME_MOUNT, sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV
        )
    finally:
        os.close(root_fd)


def _devpts_options(base_id: int) -> list[tuple[str, str | None]]:
    """`max`: the host has one number of terminals for all (kernel.pty.max)."""
    gid, most = str(base_id + TTY_GID), str(MAX_TERMINALS)
    return [("newinstance", None), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", gid), ("max", most)]


def _attach_fd(mount_fd: int, root_fd: int, name: str) -> None:
    target = walk.enter(root_fd, name)
    try:
        sc.attach_mount_at(mount_fd, target)
    finally:
        os.close(target)
        os.close(mount_fd)


def _attach_clone(source: str, root_fd: int, name: str, attributes: int, recursive: bool = False) -> None:
    fd = sc.clone_mount(source, recursive=recursive)
    sc.mount_setattr(fd, attributes, recursive=recursive)
    _attach_fd(fd, root_fd, name)


def _attach_new(kind: str, options: Sequence[tuple[str, str | None]], root_fd: int, name: str, attributes: int) -> None:
    _attach_fd(sc.create_mount(sc.new_filesystem(kind, options), kind, attributes), root_fd, name)


def zygote_root(stage: Stage, name: str, runtime: str) -> int:
    """The tiny root in which the agent zygote and the slot helper live: the runtime, the host's unmasked proc (the
    kernel lets a new proc be mounted only by who sees a whole one) and /dev/null. A recursive clone."""
    with stage.place(name) as place:
        for directory in ("proc", "mnt", "dev", RUNTIME_MOUNT):
            (place / directory).mkdir()
        (place / "dev" / "null").touch()
        _bind(str(stage.dev / "null"), place / "dev" / "null", sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NOEXEC)
        _bind("/proc", place / "proc", 0)
        _bind(runtime, place / RUNTIME_MOUNT, sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV)
        return sc.clone_mount(str(place), recursive=True)


def interpreter_root(stage: Stage, name: str, layers: Sequence[str], runtime: str) -> int:
    """The template itself, read-only, for the interpreter zygote. No proc of the host: what runs here has imported
    the template's files."""
    with stage.place(name) as place:
        root = place / "root"
        root.mkdir()
        for number, layer in enumerate(layers):
            _attach_layer(place / f"l{number}", layer)
        _mount_points(place / "skeleton")
        with inside(place):
            attributes = sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NODEV | sc.MOUNT_ATTR_NOSUID
            _attach_overlay([*_names(len(layers)), "skeleton"], [], attributes)
        root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _attach_clone(str(stage.dev), root_fd, "dev", sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NOEXEC)
            tmp = [("mode", "1777"), ("size", "64m")]
            _attach_new("tmpfs", tmp, root_fd, "tmp", sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV)
            _attach_clone(
                runtime, root_fd, RUNTIME_MOUNT, sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV
            )
        finally:
            os.close(root_fd)
        return sc.clone_mount(str(root), recursive=True)


def _mount_points(skeleton: Path) -> None:
    """A lowest layer with what we mount on: a template need not know of it (and overlayfs wants two layers)."""
    for name in ("dev", "tmp", RUNTIME_MOUNT):
        (skeleton / name).mkdir(parents=True)


def _bind(source: str, target: Path, attributes: int) -> None:
    fd = sc.clone_mount(source)
    try:
        if attributes:
            sc.mount_setattr(fd, attributes)
        sc.attach_mount(fd, str(target))
    finally:
        os.close(fd)
