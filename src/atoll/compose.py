"""The one place that reads configuration and knows every room: flags, environment, defaults; then plain data.

    python -m atoll.compose ROLE          one process of an installation: node, server or edge

A role gets its settings as JSON in ATOLL_SETTINGS, and in ATOLL_PARENT the process that it ends with. `atoll up`
(supervisor.py) starts the roles; any other starter of processes can do the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import logging
import os
import re
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from atoll.core.check import Check
from atoll.core.errors import InvalidInput, NotFound
from atoll.core.nameservers import parse_nameservers
from atoll.core.reach import Network, parse_open_ranges
from atoll.core.settings import (
    Clocks,
    EdgeSettings,
    EgressSettings,
    NodeSettings,
    Places,
    Reserves,
    ServerSettings,
    TlsFiles,
    egress_id,
)
from atoll.core.template import Template, Unbuilt
from atoll.core.uplink import NO_UPLINK, Uplink, Way, parse_uplink

if TYPE_CHECKING:
    from atoll.control.keys import Keys
    from atoll.storage.progress import Progress

SETTINGS_VARIABLE = "ATOLL_SETTINGS"
PARENT_VARIABLE = "ATOLL_PARENT"
LOG_LEVEL_VARIABLE = "ATOLL_LOG_LEVEL"
URL_FILE = "url"
"""In RUN: what the running installation is reached by."""
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

T = TypeVar("T")
Json = dict[str, Any]  # Any: settings as JSON values


# ---- configuration


@dataclass(frozen=True)
class Setting:
    """One thing an operator can set: `--name` and ATOLL_NAME mean the same."""

    name: str
    default: str
    help: str
    metavar: str | None = "TEXT"
    """None: a flag without a value."""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "ATOLL_" + self.name.upper()


SETTINGS = (
    Setting("listen", "127.0.0.1:8080", "Address to serve on; port 0 takes a free one.", "HOST:PORT"),
    Setting("data_dir", "/var/lib/atoll", "Where everything is kept.", "DIR"),
    Setting("region", "local", "Name of this place, as sandboxes report it."),
    Setting("templates", "base,code-interpreter", "Templates to prepare, separated by commas.", "NAMES"),
    Setting(
        "background_templates",
        "code-interpreter-v1",
        "Templates to build while Atoll serves already, separated by commas.",
        "NAMES",
    ),
    Setting("ready", "auto", "Sandboxes kept ready for each template in use; auto: 2 % of the memory.", "NUMBER"),
    Setting(
        "inactivity", "3600", "Delete a sandbox without a timeout that nobody used for so long; 0: never.", "SECONDS"
    ),
    Setting("max_life", "86400", "Delete a sandbox after so much running time; 0: never.", "SECONDS"),
    Setting("keep_stopped", "2592000", "Keep what is paused or stopped for so long; 0: for ever.", "SECONDS"),
    Setting(
        "uplink",
        "auto",
        "How sandboxes reach the internet: auto (default route), an interface, netns:NAME, none.",
        "WAY",
    ),
    Setting("open_ranges", "", "Internal networks that sandboxes may reach all the same: 10.1.0.0/16,…", "NETWORKS"),
    Setting("nameservers", "8.8.8.8,1.1.1.1", "Who resolves names for sandboxes; host: what resolv.conf says.", "IPS"),
    Setting("egress_rate", "100", "New connections of a sandbox per second; 0: any number.", "NUMBER"),
    Setting("egress_burst", "500", "New connections of a sandbox at once, after a pause.", "NUMBER"),
    Setting("egress_mbit", "0", "Bandwidth of a sandbox, out and in, in Mbit/s; 0: no limit.", "NUMBER"),
    Setting("egress_log_mib", "1024", "Disk for the logs of all outbound traffic, in MiB.", "NUMBER"),
    Setting("egress_ca", "", "Certificates (PEM) to trust beside the system's where rules change requests.", "FILE"),
    Setting("callback_ca", "", "Certificates (PEM) to trust beside the system's when results go to a URL.", "FILE"),
    Setting("domain", "", "Give every sandbox and port a name below it; its DNS wildcard is yours to set.", "NAME"),
    Setting("tls", "", "auto: own authority and certificate; files: yours; off. With a domain: auto.", "MODE"),
    Setting("tls_cert", "", "Certificate chain (PEM) for the domain and *.domain.", "FILE"),
    Setting("tls_key", "", "Its private key (PEM).", "FILE"),
    Setting("print_env", "", "Write ATOLL_BASE_URL and ATOLL_API_KEY there once ready to serve.", "FILE"),
    Setting("insecure_http", "", "Serve plain HTTP beyond this machine: keys and tokens travel in clear.", None),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}
TRUE = frozenset(("1", "true", "yes", "on"))
DEFAULT_PORTS = {"http": None, "https": 443}
MAX_DOMAIN = 200  # a port, an id and a region stand before it in a name of 253
MAX_NUMBER = 1_000_000
RESOLV_CONF = Path("/etc/resolv.conf")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class TlsMode(StrEnum):
    AUTO = "auto"
    FILES = "files"
    OFF = "off"


@dataclass(frozen=True)
class Config:
    places: Places
    host: str
    port: int
    region: str
    templates: tuple[str, ...]
    background_templates: tuple[str, ...]
    ready: int | None
    """None: as many as the memory suggests."""
    clocks: Clocks
    print_env: Path | None
    domain: str | None = None
    tls: TlsMode = TlsMode.OFF
    tls_files: TlsFiles | None = None
    insecure_http: bool = False
    uplink: Uplink = NO_UPLINK
    open_ranges: str = ""
    callback_ca: Path | None = None
    egress: EgressSettings = field(default_factory=EgressSettings)

    def server(self, public_url: str) -> ServerSettings:
        return ServerSettings(
            places=self.places,
            public_url=public_url,
            region=self.region,
            clocks=self.clocks,
            domain=self.domain,
        )

    def node(self) -> NodeSettings:
        return NodeSettings(
            places=self.places,
            region=self.region,
            warm=self.templates,
            ready=self.ready,
            uplink=self.uplink,
            open_ranges=self.open_ranges,
            egress=self.egress,
        )

    def edge(self, port: int, listen_fd: int) -> EdgeSettings:
        return EdgeSettings(
            places=self.places,
            host=self.host,
            port=port,
            listen_fd=listen_fd,
            domain=self.domain,
            region=self.region.lower(),
            tls=self.certificate(),
            plain_for_all=self.insecure_http,
            callback_ca=self.callback_ca,
        )

    def certificate(self) -> TlsFiles | None:
        if self.tls is TlsMode.AUTO:
            return TlsFiles(self.places.tls / "cert.pem", self.places.tls / "key.pem")
        return self.tls_files

    @property
    def authority(self) -> Path | None:
        """What clients have to be told to trust."""
        return self.places.tls / "ca.pem" if self.tls is TlsMode.AUTO else None

    def public_url(self, host: str, port: int) -> str:
        """A wildcard is no address to call; on the same machine loopback is."""
        scheme = "http" if self.tls is TlsMode.OFF else "https"
        name = self.domain or ("127.0.0.1" if host == "0.0.0.0" else host)  # noqa: S104 - compared, not bound
        return f"{scheme}://{name}" + ("" if port == DEFAULT_PORTS[scheme] else f":{port}")


def environment() -> Mapping[str, str]:
    return os.environ


def setting(name: str, flags: Mapping[str, str | None], environ: Mapping[str, str]) -> str:
    flag = flags.get(name)
    return flag if flag is not None else environ.get(BY_NAME[name].variable, BY_NAME[name].default)


def read_places(flags: Mapping[str, str | None], environ: Mapping[str, str]) -> Places:
    return Places.of(Path(setting("data_dir", flags, environ)).expanduser())


def read_config(flags: Mapping[str, str | None], environ: Mapping[str, str]) -> Config:
    values = {name: setting(name, flags, environ).strip() for name in BY_NAME}
    host, port = parse_listen(values["listen"])
    domain = parse_domain(values["domain"])
    tls, tls_files = read_tls(values, domain)
    insecure_http = values["insecure_http"].lower() in TRUE
    places = read_places(flags, environ)
    opened = _checked("open_ranges", values, parse_open_ranges)
    if not is_loopback(host) and tls is TlsMode.OFF and not insecure_http:
        raise InvalidInput(
            f"{host} is reachable from other machines and the listener speaks plain HTTP: give it --domain and --tls, "
            "put a TLS proxy in front of 127.0.0.1, or say --insecure-http"
        )
    return Config(
        places=places,
        host=host,
        port=port,
        region=_name("region", values["region"]),
        templates=_names("templates", values["templates"]),
        background_templates=_names("background_templates", behind)
        if (behind := values["background_templates"])
        else (),
        ready=None if values["ready"] == "auto" else _number("ready", values),
        clocks=Clocks(
            inactivity_s=_seconds("inactivity", values),
            max_life_s=_seconds("max_life", values),
            keep_stopped_s=_seconds("keep_stopped", values),
        ),
        print_env=Path(values["print_env"]).expanduser() if values["print_env"] else None,
        domain=domain,
        tls=tls,
        tls_files=tls_files,
        insecure_http=insecure_http,
        uplink=_checked("uplink", values, parse_uplink),
        open_ranges=",".join(map(str, opened)),
        callback_ca=_checked("callback_ca", values, parse_authorities),
        egress=read_egress(values, domain, places.tls / "ca.pem" if tls is TlsMode.AUTO else None, opened),
    )


def read_egress(
    values: Mapping[str, str], domain: str | None, own_authority: Path | None, opened: tuple[Network, ...]
) -> EgressSettings:
    rate, burst = _number("egress_rate", values), _number("egress_burst", values)
    if rate and not burst:
        raise _wrong("egress_burst", values["egress_burst"], "1 or more; --egress-rate 0 switches the limit off")
    authorities = (_checked("egress_ca", values, parse_authorities), own_authority)
    return EgressSettings(
        nameservers=_checked("nameservers", values, lambda text: parse_nameservers(text, opened, _resolv_conf)),
        rate=rate,
        burst=burst,
        mbit=_number("egress_mbit", values),
        log_mib=_number("egress_log_mib", values, least=1),
        domain=domain,
        authorities=tuple(path for path in authorities if path is not None),
    )


def _resolv_conf() -> str:
    try:
        return RESOLV_CONF.read_text()
    except OSError as error:
        raise InvalidInput(f"{RESOLV_CONF} cannot be read: {error.strerror}") from error


def parse_listen(text: str) -> tuple[str, int]:
    """IPv4 or a name: the SDKs' HTTP clients bind their side to IPv4."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or ":" in host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise _wrong("listen", text, "HOST:PORT, for example 127.0.0.1:8080")
    return host, int(port)


