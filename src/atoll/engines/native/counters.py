"""How many packets were refused, by rule: the kernel counts each, while it tells of a few only."""

from __future__ import annotations

import socket
import struct

from atoll.core.packet_policy import Refusal
from atoll.wire import netlink

from .rules import FABRIC_TABLE, refuse

NFTABLES, GET_OBJECT, NEW_OBJECT = 10, 19, 18
TABLE, NAME, TYPE, DATA = 1, 2, 3, 4
COUNTER, PACKETS = 1, 2
NFPROTO_INET = 1
NLM_F_DUMP = 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3

RULES = {refuse(each): each for each in Refusal}


def refused_packets() -> dict[Refusal, int]:
    """In the network namespace of the calling thread, since its rules were loaded."""
    wanted = netlink.attribute(TABLE, FABRIC_TABLE.encode() + b"\0") + netlink.attribute(
        TYPE, struct.pack("!I", COUNTER)
    )
    request = netlink.netfilter_message(NFTABLES << 8 | GET_OBJECT, NLM_F_DUMP, NFPROTO_INET, 0, wanted)
    found: dict[Refusal, int] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, netlink.NETLINK_NETFILTER) as sock:
        sock.bind((0, 0))
        sock.send(request)
        while True:
            for kind, _, body in netlink.messages(sock.recv(65536)):
                if kind == NLMSG_DONE:
                    return found
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    raise OSError(code, "nftables does not tell its counters")
                found |= _counter(body)


def _counter(body: bytes) -> dict[Refusal, int]:
    parts = netlink.attributes(body, netlink.NFGENMSG)
    rule = RULES.get(parts[NAME].rstrip(b"\0").decode())
    packets = int.from_bytes(netlink.attributes(parts[DATA])[PACKETS], "big")
    return {rule: packets} if rule is not None else {}
