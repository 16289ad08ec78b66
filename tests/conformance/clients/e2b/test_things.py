"""Volumes, secrets, templates, network rules, and the tools that only write text."""

from __future__ import annotations

import io
import ssl
import uuid

import e2b
import httpx
import pytest
from talk import IMPOSSIBLE_ID, URL, option_names, pages, routed, said
from waiting import until

covers = pytest.mark.covers
BYTES = bytes(range(256)) * 40


# ---- volumes


@pytest.fixture
def volume(volumes):
    made = volumes.create(f"v-{uuid.uuid4().hex}")
    yield made
    volumes.destroy(made.volume_id)


@covers("Volume.create", "Volume.connect", "Volume.destroy", "Volume.list", "Volume.get_info", "VolumeAndToken.token")
def test_volumes_are_made_found_and_destroyed(volumes):
    name = f"v-{uuid.uuid4().hex}"
    made = volumes.create(name=name)
    assert made.name == name
    assert made.token
    assert (made.volume_id, name) in [(each.volume_id, each.name) for each in volumes.list()]
    info = volumes.get_info(volume_id=made.volume_id)
    assert (info.volume_id, info.name, bool(info.token)) == (made.volume_id, name, True)
    assert volumes.connect(volume_id=made.volume_id).name == name
    assert volumes.destroy(volume_id=made.volume_id) is True
    assert volumes.destroy(made.volume_id) is False


@covers("VolumeAndToken.domain")
def test_a_volume_keeps_the_clients_domain(volumes, volume):
    assert volumes.get_info(volume.volume_id).domain is None


@covers("VolumeException", "9 names: duplicate 400, unknown 404")
def test_volumes_that_are_refused(volumes, volume):
    with pytest.raises(e2b.VolumeException):
        volumes.create(volume.name)
    with pytest.raises(e2b.VolumeException):
        volumes.create("no blanks please")
    with pytest.raises(e2b.NotFoundException):
        volumes.connect("none")


@covers("VolumeNotFoundException")
def test_an_unknown_volume_has_an_error_of_its_own(volumes):
    with pytest.raises(e2b.VolumeNotFoundException):
        volumes.connect("none")


@covers("Volume.write_file", "Volume.read_file", "GET /volumecontent/{volumeID}/file")
def test_a_volume_has_files(volume):
    made = volume.write_file(path="/a", data=BYTES, uid=1000, gid=1000, mode=0o600, force=False)
    assert (made.size, made.mode & 0o777, made.uid, made.gid) == (len(BYTES), 0o600, 1000, 1000)
    assert bytes(volume.read_file("/a", format="bytes")) == BYTES
    assert b"".join(volume.read_file(path="/a", format="stream")) == BYTES
    volume.write_file("/a", "text")
    assert volume.read_file("/a") == "text"
    volume.write_file("/b", io.BytesIO(BYTES))
    assert bytes(volume.read_file("/b", format="bytes")) == BYTES


@covers("Volume.read_file")
def test_streams_of_a_volume_have_a_limit_for_silence(volume):
    volume.write_file("/a", BYTES)
    assert b"".join(volume.read_file("/a", format="stream", stream_idle_timeout=10)) == BYTES


@covers("Volume.make_dir", "Volume.list", "Volume.exists", "Volume.remove", "Volume.get_info", "Volume.update_metadata")
def test_a_volume_has_directories(volume):
    made = volume.make_dir(path="/d/e", uid=1000, gid=1000, mode=0o700, force=True)
    assert (made.name, made.type.value, made.mode & 0o777, made.uid, made.gid) == ("e", "directory", 0o700, 1000, 1000)
    volume.write_file("/d/e/f", "x")
    assert [each.name for each in volume.list("/d")] == ["e"]
    assert [each.path.strip("/") for each in volume.list(path="/d", depth=2)] == ["d/e", "d/e/f"]
    assert (volume.exists(path="/d/e/f"), volume.exists("/none")) == (True, False)
    changed = volume.update_metadata(path="/d/e/f", uid=0, gid=0, mode=0o640)
    assert (changed.uid, changed.gid, changed.mode & 0o777) == (0, 0, 0o640)
    info = volume.get_info(path="/d/e/f")
    assert (info.name, info.size, info.type.value, info.target) == ("f", 1, "file", None)
    assert max(info.atime, info.ctime) >= info.mtime
    volume.remove(path="/d")
    assert volume.exists("/d") is False


@covers("9 unknown path: 404")
def test_what_is_not_in_a_volume(volume):
    for call in (volume.read_file, volume.get_info, volume.list):
        with pytest.raises(e2b.NotFoundException):
            call("/none")