def parse_domain(text: str) -> str | None:
    """With a dot in it: clients do not believe a wildcard right below a top-level name."""
    name = text.lower().removesuffix(".")
    if not name:
        return None
    if len(name) > MAX_DOMAIN or not _DOMAIN.fullmatch(name) or name.replace(".", "").isdigit():
        raise _wrong("domain", text, "a name with a dot in it, for example sandboxes.example.com")
    return name


def read_tls(values: Mapping[str, str], domain: str | None) -> tuple[TlsMode, TlsFiles | None]:
    named = values["tls"].lower() or (TlsMode.AUTO if domain else TlsMode.OFF)
    if named not in set(TlsMode):
        raise _wrong("tls", values["tls"], "auto, files or off")
    mode = TlsMode(named)
    if mode is not TlsMode.OFF and domain is None:
        raise InvalidInput("--tls (ATOLL_TLS) needs --domain: a certificate is for a name")
    if mode is TlsMode.FILES:
        if not values["tls_cert"] or not values["tls_key"]:
            raise InvalidInput("--tls files needs --tls-cert and --tls-key")
        return mode, TlsFiles(*(Path(values[name]).expanduser().absolute() for name in ("tls_cert", "tls_key")))
    return mode, None


def parse_authorities(text: str) -> Path | None:
    """Looked at before anything starts, or every call-back would fail later."""
    if not text:
        return None
    path = Path(text).expanduser().absolute()
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"{text!r} is no file of certificates: {error}") from error
    return path


