from __future__ import annotations

import ipaddress

import pytest

from atoll.core.reach import networks_v4
from atoll.engines.native import rules
from atoll.engines.native.rules import Pass, fabric_rules, no_rules, outer_rules

PASSES = [Pass("at5", "100.96.0.5", 77), Pass("at6", "100.96.0.6", 78)]
OPENED = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd12::/32"))


def chain(text: str, name: str) -> list[str]:
    lines = text.split(f"chain {name} {{\n")[1].split("\n  }")[0].splitlines()
    return [line.strip() for line in lines]


def test_a_table_replaces_the_one_that_is_there_in_the_same_transaction():
    for text, name in (
        (fabric_rules([], [], 1), "egress"),
        (outer_rules("atoll-x", "atux", "eth0", [], 1, True), "atoll-x"),
        (no_rules("atoll-x"), "atoll-x"),
    ):
        assert text.splitlines()[:2] == [f"table inet {name}", f"delete table inet {name}"]


def test_every_never_reachable_network_stands_in_both_tables():
    for text in (fabric_rules([], [], 1), outer_rules("t", "atux", "eth0", [], 1, True)):
        assert all(str(network) in text for network in networks_v4())


def test_a_pass_binds_link_address_and_mark():
    text = fabric_rules(PASSES, [], 1)
    assert '"at5" . 100.96.0.5 : 77, "at6" . 100.96.0.6 : 78' in text
    assert '"at5" . 100.96.0.5 . 77, "at6" . 100.96.0.6 . 78' in text


def test_nothing_passes_by_default_and_destinations_are_judged_before_passes():
    lines = chain(fabric_rules(PASSES, [], 1), "forward")
    assert lines[0] == "type filter hook forward priority filter; policy drop;"
    judged = lines.index("ip daddr @never goto refuse")
    assert judged < next(at for at, line in enumerate(lines) if "ct mark set" in line)
    assert lines[-1] == "goto refuse"
    assert [line for line in lines if line.endswith("accept")] == [
        'oifname . ip daddr . ct mark @flows iifname "uplink0" ct state established,related accept',
        "meta l4proto { tcp, udp, icmp } accept",
    ]


def test_an_interface_that_did_not_forward_before_is_closed_to_others():
    others = 'iifname "eth0" oifname != "atu*" counter drop'
    assert others in chain(outer_rules("t", "atux", "eth0", [], 1, True), "forward")
    assert others not in chain(outer_rules("t", "atux", "eth0", [], 1, False), "forward")


def test_only_the_uplink_leads_out_and_opened_ranges_wherever_they_are():
    assert chain(outer_rules("t", "atux", "eth0", [], 1, True), "from_sandboxes")[-2:] == [
        'oifname "eth0" goto out',
        "goto refuse",
    ]
    assert "ip daddr { 10.1.0.0/16 } goto out" in chain(
        outer_rules("t", "atux", "eth0", OPENED, 1, True), "from_sandboxes"
    )


def test_pings_of_all_together_are_limited_in_both_tables():
    limit = f"meta l4proto icmp ct count over {rules.PINGS} counter goto refuse"
    assert limit in chain(fabric_rules([], [], 1), "limits")
    assert f"ct state new {limit}" in chain(outer_rules("t", "atux", "eth0", [], 1, False), "out")


@pytest.mark.parametrize(("total", "part"), [(131_072, 512), (0, 32)])
def test_the_limit_for_all_is_in_equal_parts(total, part):
    assert f"th sport & {rules.SHARDS - 1} ct count over {part} " in fabric_rules([], [], total)
