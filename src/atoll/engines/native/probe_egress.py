"""What sandboxes need of a host to get out, tried in a network namespace of its own. The caller is a child process."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from atoll.core.packet_policy import LOG_GROUP
from atoll.wire import ctnetlink, netlink, nflog

from . import syscalls as sc

RULES = f"""
table inet atoll-probe {{
  set allowed {{ type ipv4_addr; flags interval; elements = {{ 192.0.2.0/24 }} }}
  set fast {{ type ipv4_addr; flags dynamic; timeout 1m; }}
  chain divert {{
    type nat hook prerouting priority dstnat;
    ip daddr != @allowed tcp dport 443 dnat ip to 192.0.0.8:1080
  }}
  chain out {{ type nat hook postrouting priority srcnat; masquerade; }}
  chain judge {{
    type filter hook forward priority filter; policy drop;
    ct state new add @fast {{ ip saddr limit rate over 100/second burst 500 packets }} drop
    ct count over 2048 drop
    log prefix "deny" group {LOG_GROUP} counter
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }}
}}
"""
ACCOUNTING = Path("/proc/sys/net/netfilter/nf_conntrack_acct")


def try_rules() -> None:
    sc.unshare(sc.CLONE_NEWNET)
    done = subprocess.run(["nft", "-f", "-"], input=RULES, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"nft: {done.stderr.strip().splitlines()[0]}")
    ACCOUNTING.write_text("1")


def try_connection_events() -> None:
    sc.unshare(sc.CLONE_NEWNET)
    groups = (ctnetlink.GROUP_NEW, ctnetlink.GROUP_UPDATE, ctnetlink.GROUP_DESTROY)
    with _netfilter() as sock:
        sock.bind((0, sum(1 << group - 1 for group in groups)))


def try_packet_log() -> None:
    sc.unshare(sc.CLONE_NEWNET)
    with _netfilter() as sock:
        sock.bind((0, 0))
        for request in nflog.bind(LOG_GROUP):
            sock.send(request)
            if code := netlink.outcome(sock.recv(65_536)):
                raise OSError(code, os.strerror(code))


def _netfilter() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, netlink.NETLINK_NETFILTER)


MODULES = "load the kernel's modules nf_tables, nft_nat, nft_masq, nft_reject_inet, nft_log, nft_limit, nft_connlimit"
TRIED: tuple[tuple[str, Callable[[], None], str], ...] = (
    ("outbound rules", try_rules, MODULES),
    ("connection events", try_connection_events, "load the kernel's module nf_conntrack_netlink"),
    ("refusal log", try_packet_log, "load the kernel's module nfnetlink_log"),
)
"""Name, what is tried, what to do when it fails."""
