from __future__ import annotations

import json
from pathlib import Path

import pytest

from atoll import compose
from atoll.core.errors import InvalidInput, NotFound
from atoll.core.settings import Clocks, EgressSettings, Places, TlsFiles


def test_defaults_serve_loopback_only() -> None:
    config = compose.read_config({}, {})
    assert (config.host, config.port) == ("127.0.0.1", 8080)
    assert config.places == Places.of(Path("/var/lib/atoll"))
    assert config.clocks == Clocks()
    assert config.templates == ("base", "code-interpreter")
    assert config.print_env is None


def test_a_flag_wins_over_the_environment_and_that_over_the_default() -> None:
    environ = {"ATOLL_REGION": "env", "ATOLL_LISTEN": "127.0.0.1:1"}
    config = compose.read_config({"region": "flag", "listen": None}, environ)
    assert (config.region, config.port) == ("flag", 1)


def test_every_setting_has_a_flag_and_a_variable_of_the_same_name() -> None:
    for setting in compose.SETTINGS:
        assert setting.flag.removeprefix("--").replace("-", "_").upper() == setting.variable.removeprefix("ATOLL_")


@pytest.mark.parametrize(("flag", "text"), [("uplink", "netns:../x"), ("open_ranges", "169.254.0.0/16")])
def test_a_network_that_cannot_be_is_refused_naming_the_flag(flag: str, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        compose.read_config({flag: text}, {})
    assert compose.BY_NAME[flag].flag in refused.value.message
    assert text in refused.value.message


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "192.168.0.1:80", "example.test:80"])
def test_beyond_this_machine_plain_http_must_be_asked_for(listen: str) -> None:
    with pytest.raises(InvalidInput, match="--insecure-http"):
        compose.read_config({"listen": listen}, {})
    config = compose.read_config({"listen": listen, "insecure_http": "1"}, {})
    assert config.host == listen.partition(":")[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost"])
def test_loopback_needs_no_permission(host: str) -> None:
    assert compose.read_config({"listen": f"{host}:0"}, {}).host == host


@pytest.mark.parametrize("host", ["localhost.evil.test", "127.0.0.1.evil.test", "127.x"])
def test_a_name_that_only_looks_like_loopback_is_not(host: str) -> None:
    with pytest.raises(InvalidInput, match="--insecure-http"):
        compose.read_config({"listen": f"{host}:80"}, {})


@pytest.mark.parametrize("text", ["", "8080", ":80", "h:", "h:x", "h:-1", "h:65536", "[::1]:80", "h:٣"])
def test_a_listen_address_that_is_none_is_refused_with_its_names(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"--listen \(ATOLL_LISTEN\)"):
        compose.read_config({"listen": text}, {})


@pytest.mark.parametrize("name", ["inactivity", "max_life", "keep_stopped"])
@pytest.mark.parametrize("text", ["", "-1", "1.5", "1h", "٣"])
def test_a_clock_takes_whole_seconds(name: str, text: str) -> None:
    with pytest.raises(InvalidInput, match=compose.BY_NAME[name].flag):
        compose.read_config({name: text}, {})


def test_clocks_are_read() -> None:
    config = compose.read_config({"inactivity": "0", "max_life": "60", "keep_stopped": "5"}, {})
    assert config.clocks == Clocks(0, 60, 5)


@pytest.mark.parametrize("text", ["", "a,,b", "../x", "a b", "a/b"])
def test_template_names_are_names(text: str) -> None:
    with pytest.raises(InvalidInput, match="--templates"):
        compose.read_config({"templates": text}, {})


def test_templates_are_taken_once_and_in_order() -> None:
    assert compose.read_config({"templates": "b, a,b"}, {}).templates == ("b", "a")


def named(**more: str | None) -> compose.Config:
    return compose.read_config({"domain": "d.test", **more}, {})


def test_a_domain_brings_tls_of_our_own() -> None:
    config = named(data_dir="/x")
    assert (config.domain, config.tls) == ("d.test", compose.TlsMode.AUTO)
    assert config.certificate() == TlsFiles(Path("/x/tls/cert.pem"), Path("/x/tls/key.pem"))
    assert config.authority == Path("/x/tls/ca.pem")


def test_the_public_url_is_the_domains() -> None:
    assert named().public_url("127.0.0.1", 8080) == "https://d.test:8080"
    assert named().public_url("127.0.0.1", 443) == "https://d.test"
    assert named(tls="off").public_url("127.0.0.1", 8080) == "http://d.test:8080"


def test_certificate_files_are_the_operators_and_there_is_no_authority() -> None:
    config = named(tls="files", tls_cert="/c", tls_key="/k")
    assert (config.certificate(), config.authority) == (TlsFiles(Path("/c"), Path("/k")), None)


def test_with_tls_other_machines_may_come() -> None:
    assert named(listen="0.0.0.0:443").host == "0.0.0.0"
    with pytest.raises(InvalidInput, match="--insecure-http"):
        named(listen="0.0.0.0:443", tls="off")


@pytest.mark.parametrize(
    "domain", ["localhost", "a..b", "-a.b", "a_b.c", "127.0.0.1", "a.b/c", "*.a.b", "a." + "b" * 64]
)
def test_a_domain_that_is_none_is_refused(domain: str) -> None:
    with pytest.raises(InvalidInput, match="--domain"):
        named(domain=domain)


@pytest.mark.parametrize(
    "flags",
    [{"tls": "maybe"}, {"tls": "files"}, {"tls": "files", "tls_cert": "/c"}, {"domain": "", "tls": "auto"}],
)
def test_tls_that_cannot_be_is_refused(flags: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="--tls"):
        named(**flags)


def test_certificate_files_that_are_no_pair_are_refused_at_the_start(tmp_path: Path) -> None:
    first, second = named(data_dir=str(tmp_path / "a")), named(data_dir=str(tmp_path / "b"))
    for config in (first, second):
        compose.prepare_tls(config)
    cert, key = str(tmp_path / "a/tls/cert.pem"), str(tmp_path / "b/tls/key.pem")
    with pytest.raises(InvalidInput, match="cannot be used"):
        compose.prepare_tls(named(tls="files", tls_cert=cert, tls_key=key))
    with pytest.raises(InvalidInput, match="cannot be used"):
        compose.prepare_tls(named(tls="files", tls_cert=cert, tls_key="/nowhere"))


def test_settings_reach_a_role_unchanged(tmp_path: Path) -> None:
    import json

    config = compose.read_config({"data_dir": str(tmp_path), "inactivity": "7"}, {})
    for settings, decode in (
        (config.node(), compose.decode_node),
        (config.server("http://x"), compose.decode_server),
        (config.edge(80, 5), compose.decode_edge),
        (named(data_dir=str(tmp_path)).server("https://x"), compose.decode_server),
        (named(data_dir=str(tmp_path)).edge(80, 5), compose.decode_edge),
    ):
        assert decode(json.loads(compose.encode_settings(settings))) == settings


def test_keys_without_an_installation_are_refused(tmp_path: Path) -> None:
    places = Places.of(tmp_path / "nowhere")
    with pytest.raises(NotFound, match="atoll up"), compose.open_keys(places):
        pass
    assert not places.data.exists()


def test_the_node_is_told_how_outbound_traffic_is_looked_after(tmp_path: Path) -> None:
    flags = {
        "data_dir": str(tmp_path),
        "nameservers": "9.9.9.9",
        "egress_rate": "7",
        "egress_burst": "8",
        "egress_mbit": "9",
        "egress_log_mib": "10",
        "domain": "boxes.example",
    }
    settings = compose.read_config(flags, {"ATOLL_EGRESS_RATE": "1"}).node()
    assert settings.egress == EgressSettings(
        nameservers=("9.9.9.9",),
        rate=7,
        burst=8,
        mbit=9,
        log_mib=10,
        domain="boxes.example",
        authorities=(tmp_path / "tls" / "ca.pem",),
    )
    assert compose.decode_node(json.loads(compose.encode_settings(settings))) == settings


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("nameservers", "nobody"),
        ("egress_rate", "-1"),
        ("egress_rate", "1.5"),
        ("egress_burst", "0"),
        ("egress_mbit", "10000000"),
        ("egress_log_mib", "0"),
        ("egress_ca", "/does/not/exist"),
    ],
)
def test_an_egress_setting_that_cannot_be_is_refused_naming_flag_and_text(flag: str, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        compose.read_config({flag: text}, {})
    assert compose.BY_NAME[flag].flag in refused.value.message
    assert text in refused.value.message


def test_without_a_rate_there_need_be_no_burst() -> None:
    assert compose.read_config({"egress_rate": "0", "egress_burst": "0"}, {}).egress.rate == 0


def test_no_template_at_all_may_be_built_beside() -> None:
    assert compose.read_config({}, {}).background_templates == ("code-interpreter-v1",)
    assert compose.read_config({"background_templates": ""}, {}).background_templates == ()
