from __future__ import annotations

import ipaddress

import pytest

from atoll.core.packet_policy import KernelPolicy, Refusal
from atoll.core.reach import networks_v4, networks_v6
from atoll.engines.native import rules
from atoll.engines.native.rules import Blocked, FabricRules, Limits, Pass, no_rules, outer_rules

PASSES = [Pass("at5", "100.96.0.5", 77), Pass("at6", "100.96.0.6", 78, KernelPolicy(True))]
OPENED = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd12::/32"))


def outer(opened=(), sealed=True) -> str:
    return outer_rules("t", "atux", "eth0", opened, 1, sealed)


def chain(text: str, name: str) -> list[str]:
    lines = text.split(f"chain {name} {{\n")[1].split("\n  }")[0].splitlines()
    return [line.strip() for line in lines if line.strip()]


def test_a_table_replaces_the_one_that_is_there_in_the_same_transaction():
    for text, name in (
        (FabricRules().text(), "egress"),
        (outer_rules("atoll-x", "atux", "eth0", [], 1, True), "atoll-x"),
        (no_rules("atoll-x"), "atoll-x"),
    ):
        assert text.splitlines()[:2] == [f"table inet {name}", f"delete table inet {name}"]


@pytest.mark.parametrize("text", [FabricRules().text(), outer()])
def test_every_never_reachable_network_stands_in_both_tables(text):
    assert all(str(network) in text for network in (*networks_v4(), *networks_v6()))


def test_a_pass_binds_link_address_and_mark():
    text = FabricRules(PASSES).text()
    assert '"at5" . 100.96.0.5 : 77, "at6" . 100.96.0.6 : 78' in text
    assert '"at5" . 100.96.0.5 . 77, "at6" . 100.96.0.6 . 78' in text


def test_a_sandbox_of_which_no_policy_is_known_is_refused_everything():
    assert '"at5" : goto refuse_deny, "at6" : goto allowed' in FabricRules(PASSES).text()


def test_nothing_passes_by_default_and_what_is_never_reachable_is_judged_before_all_else():
    lines = chain(FabricRules(PASSES).text(), "forward")
    assert lines[0] == "type filter hook forward priority filter; policy drop;"
    assert lines[-2:] == ["iifname vmap @verdicts", "goto refuse_stranger"]
    accepting = [line for line in lines if line.endswith("accept")]
    judged = lines.index("ip daddr @never goto refuse_never")
    assert [lines.index(line) > judged for line in accepting] == [False, False, True]
    assert all('iifname "uplink0" ct state established,related' in line for line in accepting[:2])
    assert lines.index("ct state established,related ct mark != @rejudged goto known") < judged


def test_packets_of_open_connections_pass_only_where_link_address_and_mark_belong_together():
    lines = chain(FabricRules(PASSES).text(), "known")
    assert lines[-1].startswith("counter drop")
    assert all(". ct mark @flows" in line and line.endswith("accept") for line in lines[:-1])


def test_what_is_blocked_is_judged_between_the_two():
    lines = chain(FabricRules(PASSES).text(), "forward")
    judged = lines.index("ip daddr @never goto refuse_never")
    blocked = lines.index("ip daddr @blocked4 goto refuse_blocklist")
    assert judged < blocked < lines.index("iifname vmap @verdicts")


def test_what_is_never_reachable_or_blocked_is_not_diverted_either():
    lines = chain(FabricRules(PASSES).text(), "diverting")
    diverted = lines.index("iifname vmap @diverts")
    assert lines.index("ip daddr @never accept") < lines.index("ip daddr @blocked4 accept") < diverted
    to_resolver = next(at for at, line in enumerate(lines) if "192.0.0.8:1053" in line and "ip daddr 192" not in line)
    assert lines.index("meta l4proto . th dport @blocked_ports accept") < to_resolver < diverted


def test_the_daemon_dials_as_nobody_and_no_sandbox():
    lines = chain(FabricRules(PASSES).text(), "dialled")
    assert lines[0].startswith("ct mark != 0 counter drop")
    assert any("@never counter reject" in line for line in lines)
    assert chain(FabricRules(PASSES).text(), "output")[-1].startswith("counter drop")


def test_each_refusal_is_counted_and_told_of_under_its_name():
    text = FabricRules().text()
    for refusal in Refusal:
        counted, told, _ = chain(text, rules.refuse(refusal))
        assert counted == f'counter name "{rules.refuse(refusal)}"'
        assert f'log prefix "{refusal.value}" snaplen 64 group 7' in told


def test_limits_that_are_0_are_no_rules():
    text = FabricRules(limits=Limits(0, 0, 0)).text()
    assert "update @starts" not in text
    assert "update @bytes" not in text


def test_bandwidth_is_limited_each_way_before_anything_else_is_judged():
    text = FabricRules(limits=Limits(mbit=8)).text()
    over = "limit rate over 1000000 bytes/second burst 262144 bytes"
    assert f"update @bytes_out {{ iifname {over} }}" in chain(text, "marking")[2]
    assert f"update @bytes_in {{ oifname {over} }}" in chain(text, "forward")[1]
    assert any("update @bytes_in" in line for line in chain(text, "output"))


def test_the_block_list_is_in_sets():
    text = FabricRules(blocked=Blocked(((1, 1), (4, 6)), (), (("tcp", 25),))).text()
    assert "elements = { 0.0.0.1, 0.0.0.4-0.0.0.6 }" in text
    assert "elements = { tcp . 25 }" in text


def test_an_interface_that_did_not_forward_before_is_closed_to_others():
    others = 'iifname "eth0" oifname != "atu*" counter drop'
    assert others in chain(outer(sealed=True), "forward")
    assert others not in chain(outer(sealed=False), "forward")


def test_only_the_uplink_leads_out_and_opened_ranges_wherever_they_are():
    assert chain(outer(), "from_sandboxes")[-2:] == ['oifname "eth0" goto out', "goto refuse"]
    lines = chain(outer(OPENED), "from_sandboxes")
    assert "ip daddr { 10.1.0.0/16 } goto out" in lines
    assert "ip6 daddr { fd12::/32 } goto out" in lines


def test_pings_of_all_together_are_limited_in_both_tables():
    limit = f"meta l4proto {{ icmp, ipv6-icmp }} ct count over {rules.PINGS}"
    assert f"{limit} goto refuse_connections" in chain(FabricRules().text(), "many")
    assert f"ct state new {limit} counter goto refuse" in chain(outer(), "out")


@pytest.mark.parametrize(("total", "part"), [(131_072, 512), (0, 32)])
def test_the_limit_for_all_is_in_equal_parts(total, part):
    assert f" mod {rules.SHARDS} seed {rules._SEED:#x} ct count over {part} " in FabricRules(total=total).text()
