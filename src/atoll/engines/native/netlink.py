"""The handful of rtnetlink messages a slot needs, sent in batches on one socket.

A library exists (pyroute2); the launcher may import the standard library only, and a create has no
time for its 3 ms a request.
"""

from __future__ import annotations

import os
import socket
import struct

RTM_NEWLINK, RTM_DELLINK, RTM_SETLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH = 16, 17, 19, 20, 24, 28
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE = 1, 4, 0x400, 0x200, 0x100
NLMSG_ERROR = 2
IFF_UP = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINKINFO, IFLA_GROUP, IFLA_NET_NS_FD = 1, 3, 18, 27, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
RTNH_F_ONLINK = 4
NDA_DST, NDA_LLADDR, NUD_PERMANENT = 1, 2, 0x80
RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 254, 4, 0, 253
RTN_UNICAST, RTN_UNREACHABLE = 1, 7
NLA_F_NESTED = 0x8000


def attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def new_veth(name: str, peer_name: str, peer_netns_fd: int, macs: tuple[bytes, bytes] | None = None) -> bytes:
    """`macs`: of this end and the peer; the kernel's choice without them."""
    own_mac, peer_mac = (attribute(IFLA_ADDRESS, mac) for mac in macs) if macs else (b"", b"")
    peer = ifinfo() + text(IFLA_IFNAME, peer_name) + u32(IFLA_NET_NS_FD, peer_netns_fd) + peer_mac
    data = attribute(IFLA_INFO_DATA | NLA_F_NESTED, attribute(VETH_INFO_PEER | NLA_F_NESTED, peer))
    info = attribute(IFLA_LINKINFO | NLA_F_NESTED, text(IFLA_INFO_KIND, "veth") + data)
    return _message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfo() + text(IFLA_IFNAME, name) + own_mac + info)


def link_up(index: int) -> bytes:
    return _message(RTM_NEWLINK, 0, ifinfo(index, IFF_UP, IFF_UP))


def del_link(name: str) -> bytes:
    return _message(RTM_DELLINK, 0, ifinfo() + text(IFLA_IFNAME, name))


def into_group(name: str, group: int) -> bytes:
    return _message(RTM_SETLINK, 0, ifinfo() + text(IFLA_IFNAME, name) + u32(IFLA_GROUP, group))


def del_group(group: int) -> bytes:
    """All links of the group, which takes as long as one of them."""
    return _message(RTM_DELLINK, 0, ifinfo() + u32(IFLA_GROUP, group))


def new_address(index: int, address: str, prefix: int) -> bytes:
    raw = socket.inet_aton(address)
    body = struct.pack("=BBBBI", socket.AF_INET, prefix, 0, RT_SCOPE_UNIVERSE, index)
    return _message(
        RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body + attribute(IFA_LOCAL, raw) + attribute(IFA_ADDRESS, raw)
    )


def new_route(destination: str, prefix: int, index: int) -> bytes:
    body = _rtmsg(prefix, RT_SCOPE_LINK, RTN_UNICAST)
    attributes = u32(RTA_OIF, index) + attribute(RTA_DST, socket.inet_aton(destination))
    return _message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body + attributes)


def no_default_route() -> bytes:
    """Everything without a better route is refused at once instead of timing out."""
    return _message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, _rtmsg(0, RT_SCOPE_UNIVERSE, RTN_UNREACHABLE))


def no_route(destination: str, prefix: int) -> bytes:
    body = _rtmsg(prefix, RT_SCOPE_UNIVERSE, RTN_UNREACHABLE)
    return _message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body + attribute(RTA_DST, socket.inet_aton(destination)))


def default_route(gateway: str, index: int) -> bytes:
    """In the place of the one that is there. The gateway need not be in a network of the link's."""
    body = _rtmsg(0, RT_SCOPE_UNIVERSE, RTN_UNICAST, RTNH_F_ONLINK)
    attributes = u32(RTA_OIF, index) + attribute(RTA_GATEWAY, socket.inet_aton(gateway))
    return _message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body + attributes)


def new_neighbour(index: int, address: str, mac: bytes) -> bytes:
    """Known for good: nobody is asked, so nobody can answer falsely."""
    body = struct.pack("=BxxxiHBB", socket.AF_INET, index, NUD_PERMANENT, 0, 0)
    attributes = attribute(NDA_DST, socket.inet_aton(address)) + attribute(NDA_LLADDR, mac)
    return _message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body + attributes)


def _rtmsg(prefix: int, scope: int, kind: int, flags: int = 0) -> bytes:
    return struct.pack("=BBBBBBBBI", socket.AF_INET, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, kind, flags)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, 0, 0) + body


class Netlink:
    """A socket in the network namespace that is current when it is opened."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))

    def send(self, *messages: bytes) -> None:
        """All at once; raises the first error the kernel reports."""
        self._socket.send(b"".join(messages))
        first: OSError | None = None
        for _ in messages:
            reply = self._socket.recv(65536)
            kind = struct.unpack_from("=IH", reply)[1]
            code = struct.unpack_from("=i", reply, 16)[0] if kind == NLMSG_ERROR else 0
            if code and first is None:
                first = OSError(-code, f"netlink: {os.strerror(-code)}")
        if first:
            raise first

    def close(self) -> None:
        self._socket.close()