@covers("VolumePathNotFoundException")
def test_what_is_not_in_a_volume_has_an_error_of_its_own(volume):
    with pytest.raises(e2b.VolumePathNotFoundException):
        volume.get_info("/none")


@covers("VolumeApiParams")
def test_a_call_to_a_volume_takes_its_account(volume, proxy):
    address, asked = proxy
    volume.write_file("/a", "x")
    options = {
        "request_timeout": 30,
        "headers": {"X-Mine": "1"},
        "token": volume.token,
        "api_url": URL,
        "domain": "sandboxes.example.com",
        "proxy": address,
        "debug": False,
        "http_version": "1.1",
        "logger": None,
    }
    known = e2b.VolumeApiParams.__annotations__
    assert volume.exists("/a", **{name: each for name, each in options.items() if name in known}) is True
    assert len(asked) == 1


@covers("Sandbox.create", "SandboxInfo.volume_mounts", "9 a volume mounted in several sandboxes at once")
def test_sandboxes_share_a_volume(volumes, own):
    made = volumes.create(f"v-{uuid.uuid4().hex}")
    first = own(volume_mounts={"/mnt/shared": made._subject})
    second = own(volume_mounts={"/mnt/other": made.name})
    assert first.get_info().volume_mounts == [{"name": made.name, "path": "/mnt/shared"}]
    said(first, "echo mine > /mnt/shared/file")
    assert said(second, "cat /mnt/other/file") == "mine"
    assert made.read_file("/file") == "mine\n"
    for each in (first, second):
        each.kill()
    until(lambda: _destroyed(volumes, made), "nobody uses it")


def _destroyed(volumes, made):
    try:
        return volumes.destroy(made.volume_id)
    except e2b.VolumeException:
        return False


@covers("Sandbox.beta_create")
def test_the_first_create_that_paused_mounts_a_volume(volumes, client, make):
    made = volumes.create(f"v-{uuid.uuid4().hex}")
    own = make(client, by="beta_create", volume_mounts={"/mnt/x": made.name})
    said(own, "echo mine > /mnt/x/file")
    assert made.read_file("/file") == "mine\n"
    own.kill()
    until(lambda: _destroyed(volumes, made), "nobody uses it")


@covers("6.2 unknown volume: invalid mounts, with each of them")
def test_a_volume_that_is_not_there(client):
    with pytest.raises(e2b.SandboxException, match=r"invalid mounts:\n- volume mount #0: volume 'none' not found"):
        client.create(volume_mounts={"/mnt/x": "none"})


# ---- secrets


@pytest.fixture
def secret(secrets):
    made = secrets.create(name=f"s-{uuid.uuid4().hex}", value="one", metadata={"by": "ann"})
    yield made
    secrets.destroy(made.name)


@covers("Secret.create", "Secret.get_info", "Secret.update", "10 versions and metadata, never the value")
def test_a_secret_has_versions(secrets, secret):
    assert (secret.version, secret.metadata) == (1, {"by": "ann"})
    other = secrets.create(name=f"{secret.name}-2", value="one", metadata={"by": "ann"})
    assert secrets.destroy(other.name)
    assert secret.secret_id
    assert secrets.get_info(secret=secret.name) == secret
    changed = secrets.update(secret=secret.name, value="two", metadata={"by": "bob"})
    assert (changed.name, changed.version, changed.metadata) == (secret.name, 2, {"by": "bob"})
    assert changed.updated_at >= changed.created_at == secret.created_at


@covers("Secret.list", "SecretPaginator.next_items")
def test_secrets_are_listed_in_pages(secrets, secret):
    second = secrets.create(f"s-{uuid.uuid4().hex}", "value")
    assert {secret.name, second.name} <= {each.name for each in pages(secrets.list(limit=1))}
    first = secrets.list(limit=1)
    (shown,) = first.next_items()
    assert first.has_next
    rest = {each.name for each in pages(secrets.list(next_token=first.next_token))}
    assert shown.name not in rest
    assert {secret.name, second.name} <= rest | {shown.name}
    secrets.destroy(second.name)


@covers("Secret.exists", "Secret.destroy", "SecretNotFoundException")
def test_secrets_are_destroyed(secrets, secret):
    assert secrets.exists(secret=secret.name) is True
    assert secrets.destroy(secret=secret.name) is True
    assert secrets.exists(secret.name) is False
    assert secrets.destroy(secret.name) is False
    with pytest.raises(e2b.SecretNotFoundException):
        secrets.get_info(secret.name)


@covers("SecretException")
def test_a_secret_twice(secrets, secret):
    with pytest.raises(e2b.SecretException):
        secrets.create(secret.name, "again")


