from __future__ import annotations

import pytest

from atoll.core.errors import InvalidInput
from atoll.core.packet_policy import REFUSE_ALL, KernelPolicy
from atoll.engines.native import launcher


def test_a_record_without_a_readable_policy_allows_nothing():
    for record in ({}, {"egress": None}, {"egress": {}}, {"egress": {**REFUSE_ALL.to_wire(), "divert": "all"}}):
        assert launcher._policy_in(record) == REFUSE_ALL


def test_a_record_gives_its_policy_back():
    policy = KernelPolicy(True, ((1, 2),), by_name=True)
    assert launcher._policy_in({"egress": policy.to_wire()}) == policy


def test_a_block_list_is_read_from_its_words():
    found = launcher._blocked_by({"networks": ["203.0.113.0/24"], "ports": ["udp/137", "tcp/25", "tcp/25"]})
    assert found.intervals4 == ((0xCB007100, 0xCB0071FF),)
    assert found.ports == (("tcp", 25), ("udp", 137))


@pytest.mark.parametrize(
    "given",
    [
        {"networks": ["example.com"], "ports": []},
        {"networks": [], "ports": ["tcp"]},
        {"networks": [], "ports": ["icmp/8"]},
        {"networks": [], "ports": ["tcp/0"]},
        {"networks": [], "ports": ["tcp/65536"]},
        {"networks": None, "ports": []},
    ],
)
def test_one_that_is_not_understood_is_refused(given):
    with pytest.raises(InvalidInput):
        launcher._blocked_by(given)
