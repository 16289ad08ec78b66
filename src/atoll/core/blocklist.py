"""What no sandbox reaches because it is abused: a table that is on by default, and the operator's own lines. Pure.

A line is a name (`pool.example`, with all below it), an address or network (`203.0.113.0/24`), or a port
(`tcp/25`, `udp/137`). `#` begins a comment. The operator's lines add; nothing takes away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .errors import InvalidInput
from .names import normal
from .prefixes import Prefixes
from .reach import Address, Network, parse_network, plain

MAX_LINES = 100_000


@dataclass(frozen=True)
class BlockList:
    names: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    ports: frozenset[tuple[str, int]] = frozenset()
    _prefixes: Prefixes = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_prefixes", Prefixes(self.networks))

    def name(self, name: str) -> str | None:
        """The entry that has it: itself or one above."""
        labels = name.split(".")
        above = (".".join(labels[start:]) for start in range(len(labels)))
        return next((each for each in above if each in self.names), None)

    def destination(self, address: Address, protocol: str, port: int) -> str | None:
        if (protocol, port) in self.ports:
            return f"{protocol}/{port}"
        found = self._prefixes.first(plain(address), address)
        return str(found) if found is not None else None

    def __or__(self, other: BlockList) -> BlockList:
        networks = tuple(dict.fromkeys((*self.networks, *other.networks)))
        return BlockList(self.names | other.names, networks, self.ports | other.ports)


NOTHING_BLOCKED = BlockList()


def parse_blocklist(lines: Iterable[str]) -> BlockList:
    """Raises InvalidInput with the number of the line."""
    names: set[str] = set()
    networks: dict[Network, None] = {}
    ports: set[tuple[str, int]] = set()
    for number, line in enumerate(lines, 1):
        if number > MAX_LINES:
            raise InvalidInput(f"a block list has at most {MAX_LINES} lines")
        word = line.partition("#")[0].strip()
        if not word:
            continue
        if (port := _port(word)) is not None:
            ports.add(port)
        elif (network := parse_network(word)) is not None:
            networks[network] = None
        elif (name := normal(word.removeprefix("*."))) is not None:
            names.add(name)
        else:
            raise InvalidInput(f"line {number} of the block list is no name, network or port: {word[:100]!r}")
    return BlockList(frozenset(names), tuple(networks), frozenset(ports))


def _port(word: str) -> tuple[str, int] | None:
    protocol, slash, number = word.partition("/")
    if not slash or protocol not in ("tcp", "udp") or not (number.isascii() and number.isdigit() and len(number) <= 5):
        return None
    return (protocol, int(number)) if 0 < int(number) < 65536 else None


DEFAULT_LINES: Sequence[str] = (
    # Names by which clouds serve their machines; the addresses are never reachable anyway.
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "metadata.azure.com",
    "instance-data.ec2.internal",
    "metadata.tencentyun.com",
    "metadata.packet.net",
    "metadata.platformequinix.com",
    # Mining pools
    "2miners.com",
    "antpool.com",
    "c3pool.com",
    "c3pool.org",
    "crypto-pool.fr",
    "ethermine.org",
    "f2pool.com",
    "flypool.org",
    "gulf.moneroocean.stream",
    "hashvault.pro",
    "hellominer.com",
    "herominers.com",
    "hiveon.net",
    "kryptex.network",
    "minergate.com",
    "minexmr.com",
    "miningpoolhub.com",
    "moneroocean.stream",
    "monerohash.com",
    "monerop.com",
    "nanopool.org",
    "nicehash.com",
    "p2pool.io",
    "poolin.com",
    "prohashing.com",
    "sparkpool.com",
    "supportxmr.com",
    "unmineable.com",
    "viabtc.com",
    "woolypooly.com",
    "xmrpool.eu",
    "xmrpool.net",
    "zpool.ca",
    # Mail between servers, and the file sharing of local networks: from a sandbox it is spam or a worm.
    "tcp/25",
    "tcp/135",
    "tcp/137",
    "tcp/138",
    "tcp/139",
    "tcp/445",
    "udp/135",
    "udp/137",
    "udp/138",
    "udp/139",
)
DEFAULT_BLOCKLIST = parse_blocklist(DEFAULT_LINES)