def is_loopback(host: str) -> bool:
    """A name may be resolved to anything: only addresses count, and the one name that every system keeps for itself."""
    try:
        return host == "localhost" or ipaddress.IPv4Address(host).is_loopback
    except ipaddress.AddressValueError:
        return False


def _seconds(name: str, values: Mapping[str, str]) -> int:
    text = values[name]
    if not (text.isascii() and text.isdigit()):
        raise _wrong(name, text, "whole seconds, 0 switches it off")
    return int(text)


def _number(name: str, values: Mapping[str, str], least: int = 0) -> int:
    text = values[name]
    if not (text.isascii() and text.isdigit() and least <= int(text) <= MAX_NUMBER):
        raise _wrong(name, text, f"a whole number from {least} to {MAX_NUMBER}")
    return int(text)


def _checked(name: str, values: Mapping[str, str], parse: Callable[[str], T]) -> T:
    try:
        return parse(values[name])
    except InvalidInput as error:
        which = BY_NAME[name]
        raise InvalidInput(f"{which.flag} ({which.variable}): {error.message}") from error


def _names(name: str, text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_name(name, part.strip()) for part in text.split(",")))


def _name(name: str, text: str) -> str:
    if not text or not all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in text):
        raise _wrong(name, text, "letters, digits, '-', '_' and '.'")
    return text


