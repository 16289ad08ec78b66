from __future__ import annotations

import pytest

from atoll.core.errors import InvalidInput
from atoll.core.uplink import Uplink, Way, parse_uplink


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("none", Uplink(Way.NONE)),
        ("auto", Uplink(Way.AUTO)),
        ("eth0", Uplink(Way.INTERFACE, "eth0")),
        ("enp0s3.100", Uplink(Way.INTERFACE, "enp0s3.100")),
        ("netns:lab-1", Uplink(Way.NETNS, "lab-1")),
    ],
)
def test_each_form_is_read_and_written_the_same(text, wanted):
    assert parse_uplink(text) == wanted
    assert str(wanted) == text


@pytest.mark.parametrize(
    "text", ["", "netns:", "netns:..", "netns:../x", "netns:a/b", 'eth0"', "eth 0", "a" * 16, "vrf:x", "eth0;drop", "é"]
)
def test_what_could_not_be_a_name_is_refused(text):
    with pytest.raises(InvalidInput):
        parse_uplink(text)
