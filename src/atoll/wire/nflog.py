"""Packets that the packet filter logs: the rule's prefix, and the beginning of the packet. Pure.

What the packet says is the sandbox's word but for its source address, which the filter has checked before.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .netlink import NFGENMSG, NLM_F_ACK, attribute, attributes, messages, netfilter_message

SUBSYSTEM = 4
MESSAGE_PACKET, MESSAGE_CONFIG = 0, 1
PAYLOAD, PREFIX = 9, 10
CONFIG_COMMAND, CONFIG_MODE, CONFIG_TIMEOUT = 1, 2, 4
COMMAND_BIND, COPY_PACKET = 1, 2
COPIED = 64
"""Bytes of each packet: both headers, with an IPv6 one."""
TIMEOUT_CS = 5
"""Hundredths of a second that the kernel may collect packets for."""

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp"}


@dataclass(frozen=True, slots=True)
class Logged:
    prefix: str
    source: bytes
    destination: bytes
    protocol: str
    port: int


def bind(group: int) -> list[bytes]:
    """Requests that make a socket the listener of a group; each is answered."""
    kind = SUBSYSTEM << 8 | MESSAGE_CONFIG
    command = attribute(CONFIG_COMMAND, struct.pack("=B", COMMAND_BIND))
    mode = attribute(CONFIG_MODE, struct.pack("!IBx", COPIED, COPY_PACKET))
    timeout = attribute(CONFIG_TIMEOUT, struct.pack("!I", TIMEOUT_CS))
    return [
        netfilter_message(kind, NLM_F_ACK, 0, group, command, 1),
        netfilter_message(kind, NLM_F_ACK, 0, group, mode + timeout, 2),
    ]


def read(datagram: bytes) -> list[Logged]:
    return [
        logged
        for kind, _, body in messages(datagram)
        if kind == SUBSYSTEM << 8 | MESSAGE_PACKET and (logged := _logged(body)) is not None
    ]


def _logged(body: bytes) -> Logged | None:
    parts = attributes(body, NFGENMSG)
    prefix = parts.get(PREFIX, b"").rstrip(b"\0").decode(errors="replace")
    packet = parts.get(PAYLOAD, b"")
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        number, source, destination, rest = packet[9], packet[12:16], packet[16:20], packet[(packet[0] & 15) * 4 :]
    elif version == 6 and len(packet) >= 40:
        number, source, destination, rest = packet[6], packet[8:24], packet[24:40], packet[40:]
    else:
        return None
    protocol = PROTOCOLS.get(number, str(number))
    port = int.from_bytes(rest[2:4], "big") if protocol in ("tcp", "udp") and len(rest) >= 4 else 0
    return Logged(prefix, source, destination, protocol, port)
