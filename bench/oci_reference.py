"""runc and gVisor's runsc on Atoll's own base template: one bundle for both, no network, nothing kept."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

RUNC = ("runc", "--root", "{state}", "run", "--bundle")
RUNSC = ("runsc", "--root", "{state}", "--network=none", "--platform={platform}", "run", "--bundle")
PLATFORMS = ("systrap", "ptrace")
"""The quicker one first; the distribution's has ptrace alone."""
PATIENCE_S = 30


@dataclass(frozen=True)
class Runtime:
    scratch: Path
    command: tuple[str, ...]
    platform: str
    numbers: Iterator[int]

    def run(self, *argv: str) -> None:
        bundle = self.scratch / "bundle"
        specification = json.loads((bundle / "specification.json").read_text())
        specification["process"]["args"] = list(argv)
        (bundle / "config.json").write_text(json.dumps(specification))
        name = f"atoll-bench-{next(self.numbers)}"
        subprocess.run(
            [*self.command, str(bundle), name], check=True, capture_output=True, text=True, timeout=PATIENCE_S
        )


@contextmanager
def runtime(command: tuple[str, ...], root: Path, platform: str = "") -> Iterator[Runtime]:
    """`root` is one whole file tree, and stays read-only."""
    with tempfile.TemporaryDirectory(prefix="atoll-oci-") as scratch:
        bundle = Path(scratch) / "bundle"
        bundle.mkdir()
        subprocess.run(["runc", "spec", "--bundle", str(bundle)], check=True)
        specification = json.loads((bundle / "config.json").read_text())
        specification["process"]["terminal"] = False
        specification["root"] = {"path": str(root), "readonly": True}
        (bundle / "specification.json").write_text(json.dumps(specification))
        filled = tuple(each.format(state=f"{scratch}/state", platform=platform) for each in command)
        yield Runtime(Path(scratch), filled, platform, count())


@contextmanager
def gvisor(root: Path) -> Iterator[Runtime]:
    """On the first platform that runs `true`; otherwise RuntimeError with what each of them said."""
    said = []
    for platform in PLATFORMS:
        with runtime(RUNSC, root, platform) as found:
            try:
                found.run("true")
            except (subprocess.SubprocessError, OSError) as error:
                said.append(f"{platform}: {getattr(error, 'stderr', None) or error}")
                continue
            yield found
            return
    raise RuntimeError("; ".join(said))
