"""What a sandbox may reach and who may reach it, as a caller says it; the server checks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from .read import Json

ALL_TRAFFIC = "0.0.0.0/0"
"""Every destination, IPv6 too; in `deny_out` it closes what `allow_out` does not open."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """`network=` of `create` and `update_network`; a plain dict with the same names does as well.

    Fields that are None are left out. Names in `allow_out` need `ALL_TRAFFIC` in `deny_out`.

    >>> network = Network(allow_out=["pypi.org", "*.pythonhosted.org"], deny_out=[ALL_TRAFFIC])
    >>> async with AsyncSandbox.create("busybox", network=network) as box:
    ...     print((await box.get_info()).network["allow_out"])
    ['pypi.org', '*.pythonhosted.org']
    """

    allow_out: Sequence[str] | None = None
    """Names, `*.names`, addresses and networks that it may reach."""
    deny_out: Sequence[str] | None = None
    """Addresses and networks that it may not."""
    allow_public_traffic: bool | None = None
    """False: nobody enters its ports without a credential."""
    mask_request_host: str | None = None
    """The Host that its programs see; `${PORT}` stands for their port."""
    https_ports: Sequence[int] | None = None
    """Ports whose programs speak TLS."""
    rules: Mapping[str, Any] | None = None  # Any: JSON values
    """Headers that are set in requests to a name: `{"api.example.com": [{"transform": {"headers": {…}}}]}`."""
    dns_servers: Sequence[str] | None = None
    egress_proxy: Mapping[str, Any] | None = None  # Any: JSON values
    """A SOCKS5 server that carries all TCP: `{"address": "host:port", "username", "password", "tls"}`."""
    dns: str | None = None
    """`open`: with allowed names, every name is resolved."""
    ech: str | None = None
    """`refuse`: TLS hellos whose real name is encrypted are refused."""
    inspect: bool | None = None
    """Names are read although no list needs them, for the log."""


def network_body(network: Network | Mapping[str, Any]) -> Json:  # Any: JSON values
    """What is sent: lists for sequences, and nothing for what was not said."""
    given = (
        network
        if isinstance(network, Mapping)
        else {each.name: getattr(network, each.name) for each in fields(network)}
    )
    return {name: _plain(value) for name, value in given.items() if value is not None}


def _plain(value: Any) -> Any:  # Any: JSON values
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value
