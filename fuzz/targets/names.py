"""A normal form is stable, is read the same by whoever resolves it, and is never an address."""

from __future__ import annotations

import ipaddress
import socket

from atoll.core.names import is_name, matches, normal, parse_pattern


def check(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    name = normal(text)
    if name is not None:
        assert is_name(name) and normal(name) == name and normal(f"{name}.") == name
        assert normal(name.upper()) == name
        assert not is_address(name)
        assert matches(name, name) and matches("*", name) and not matches(f"*.{name}", name)
        assert not matches(name, f"a.{name}") and matches(f"*.{name}", f"a.{name}")
        assert not matches(f"*.{name}", f"a{name}")
    pattern = parse_pattern(text)
    assert (pattern is not None) >= (name is not None)
    if pattern is not None:
        assert pattern == "*" or normal(pattern.removeprefix("*.")) == pattern.removeprefix("*.")
        assert parse_pattern(pattern) == pattern


def is_address(name: str) -> bool:
    """As inet_aton reads them too: `127.1`, `0x7f.1`, `017700000001`."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        try:
            socket.inet_aton(name)
        except OSError:
            return False
    return True