@covers("Secret.fill", "10 the placeholder of a rule is kept, the value is not shown")
def test_a_secret_in_a_rule(secrets, secret, own):
    filled = secrets.fill(secret=secret.name)
    rules = {"api.example.com": [{"transform": {"headers": {"Authorization": f"Bearer {filled}"}}}]}
    made = own(network={"rules": rules})
    shown = made.get_info().network["rules"]["api.example.com"][0]
    assert shown["transform"]["headers"] == {"Authorization": f"Bearer ${{e2b.secrets.{secret.name}}}"}


# ---- templates


@covers("Template.exists", "GET /templates/aliases/{alias}")
def test_templates_that_are_there(templates):
    assert templates.exists(name="base") is True
    assert templates.exists("code-interpreter-v1") is True
    assert templates.exists("none-such") is False


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@covers("Template.alias_exists")
def test_templates_by_their_alias(templates):
    assert (templates.alias_exists(alias="base"), templates.alias_exists("none-such")) == (True, False)


@covers("Template.get_tags", "TemplateTag.tag", "22.1 ids of builds are UUIDs")
def test_tags_of_a_template(templates):
    (tag,) = templates.get_tags(template_id="base")
    assert tag.tag == "default"
    assert uuid.UUID(str(tag.build_id))
    assert tag.created_at.year > 2000


# ---- network


EVERYTHING = (lambda context: [context.all_traffic]) if hasattr(e2b, "SandboxNetworkSelectorContext") else ["0.0.0.0/0"]


@covers("SandboxNetworkOpts", "SandboxInfo.network")
def test_create_takes_every_option_of_the_network(own):
    network = {
        "allow_out": ["10.11.12.13", "1.1.1.0/24"],
        "deny_out": EVERYTHING,
        "allow_public_traffic": False,
        "mask_request_host": "localhost:${PORT}",
    }
    made = own(network=network)
    shown = made.get_info().network
    assert (shown["allow_out"], shown["deny_out"]) == (["10.11.12.13", "1.1.1.0/24"], ["0.0.0.0/0"])
    assert (shown["allow_public_traffic"], shown["mask_request_host"]) == (False, "localhost:${PORT}")


@covers("SandboxNetworkOpts", "11.4 a private sandbox: the traffic token, 403 without")
def test_the_ports_of_a_private_sandbox(own):
    made = own(network={"allow_public_traffic": False, "allow_out": ["10.11.12.13"], "deny_out": ["0.0.0.0/0"]})
    said(made, "echo hello > index.html")
    made.commands.run("python3 -m http.server 3000", background=True)
    headers = {**routed(made, 3000), "e2b-traffic-access-token": made.traffic_access_token}
    until(lambda: httpx.get(URL, headers=headers).status_code == 200, "it listens")
    wrong = {"e2b-traffic-access-token": "x"}
    for token, sentence in ({}, "'e2b-traffic-access-token' is missing"), (wrong, "invalid"):
        answer = httpx.get(URL, headers={**routed(made, 3000), **token})
        assert answer.status_code == 403
        assert sentence in answer.json()["message"]
    assert said(made, "echo 22.12") == "22.12", "the agent's port needs none"


WITH_RESOLVERS = pytest.mark.skipif(
    "dns_servers" not in option_names("SandboxNetworkUpdate"), reason="this version names no resolvers"
)


@WITH_RESOLVERS
@covers("SandboxNetworkOpts")
def test_create_takes_resolvers(own):
    assert own(network={"dns_servers": ["9.9.9.9"]}).get_info().network["dns_servers"] == ["9.9.9.9"]


@pytest.mark.skipif("https_ports" not in option_names("SandboxNetworkOpts"), reason="this version has no such option")
@covers("SandboxNetworkOpts")
def test_create_takes_ports_with_tls(own):
    assert own(network={"https_ports": [8443]}).get_info().network["https_ports"] == [8443]


@covers("SandboxEgressProxyOpts", "11.5 password and certificate of a proxy are never shown")
def test_create_takes_a_proxy(own):
    proxy = {"address": "192.0.2.1:1080", "username": "ann", "password": "hidden"}
    shown = own(network={"egress_proxy": proxy}).get_info().network
    assert shown["egress_proxy"]["address"] == "192.0.2.1:1080"
    assert shown["egress_proxy"]["username"] == "ann"
    assert "hidden" not in str(shown)


@covers("SandboxEgressProxyTLSOpts")
def test_create_takes_a_proxy_with_tls(own):
    authority = ssl.DER_cert_to_PEM_cert(ssl.create_default_context().get_ca_certs(binary_form=True)[0])
    proxy = {"address": "192.0.2.1:1080", "tls": {"server_name": "proxy.example.com", "ca_cert": authority}}
    shown = own(network={"egress_proxy": proxy}).get_info().network["egress_proxy"]
    assert shown["tls"] == {"server_name": "proxy.example.com"}


