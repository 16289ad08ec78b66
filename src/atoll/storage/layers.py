"""Makes one layer: a directory that is a template's lowest layer, or the difference to the layers below it.

Packages and wheels are fetched outside, as the host is configured to fetch them; everything from the fetched things
runs in a chamber (`chamber.sh`: own mounts, pids, ipc, host name, and no network) over the layer's root. The bottom
packages alone are installed by mmdebstrap itself.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from atoll.core.errors import InternalError, InvalidInput

from . import apt, tools
from .progress import DebootstrapLines, Progress, apt_fraction, part
from .spec import File, TemplateSpec

_CHAMBER = Path(__file__).with_name("chamber.sh")
_LIMITED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--fork", "--kill-child=KILL")
_OWN_SPACES = (*_LIMITED, "--mount", "--pid", "--uts", "--ipc")
# Licences stay; manuals and translations are half of a small system.
_DPKG_OPTIONS = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "force-unsafe-io",
)
_MOUNT_POINTS = {"proc": 0o555, "sys": 0o555, "dev": 0o755, "run": 0o755, "tmp": 0o1777, ".atoll": 0o755}

# What a build leaves that is the host's, or this build's alone. A pattern that ends in /** keeps the directory tree's
# top and removes everything below; logs keep their directories, which programs expect.
SCRUBBED = (
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/**",
    "etc/apt/auth.conf",
    "etc/apt/auth.conf.d/**",
    "etc/apt/preferences.d/**",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/apt/apt.conf",
    "etc/apt/trusted.gpg",
    "etc/pip.conf",
    "etc/hostname",
    "etc/resolv.conf",
    "etc/machine-id",
    "etc/.pwd.lock",
    "etc/*-",
    "etc/ssh/ssh_host_*",
    "root/.cache",
    "usr/sbin/policy-rc.d",
    "var/lib/apt/lists/**",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/*-old",
    "var/lib/systemd/random-seed",
    "var/cache/apt/**",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/**",
    "dev/**",
    "proc/**",
    "run/**",
    "sys/**",
    "tmp/**",
    "var/tmp/**",
)
# Marks that speak of the build's own mount; only `opaque` is part of a layer.
_BUILD_MARKS = ("trusted.overlay.origin", "trusted.overlay.impure", "trusted.overlay.uuid")
# Files that programs want to see; the sandbox gets its own over them.
EMPTY_FILES = ("etc/hostname", "etc/resolv.conf", "etc/machine-id")


def build_layer(spec: TemplateSpec, below: Sequence[Path], scratch: Path, progress: Progress) -> Path:
    """`below`: the layers underneath, uppermost first. Returns the finished directory inside `scratch`."""
    chamber = Chamber(scratch, below)
    step = f"building {spec.name}"
    if below:
        _install(spec, chamber, part(progress, step, 0.0, 0.45))
    else:
        _bootstrap(spec, chamber, part(progress, step, 0.0, 0.75))
        progress(step, 0.75)
    if spec.requirements:
        _install_wheels(spec, chamber, part(progress, step, 0.45, 0.7))
        progress(step, 0.7)
    for file in spec.files:
        _write(chamber.root, below, file)
    for number, command in enumerate(spec.commands):
        argv = ("/bin/sh", "-euc", command) if isinstance(command, str) else command
        chamber.run(argv, what=f"command {number + 1} of template {spec.name}")
        progress(step, 0.75 + 0.15 * (number + 1) / len(spec.commands))
    if spec.python:
        _compile(spec, chamber)
    scrub(chamber.root, lowest=not below)
    progress(step, 1.0)
    return chamber.root


class Chamber:
    def __init__(self, scratch: Path, below: Sequence[Path]) -> None:
        tools.require("unshare", "setpriv")
        self.scratch = scratch
        self.below = tuple(below)
        self.root = scratch / "root"
        self.root.mkdir(mode=0o755)
        self.root.chmod(0o755)
        for name in ("merged", "work"):
            (scratch / name).mkdir()
        for number, layer in enumerate(below):
            (scratch / f"l{number}").symlink_to(layer)  # short and free of characters that mount options give a meaning

    def argv(self, command: Sequence[str], *, offered: Path | None = None, chrooted: bool = True) -> list[str]:
        lower = ":".join(f"l{number}" for number in range(len(self.below))) or "-"
        place = "in" if chrooted else "out"
        return [*_OWN_SPACES, "--net", "sh", str(_CHAMBER), lower, str(offered or "-"), place, *command]

    def run(self, command: Sequence[str], *, what: str, offered: Path | None = None) -> None:
        tools.run(self.argv(command, offered=offered), what=what, cwd=self.scratch)

    def stacked(self, inside: str) -> Path:
        """Where the uppermost layer keeps a path, links in it not followed."""
        for layer in (self.root, *self.below):
            if os.path.lexists(layer / inside):
                return layer / inside
        raise InternalError(f"no layer holds /{inside}")


def _bootstrap(spec: TemplateSpec, chamber: Chamber, progress: Progress) -> None:
    lines = DebootstrapLines()
    options = [f"--dpkgopt={option}" for option in _DPKG_OPTIONS]
    argv = apt.mmdebstrap(chamber.root, variant=spec.variant, packages=spec.packages, extra=["--verbose", *options])
    tools.require("mmdebstrap")
    tools.follow(
        [*tools.ENGLISH, *_OWN_SPACES, *argv],
        lambda line: progress("", lines.feed(line)),
        what=f"installing the packages of {spec.name}",
    )
    for name, mode in _MOUNT_POINTS.items():
        (chamber.root / name).mkdir(exist_ok=True)
        (chamber.root / name).chmod(mode)


def _install(spec: TemplateSpec, chamber: Chamber, progress: Progress) -> None:
    if not spec.packages:
        return
    store = chamber.scratch / "apt"
    (store / "archives" / "partial").mkdir(parents=True)
    (store / "lists" / "partial").mkdir(parents=True)
    (store / "sources").mkdir()
    for number, source in enumerate(apt.source_files()):
        shutil.copyfile(source, store / "sources" / f"{number:02}{source.suffix}")
    configuration = store / "apt.conf"
    status = chamber.stacked("var/lib/dpkg/status")
    configuration.write_text("\n".join(_apt_configuration(store, status)) + "\n")
    configured = (*tools.ENGLISH, f"APT_CONFIG={configuration}")

    def advance(line: str) -> None:
        if (fraction := apt_fraction(line)) is not None:
            progress("", fraction)

    install = ["apt-get", "--yes", "install", *spec.packages]
    download = [*configured, *install, "--download-only", "-oAPT::Status-Fd=1"]
    tools.run([*configured, "apt-get", "update", "--error-on=any"], what="updating the package lists")
    tools.follow(download, advance, what=f"downloading the packages of {spec.name}")
    # apt beside the root, dpkg chrooted into it; the archives must lie under the root for dpkg to see them.
    # The status has a descriptor of its own: apt closes it to dpkg, and packages' scripts want to print.
    inside = 'exec "$0" -oDPkg::Chroot-Directory="$ROOT" -oDir::State::status="$ROOT/var/lib/dpkg/status" \
        -oDir::Cache::archives="$ROOT/run/build" -oDebug::NoLocking=1 -oAPT::Status-Fd=3 "$@" 3>&1'
    argv = chamber.argv(
        [*configured, "sh", "-euc", inside, *install, "--no-download"], offered=store / "archives", chrooted=False
    )
    with _manual_sections(chamber):
        tools.follow(argv, advance, what=f"installing the packages of {spec.name}", cwd=chamber.scratch)


@contextmanager
def _manual_sections(chamber: Chamber) -> Iterator[None]:
    """No manual is unpacked, but what registers an alternative links to its manual and fails without the directory."""
    manuals = chamber.root / "usr/share/man"
    sections = [manuals / f"man{number}" for number in range(1, 9)]
    for directory in (manuals.parent.parent, manuals.parent, manuals, *sections):
        if not directory.exists():
            inside = directory.relative_to(chamber.root)
            _make_parent(directory, [layer / inside for layer in chamber.below])
    yield
    for directory in (*sections, manuals):
        with suppress(OSError):  # one that is in use now
            directory.rmdir()


def _apt_configuration(store: Path, status: Path, etc: Path = Path("/etc/apt")) -> list[str]:
    dpkg = (f'"--{option}";' for option in _DPKG_OPTIONS)
    return [
        *apt.options(),
        'Dir::Etc::parts "/dev/null";',
        'Dir::Etc::main "/dev/null";',
        'Dir::Etc::sourcelist "/dev/null";',
        f'Dir::Etc::sourceparts "{store}/sources";',
        f'Dir::Etc::trusted "{etc}/trusted.gpg";',
        f'Dir::Etc::trustedparts "{etc}/trusted.gpg.d";',
        f'Dir::State "{store}";',
        f'Dir::State::status "{status}";',
        f'Dir::State::lists "{store}/lists";',
        f'Dir::Cache "{store}";',
        f'Dir::Cache::archives "{store}/archives";',
        f'Dir::Log "{store}";',
        'APT::Install-Recommends "false";',
        'APT::Sandbox::User "root";',  # the scratch directory is ours alone; apt's own user could not enter it
        'DPkg::Use-Pty "false";',
        f"DPkg::Options {{ {' '.join(dpkg)} }};",
    ]


def _install_wheels(spec: TemplateSpec, chamber: Chamber, progress: Progress) -> None:
    wheels = chamber.scratch / "wheels"
    wheels.mkdir()
    (wheels / "requirements.txt").write_text(spec.requirements)
    expected = spec.requirements.count("==") or 1
    seen = 0

    def advance(line: str) -> None:
        nonlocal seen
        seen += line.startswith("Saved ")
        progress("", 0.5 * seen / expected)

    quiet = ("--disable-pip-version-check", "--progress-bar=off", "--no-deps", "--require-hashes")
    target = (f"--python-version={_python_version(spec, chamber)}", "--only-binary=:all:")
    requirements = ("-r", str(wheels / "requirements.txt"))
    fetch = [*tools.ENGLISH, sys.executable, "-m", "pip", "download", *quiet, *target, "-d", str(wheels), *requirements]
    tools.follow(fetch, advance, what=f"downloading the Python packages of {spec.name}")
    offline = ("--no-index", "--find-links=/run/build", "--no-compile", "--no-cache-dir", "--root-user-action=ignore")
    install = (str(spec.python), "-m", "pip", "install", *quiet, *offline, "-r", "/run/build/requirements.txt")
    chamber.run(install, what=f"installing the Python packages of {spec.name}", offered=wheels)


def _python_version(spec: TemplateSpec, chamber: Chamber) -> str:
    if spec.python is None:
        raise InvalidInput(f"template {spec.name} names Python packages but no python")
    program = chamber.stacked(spec.python.lstrip("/"))
    name = os.path.basename(os.readlink(program)) if program.is_symlink() else program.name
    version = re.search(r"3\.\d+", name)
    if version is None:
        raise InternalError(f"cannot tell the version of {spec.python} in template {spec.name}")
    return version[0]


def _compile(spec: TemplateSpec, chamber: Chamber) -> None:
    """Sandboxes see this layer read-only, and a module without its .pyc would be compiled in each of them again."""
    find = "import site; print(*site.getsitepackages(), sep='\\n')"
    script = f'"$0" -c "{find}" | while read -r d; do [ ! -d "$d" ] || "$0" -m compileall -q -j 0 "$d" || :; done'
    chamber.run(("/bin/sh", "-euc", script, str(spec.python)), what=f"compiling the Python packages of {spec.name}")


def _write(root: Path, below: Sequence[Path], file: File) -> None:
    target = root / file.path.lstrip("/")
    for parent in reversed(target.relative_to(root).parents):
        if (root / parent).is_symlink():
            raise InvalidInput(f"{file.path} lies behind the link /{parent}")
        if not (root / parent).exists():
            _make_parent(root / parent, [layer / parent for layer in below])
    target.unlink(missing_ok=True)
    target.write_text(file.content)
    os.chown(target, file.uid, file.gid)
    target.chmod(file.mode)


def _make_parent(directory: Path, same_below: Sequence[Path]) -> None:
    """A directory in an upper layer speaks for the merged one: it takes owner and mode of the one it stands for."""
    directory.mkdir(mode=0o755)
    known = next((path.lstat() for path in same_below if path.is_dir() and not path.is_symlink()), None)
    if known:
        os.chown(directory, known.st_uid, known.st_gid)
        directory.chmod(stat.S_IMODE(known.st_mode))


def scrub(root: Path, *, lowest: bool) -> None:
    for path in scrubbed(root):
        _remove(path)
    if _reached_without_links(root, "var/log"):
        for directory, _, names in os.walk(root / "var" / "log"):
            for name in names:
                os.unlink(os.path.join(directory, name))
    if lowest:
        for name in EMPTY_FILES:
            if (root / name).parent.is_dir():
                (root / name).touch(mode=0o644)
    _strip_overlay_marks(root)


def scrubbed(root: Path) -> Iterator[Path]:
    for pattern in SCRUBBED:
        directory = os.path.dirname(pattern)
        if not _reached_without_links(root, directory):
            continue
        if pattern.endswith("/**"):
            yield from sorted((root / directory).iterdir())
        else:
            yield from sorted(path for path in root.glob(pattern) if os.path.lexists(path))


def _reached_without_links(root: Path, directory: str) -> bool:
    """A link in a layer points into the host when it is followed from here."""
    path = root
    for component in Path(directory).parts:
        path = path / component
        if path.is_symlink() or not path.is_dir():
            return False
    return True


def _remove(path: Path) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()


def _strip_overlay_marks(root: Path) -> None:
    for directory, directories, names in os.walk(root):
        for path in (directory, *(os.path.join(directory, name) for name in (*directories, *names))):
            for mark in _BUILD_MARKS:
                try:
                    os.removexattr(path, mark, follow_symlinks=False)
                except OSError as error:
                    if error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
                        raise
