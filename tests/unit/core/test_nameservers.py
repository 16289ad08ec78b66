from __future__ import annotations

import pytest

from atoll.core.errors import InvalidInput
from atoll.core.nameservers import parse_nameservers
from atoll.core.reach import parse_open_ranges

RESOLV_CONF = """# made by somebody
search example.com
nameserver 127.0.0.53
nameserver 9.9.9.9
nameserver 2001:db8::53
nameserver 10.0.0.2
options edns0
nameserver 9.9.9.9
nameserver
"""


def parsed(text: str, opened: str = "", resolv_conf: str = RESOLV_CONF) -> tuple[str, ...]:
    return parse_nameservers(text, parse_open_ranges(opened), lambda: resolv_conf)


@pytest.mark.parametrize(
    ("text", "opened", "expected"),
    [
        ("8.8.8.8,1.1.1.1", "", ("8.8.8.8", "1.1.1.1")),
        (" 9.9.9.9 , 9.9.9.9,", "", ("9.9.9.9",)),
        ("10.0.0.2", "10.0.0.0/24", ("10.0.0.2",)),
        ("host", "", ("9.9.9.9",)),
        ("host", "10.0.0.2/32", ("9.9.9.9", "10.0.0.2")),
    ],
)
def test_addresses_and_those_of_the_host(text: str, opened: str, expected: tuple[str, ...]) -> None:
    assert parsed(text, opened) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1 to 10"),
        (",".join(f"9.9.9.{number}" for number in range(11)), "1 to 10"),
        ("dns.example", "not an IPv4 address"),
        ("::1", "not an IPv4 address"),
        ("10.0.0.2", "--open-ranges 10.0.0.2/32"),
        ("127.0.0.53", "never reached"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_says_what_to_do(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parsed(text)


@pytest.mark.parametrize(
    ("resolv_conf", "says"), [("nameserver 127.0.0.53\n", "only 127.0.0.53"), ("", "none with an IPv4 address")]
)
def test_a_host_whose_resolvers_cannot_be_reached_from_there(resolv_conf: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parsed("host", resolv_conf=resolv_conf)