def _wrong(name: str, text: str, wanted: str) -> InvalidInput:
    which = BY_NAME[name]
    return InvalidInput(f"{which.flag} ({which.variable}): {text!r} is not {wanted}")


# ---- what the command line needs of the rooms below


def prepare_tls(config: Config) -> None:
    """Makes or renews what `--tls auto` promises, and refuses files that are no usable pair."""
    from atoll.edge.certificates import Files, ensure
    from atoll.edge.tls import make_context

    files = config.certificate()
    if files is None or config.domain is None:
        return
    if config.tls is TlsMode.AUTO:
        ensure(Files(config.places.tls), config.domain, config.region.lower(), datetime.now(UTC))
    try:
        make_context(files.cert, files.key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"--tls-cert {files.cert} and --tls-key {files.key} cannot be used: {error}") from error


def first_key(places: Places) -> str | None:
    return _text(places.first_key)


def running_url(places: Places) -> str | None:
    return _text(places.run / URL_FILE)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def open_keys(places: Places) -> Iterator[Keys]:
    """Beside a running server or without one: the database takes both."""
    from atoll.control.clock import SystemClock
    from atoll.control.journal import Journal
    from atoll.control.keys import Keys
    from atoll.control.tokens import load_or_make_key
    from atoll.store.engine import migrate, sqlite
    from atoll.store.seal import Seal
    from atoll.store.sql import SqlStore

    if not places.data.is_dir():
        raise NotFound(f"there is no installation in {places.data}; `atoll up` makes one")
    engine = sqlite(places.database)
    with contextlib.ExitStack() as stack:
        stack.callback(engine.dispose)
        migrate(engine)
        store, clock = SqlStore(engine, Seal(load_or_make_key(places.seal_key))), SystemClock()
        stack.callback(store.close)
        yield Keys(store, clock, Journal(store, clock))


def host_checks(places: Places, address: tuple[str, int] | None = None) -> list[Check]:
    from atoll.engines.native.probe import port_free, run_checks

    return run_checks(places.data) + ([port_free(*address)] if address else [])


def choose_uplink(wanted: Uplink) -> Uplink:
    """What `auto` means on this machine now; refuses one that was named and is not there."""
    from atoll.engines.native.uplink import choose

    return choose(wanted)


def prepare(places: Places, templates: tuple[str, ...], progress: Progress) -> list[Template]:
    """Everything a sandbox needs that is made once: master key, runtime, disk images, templates."""
    from atoll.storage.prepare import prepare as prepare_storage

    return prepare_storage(places.data, progress, only=templates)


def stock_templates() -> tuple[str, ...]:
    from atoll.storage.templates import stock_specs

    return tuple(spec.name for spec in stock_specs())


