"""What goes in over netlink is what the text says: two ways to write the same table, in a network namespace."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from atoll.core.packet_policy import Divert, KernelPolicy, compile_policy
from atoll.core.policy import parse
from atoll.engines.native.nft import Element, Table, add_elements, delete_set, mark_key
from atoll.engines.native.rules import (
    FABRIC_TABLE,
    PUNISHED,
    REJUDGED,
    Blocked,
    FabricRules,
    Pass,
    outer_rules,
    plan_of,
)
from atoll.engines.native.sandbox_rules import blocked, given, replaced, taken_back
from atoll.testing.internet import inside

pytestmark = pytest.mark.root

SOME4 = ((0, 5), (256, 256), (0xFFFFFF00, 0xFFFFFFFF))
SOME6 = ((1 << 100, (1 << 101) - 1), ((1 << 128) - 2, (1 << 128) - 1))
POLICIES = [
    KernelPolicy(is_open, except4, except6, divert, by_name)
    for is_open, except4, except6, divert, by_name in itertools.product(
        (True, False), ((), SOME4), ((), SOME6), Divert, (True, False)
    )
    if not (is_open and by_name)
]
EMPTY = Pass("at1", "100.96.0.1", 7, KernelPolicy(True), "fd00::1")


@pytest.fixture
def table(tmp_path):
    """(load text, table over netlink, what is in it) in a namespace of its own."""
    name = f"atoll-test-{tmp_path.name}"[:60]
    subprocess.run(["ip", "netns", "add", name], check=True)
    path = Path("/run/netns", name)
    made: list[Table] = []

    def load(text: str) -> None:
        inside(path, lambda: subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True))

    def open_table() -> Table:
        made.append(inside(path, lambda: Table(FABRIC_TABLE)))
        return made[-1]

    def listed() -> list[Any]:
        command = ["nft", "-j", "list", "table", "inet", FABRIC_TABLE]
        output = inside(path, lambda: subprocess.run(command, capture_output=True, check=True).stdout)
        return _plain(json.loads(output)["nftables"])

    yield load, open_table, listed
    for each in made:
        each.close()
    subprocess.run(["ip", "netns", "del", name], check=True)


def _plain(listed: list[Any]) -> list[Any]:
    """Without numbers that the kernel gives out, in an order that is the same for all."""
    for entry in listed:
        for part in entry.values():
            part.pop("handle", None)
            part.pop("auto-merge", None)
            if part.get("name") == REJUDGED:
                part.pop("elem", None)
            if isinstance(part.get("elem"), list):
                part["elem"].sort(key=json.dumps)
    return sorted((entry for entry in listed if "metainfo" not in entry), key=_kind_and_name)


def _kind_and_name(entry: Any) -> tuple[str, str]:
    ((kind, part),) = entry.items()
    return kind, f"{part.get('chain', '')} {part.get('name', '')}"


def test_what_a_sandbox_adds_is_the_same_as_text_and_over_netlink(table):
    load, open_table, listed = table
    passes = [
        Pass(f"at{number}", f"100.96.0.{number}", number, policy, f"fd00::{number:x}" if number % 2 else None)
        for number, policy in enumerate(POLICIES, 2)
    ]
    load(FabricRules(passes).text())
    as_text = listed()
    load(FabricRules([]).text())
    empty = listed()
    over_netlink = open_table()
    for each in passes:
        over_netlink.commit(given(each, plan_of(each)))
    assert listed() == as_text
    for each in passes:
        over_netlink.commit(taken_back(each, plan_of(each)))
    assert listed() == empty


def test_a_policy_is_replaced_in_one_step_whatever_was_there(table):
    load, open_table, listed = table
    load(FabricRules([]).text())
    before = listed()
    over_netlink = open_table()
    plans = [plan_of(Pass("at1", "100.96.0.1", 7, policy, "fd00::1"), str(n)) for n, policy in enumerate(POLICIES)]
    over_netlink.commit(given(EMPTY, plans[0]))
    for old, new in itertools.pairwise([*plans, plans[0]]):
        over_netlink.commit(replaced(EMPTY.mark, old, new))
    over_netlink.commit(taken_back(EMPTY, plans[0]))
    assert listed() == before


def test_a_transaction_that_fails_changes_nothing(table):
    load, open_table, listed = table
    load(FabricRules([]).text())
    before = listed()
    with pytest.raises(FileNotFoundError):
        open_table().commit([*given(EMPTY, plan_of(EMPTY)), delete_set("nobody's")])
    assert listed() == before


def test_a_large_policy_fits(table):
    load, open_table, listed = table
    load(FabricRules([]).text())
    networks = [f"{a}.{b}.0.0/17" for a in range(20, 24) for b in range(250)]
    policy = compile_policy(parse({"deny_out": networks}))
    open_table().commit(given(EMPTY, plan_of(Pass("at1", "100.96.0.1", 7, policy, "fd00::1"))))
    sets = {entry["set"]["name"]: entry["set"] for entry in listed() if "set" in entry}
    assert len(sets["except4-at1"]["elem"]) == 1000
    assert len(sets["except6-at1"]["elem"]) == 4000


def test_the_block_list_is_replaced_as_a_whole(table):
    load, open_table, listed = table
    wanted = Blocked(SOME4, SOME6, (("tcp", 25), ("udp", 137)))
    load(FabricRules([], blocked=wanted).text())
    as_text = listed()
    load(FabricRules([], blocked=Blocked(((9, 9),), (), (("tcp", 1),))).text())
    open_table().commit(blocked(wanted))
    assert listed() == as_text


def test_a_punishment_ends_by_itself(table):
    load, open_table, listed = table
    load(FabricRules([]).text())
    open_table().commit(add_elements(PUNISHED, [Element(mark_key(7), timeout_s=60)]))
    (found,) = [entry["set"]["elem"] for entry in listed() if entry.get("set", {}).get("name") == PUNISHED]
    assert found[0]["elem"]["timeout"] == 60


def test_the_outer_table_is_understood(table):
    load, *_ = table
    load(outer_rules("atoll-x", "atux", "lo", (), 65_536, sealed=True))
