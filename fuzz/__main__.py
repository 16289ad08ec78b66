from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz import __doc__ as description
from fuzz.reach import keep, replay
from fuzz.table import TARGETS, Target

HANG_S = 10
MEMORY_MIB = 2048
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")


def main() -> int:
    options = parse_arguments()
    targets = [TARGETS[options.target]] if options.target else list(TARGETS.values())
    if options.input:
        targets[0].load()(options.input.read_bytes())
        return 0
    if options.replay:
        for target in targets:
            print(f"{target.name}: {replay(target)} kept inputs")
        return 0
    return fuzz(targets, options)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "scripts/fuzz", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS))
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--seconds", type=int, help="of time, in all (default: 60)")
    limit.add_argument("--runs", type=int, help="inputs in all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at a time")
    parser.add_argument("--keep", action="store_true", help="what is found joins the corpus")
    parser.add_argument("--replay", action="store_true", help="the kept inputs only")
    parser.add_argument("--input", type=Path, metavar="FILE", help="this input only")
    options = parser.parse_args()
    if options.input and not options.target:
        parser.error("--input is for one target")
    return options


def fuzz(targets: list[Target], options: argparse.Namespace) -> int:
    shares = sum(target.share for target in targets)
    with tempfile.TemporaryDirectory(prefix="atoll-fuzz-") as scratch, ThreadPoolExecutor(options.jobs) as pool:

        def one(target: Target) -> tuple[Target, subprocess.CompletedProcess[str]]:
            part = target.share / shares
            seconds = max(1, round((options.seconds or 60) * part * min(options.jobs, len(targets))))
            limit = f"-runs={math.ceil(options.runs * part)}" if options.runs else f"-max_total_time={seconds}"
            return target, run(target, limit, Path(scratch) / target.name)

        failed, total = [], 0
        for target, ended in pool.map(one, targets):
            done = _DONE.search(ended.stderr)
            if ended.returncode or done is None:
                failed.append(target.name)
                print(f"{target.name}: FAILED\n{ended.stdout[-4000:]}{ended.stderr[-1500:]}")
                continue
            total += int(done[1])
            print(f"{target.name}: {done[1]} inputs in {done[2]} s", flush=True)
            if options.keep:
                keep(target, [path.read_bytes() for path in (Path(scratch) / target.name).iterdir()])
    print(f"in all: {total} inputs" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def run(target: Target, limit: str, scratch: Path, failures: Path | None = None) -> subprocess.CompletedProcess[str]:
    """New inputs go to `scratch`, one that fails to where it can be found again."""
    scratch.mkdir()
    words = scratch.with_suffix(".words")
    words.write_text("".join(f'"{"".join(f"{chr(92)}x{byte:02x}" for byte in word)}"\n' for word in target.words))
    kept = [str(target.corpus)] if target.corpus.is_dir() else []
    failing = (failures or Path(tempfile.gettempdir())) / f"atoll-fuzz-{target.name}-"
    flags = [
        limit,
        f"-max_len={target.longest}",
        f"-timeout={HANG_S}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={failing}",
        *([f"-dict={words}"] if target.words else []),
    ]
    command = [sys.executable, "-m", "fuzz.guided", target.name, *flags, str(scratch), *kept]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


if __name__ == "__main__":
    sys.exit(main())