@covers("SandboxNetworkRule", "SandboxNetworkTransform", "SandboxNetworkSelectorContext.rules")
def test_create_takes_rules(own):
    rules = {"api.example.com": [{"transform": {"headers": {"X-Key": "1"}}}]}
    made = own(
        network={
            "rules": rules,
            "allow_out": lambda context: list(context.rules),
            "deny_out": lambda context: [context.all_traffic],
        }
    )
    shown = made.get_info().network
    assert (shown["rules"], shown["allow_out"]) == (rules, ["api.example.com"])


@covers("Sandbox.update_network", "SandboxNetworkUpdate", "11.6 an update replaces all of the rules for the way out")
def test_rules_are_replaced_while_it_runs(own, client):
    made = own(network={"deny_out": ["1.1.1.1"], "mask_request_host": "kept.example.com"})
    update = {
        "allow_out": ["api.example.com"],
        "deny_out": ["0.0.0.0/0"],
        "rules": {"api.example.com": [{"transform": {"headers": {"X-Key": "1"}}}]},
        "allow_internet_access": True,
    }
    made.update_network(network=update)
    shown = made.get_info().network
    assert (shown["allow_out"], shown["deny_out"]) == (["api.example.com"], ["0.0.0.0/0"])
    assert shown["mask_request_host"] == "kept.example.com"
    client.update_network(sandbox_id=made.sandbox_id, network={"allow_internet_access": False})
    assert not made.get_info().network.get("allow_out")
    assert said(made, "curl -s --max-time 3 http://192.0.2.1/ >/dev/null; echo $?") in ("6", "7", "28")
    client.update_network(made.sandbox_id, {})
    assert not made.get_info().network.get("deny_out")


@pytest.mark.skipif("egress_proxy" not in option_names("SandboxNetworkUpdate"), reason="this version replaces no proxy")
@covers("SandboxNetworkUpdate")
def test_the_proxy_is_replaced_too(own):
    made = own()
    made.update_network({"egress_proxy": {"address": "192.0.2.1:1080"}})
    assert made.get_info().network["egress_proxy"]["address"] == "192.0.2.1:1080"


@WITH_RESOLVERS
@covers("SandboxNetworkUpdate")
def test_resolvers_are_replaced_too(own):
    made = own()
    made.update_network({"dns_servers": ["9.9.9.9"]})
    assert made.get_info().network["dns_servers"] == ["9.9.9.9"]


REFUSED = {
    "11.3 a domain in denyOut": ({"deny_out": ["example.com"]}, "invalid denied CIDR example.com"),
    "11.3 bare 0.0.0.0 in denyOut": ({"deny_out": ["0.0.0.0"]}, "invalid denied CIDR 0.0.0.0"),
    "11.3 nonsense in allowOut": ({"allow_out": ["no such !"]}, "invalid allowed address no such !"),
    "11.3 a domain in allowOut, not all denied": (
        {"allow_out": ["example.com"]},
        "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out to block all other "
        "traffic.",
    ),
    "11.3 a masked host that is none": (
        {"mask_request_host": "-https://abcd"},
        "mask request host is not valid: -https://abcd",
    ),
    "11.3 a masked host beyond ASCII": (
        {"mask_request_host": "hé.example.com"},
        "is not ASCII. Please use ASCII characters only.",
    ),
    "11.3 more than 10 rule domains": (
        {"rules": {f"{n}.example.com": [] for n in range(11)}},
        "Network rules can have at most 10 domains.",
    ),
    "11.3 a rule domain that is none": (
        {"rules": {"no such": []}},
        'Rule domain "no such" is not a valid domain name.',
    ),
    "11.3 a malformed placeholder": (
        {"rules": {"a.example.com": [{"transform": {"headers": {"X": "${e2b.secrets}"}}}]}},
        "Network transform header contains a malformed E2B placeholder.",
    ),
}


@pytest.mark.parametrize(
    ("network", "sentence"),
    [pytest.param(*found, marks=covers(name), id=name.partition(" ")[2]) for name, found in REFUSED.items()],
)
def test_networks_that_are_refused(client, network, sentence):
    if not network.keys() <= option_names("SandboxNetworkOpts"):
        pytest.skip(f"this version has no {', '.join(network)}")
    with pytest.raises(e2b.SandboxException) as caught:
        client.create(network=network)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("400")


@covers("11.6 an update of an unknown sandbox: 404")
def test_an_update_of_nothing(client):
    with pytest.raises(e2b.NotFoundException):
        client.update_network(IMPOSSIBLE_ID, {})
