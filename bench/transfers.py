"""Files of 256 MiB through the HopX routes, beside a plain sendfile server on the same machine in the same run.

What it stores goes to the host's disk, and once more to an encrypted image such as a sandbox has: the difference of
the two is the price of encryption, that of the second and ours the price of the way there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from plain_client import Api
from report import Report

from atoll.engines.native.disk import KEY_BYTES, SEALED, mount_image, unseal
from atoll.storage.disks import base_image
from atoll.testing.installation import Installation
from atoll.testing.plain_files import PlainFileServer, download, post_form, put

MIB = 1 << 20
SIZE_MIB = 256


@contextmanager
def encrypted_directory(scratch: Path) -> Iterator[Path]:
    mount = mount_image(str(base_image(scratch, 2048)))
    try:
        unseal(mount, os.urandom(KEY_BYTES))
        yield Path(f"/proc/{os.getpid()}/fd/{mount}/{SEALED}/upper")
    finally:
        os.close(mount)


def bench_files(report: Report, server: Installation, count: int) -> None:
    """The runs of both take turns, so that a noisy machine is noisy for both."""
    parts = urlsplit(server.url)
    address = (parts.hostname or "", parts.port or 0)
    sandbox = Api(server).create("code-interpreter")
    headers = {"Authorization": sandbox.agent.headers["Authorization"]}
    path, at = "/workspace/big", f"/s/{sandbox.id}/files"
    seconds: dict[str, list[float]] = {name: [] for name in ("plain up", "sealed up", "plain down", "up", "down")}
    with (
        tempfile.TemporaryDirectory() as scratch,
        PlainFileServer(Path(scratch)) as plain,
        encrypted_directory(Path(scratch)) as sealed,
        PlainFileServer(sealed) as plain_sealed,
        open(f"{scratch}/source", "wb+") as source,
    ):
        block = os.urandom(MIB)
        source.writelines(block for _ in range(SIZE_MIB))
        source.flush()
        for _ in range(count + 1):
            seconds["plain up"].append(put(plain.address, "/stored", source))
            seconds["sealed up"].append(put(plain_sealed.address, "/stored", source))
            seconds["up"].append(post_form(address, f"{at}/upload", headers, path, source))
            seconds["plain down"].append(download(plain.address, "/source"))
            seconds["down"].append(download(address, f"{at}/download?path={path}", headers))
    sandbox.kill()
    names = {
        "plain up": "sendfile server: 256 MiB up",
        "sealed up": "sendfile server: 256 MiB up, to an encrypted image",
        "plain down": "sendfile server: 256 MiB down",
    }
    for key, name in names.items():
        report.add(name, [1000 * each for each in seconds[key][1:]])
    uploads = [1000 * each for each in seconds["up"][1:]]
    report.add("http: upload 256 MiB", uploads, names["plain up"])
    report.add("http: upload 256 MiB, beside an encrypted image", uploads, names["sealed up"])
    report.add("http: download 256 MiB", [1000 * each for each in seconds["down"][1:]], names["plain down"])
