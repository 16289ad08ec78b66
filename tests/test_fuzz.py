"""Coverage-guided runs over what reads bytes of the enemy, and the inputs that they left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fuzz.__main__ import run
from fuzz.reach import replay
from fuzz.table import CORPUS, PLANTED, TARGETS

guided = pytest.mark.skipif(find_spec("atheris") is None, reason="needs atheris, which is not made for this machine")
ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
MAX_CORPUS = 500 * 1024
BRANCHES = 95.0
COVERED = (
    *("wire/sniffing", "wire/client_hello", "wire/request_sniff", "wire/dns_message", "wire/http1", "wire/http2"),
    *("wire/connect", "wire/proto_json", "core/policy", "core/names"),
)
TEN_MILLION = 10_000_000


def fuzz(*arguments: str) -> str:
    command = [sys.executable, "-m", "fuzz", *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def inputs_in_all(said: str) -> int:
    return int(said.rpartition("in all: ")[2].split()[0])


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_kept_inputs_break_no_promise(target):
    assert replay(target) > 0


def test_they_are_few_and_small():
    assert {path.name for path in CORPUS.iterdir()} == TARGETS.keys()
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < MAX_CORPUS


def test_they_take_95_percent_of_the_branches(tmp_path):
    files = [str(ROOT / "src/atoll" / f"{name}.py") for name in COVERED]
    coverage = [sys.executable, "-m", "coverage"]
    settings = [f"--data-file={tmp_path / 'data'}", "--rcfile=/dev/null"]
    for command in (
        [*coverage, "run", *settings, "--branch", f"--include={','.join(files)}", "-m", "fuzz", "--replay"],
        [*coverage, "json", *settings, "-o", str(tmp_path / "json")],
    ):
        subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=True)
    found = json.loads((tmp_path / "json").read_text())["files"]
    share = {name: branches_taken(each["summary"]) for name, each in found.items()}
    assert len(share) == len(COVERED)
    assert {name: percent for name, percent in share.items() if percent < BRANCHES} == {}


def branches_taken(summary: dict[str, int]) -> float:
    return 100.0 * summary["covered_branches"] / summary["num_branches"] if summary["num_branches"] else 100.0


@guided
def test_a_run_finds_a_planted_fault(tmp_path):
    ended = run(PLANTED, "-runs=1000000", tmp_path / "scratch", failures=tmp_path)
    assert ended.returncode != 0
    assert "AssertionError: found" in ended.stdout + ended.stderr
    (found,) = tmp_path.glob("*crash-*")
    assert found.read_bytes().startswith(b"FUZZ")


@guided
@pytest.mark.timeout(120)
def test_twenty_seconds_of_new_inputs_break_no_promise():
    assert inputs_in_all(fuzz("--seconds", "20")) > 10_000


@guided
@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_ten_million_inputs_break_no_promise():
    assert inputs_in_all(fuzz("--runs", str(TEN_MILLION))) >= TEN_MILLION