def outdated_templates(places: Places, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `names` that have a layer to be built."""
    from atoll.storage.templates import outdated

    return outdated(places.data, names)


def unbuilt_templates(places: Places) -> list[Unbuilt]:
    """The stock templates that are not there."""
    from atoll.storage.templates import unbuilt

    return unbuilt(places.data)


def built_templates(places: Places) -> list[Template]:
    from atoll.storage.templates import load_all

    return load_all(places.data)


# ---- roles


@dataclass(frozen=True)
class Role:
    decode: Callable[[Json], Any]  # Any: the role's own settings class
    run: Callable[[Any], None]
    """Blocks until SIGTERM."""
    privileged: bool
    """Only the node acts on the host; the others keep no capability and write nowhere else than in `writes`."""
    writes: Callable[[Any], tuple[Path, ...]] = lambda settings: ()
    reads: Callable[[Any], tuple[Path, ...]] = lambda settings: ()
    """Files elsewhere that it must be able to read."""


def encode_settings(settings: Any) -> str:  # Any: one of the settings classes
    return json.dumps(asdict(settings), default=str)


def _places(data: Json) -> Places:
    return Places(data=Path(data["places"]["data"]), run=Path(data["places"]["run"]))


def decode_node(data: Json) -> NodeSettings:
    return NodeSettings(
        places=_places(data),
        region=data["region"],
        reserves=Reserves(**data["reserves"]),
        warm=tuple(data["warm"]),
        ready=data["ready"],
        uplink=Uplink(Way(data["uplink"]["way"]), data["uplink"]["name"]),
        open_ranges=data["open_ranges"],
        egress=decode_egress(data["egress"]),
    )


def decode_egress(data: Json) -> EgressSettings:
    authorities = tuple(map(Path, data["authorities"]))
    return EgressSettings(**{**data, "nameservers": tuple(data["nameservers"]), "authorities": authorities})


def decode_server(data: Json) -> ServerSettings:
    return ServerSettings(
        places=_places(data),
        public_url=data["public_url"],
        region=data["region"],
        clocks=Clocks(**data["clocks"]),
        domain=data["domain"],
    )


def decode_edge(data: Json) -> EdgeSettings:
    tls = data["tls"] and TlsFiles(Path(data["tls"]["cert"]), Path(data["tls"]["key"]))
    authorities = data["callback_ca"] and Path(data["callback_ca"])
    return EdgeSettings(**{**data, "places": _places(data), "tls": tls, "callback_ca": authorities})


def _run_node(settings: NodeSettings) -> None:
    from atoll.node.main import run

    run(settings)


def _run_server(settings: ServerSettings) -> None:
    from atoll.server import run

    run(settings)


def _server_writes(settings: ServerSettings) -> tuple[Path, ...]:
    return settings.places.data, settings.places.run


def _run_edge(settings: EdgeSettings) -> None:
    from atoll.edge.main import run

    run(settings)


def _edge_reads(settings: EdgeSettings) -> tuple[Path, ...]:
    own = (settings.tls.cert, settings.tls.key) if settings.tls else ()
    return own + ((settings.callback_ca,) if settings.callback_ca else ())


def _edge_writes(settings: EdgeSettings) -> tuple[Path, ...]:
    from atoll import confinement

    place = settings.places.ingress_socket.parent
    confinement.passage(place, egress_id(settings.places.installation))
    log = settings.places.access_log.parent
    log.mkdir(mode=0o700, parents=True, exist_ok=True)
    return (place, log)


ROLES: dict[str, Role] = {
    "node": Role(decode_node, _run_node, privileged=True),
    "server": Role(decode_server, _run_server, privileged=False, writes=_server_writes),
    "edge": Role(decode_edge, _run_edge, privileged=False, reads=_edge_reads, writes=_edge_writes),
}


def run_role(name: str) -> None:
    """In the child. One process of a role at a time: a new one waits until its predecessor is really gone."""
    from atoll import confinement

    role = ROLES[name]
    settings = role.decode(json.loads(os.environ.pop(SETTINGS_VARIABLE)))
    parent = int(os.environ.pop(PARENT_VARIABLE, "0")) or os.getppid()
    confinement.end_with_parent(parent)
    logging.basicConfig(level=os.environ.pop(LOG_LEVEL_VARIABLE, "INFO"), format=LOG_FORMAT)
    confinement.raise_open_files()
    with (settings.places.run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not role.privileged:
            python = (Path(sys.prefix), Path(sys.base_prefix))
            read = (settings.places.data, *python, Path(__file__), *role.reads(settings))
            written = role.writes(settings)  # made while that can be done
            confinement.drop(confinement.needed_for(*read))
            confinement.write_only_below(*written)
            confinement.end_with_parent(parent)  # again: a change of credentials may clear it
        role.run(settings)


if __name__ == "__main__":
    run_role(sys.argv[1])
