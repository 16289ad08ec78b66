"""Secrets as programs in real sandboxes use them: the value is in the requests that leave, and nowhere else."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll.testing.internet import WEB, Internet, Request
from reaching import logged
from stack import Box, Stack, content, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NAME, OTHER, RULED = "api.example.com", "example.com", "www.example.com"
VALUE, NEWER, RULE_VALUE = "sk-5ecret-of-the-box-1", "sk-5ecret-newer-2", "tok-5ecret-of-the-rule-3"
QUIET = "-sS -o /dev/null -w '%{http_code}' --max-time 10"
"""Without the body: some pages of the test internet show what they were sent."""


def secrets(online: Stack, method: str, path: str = "", status: int = 200, **body: Any) -> dict[str, Any]:
    answer = online.api(method, f"/v1/secrets{path}", **({"json": body} if body else {}))
    assert answer.status_code == status, answer.text
    return dict(answer.json())


@pytest.fixture(scope="module")
def box(online, internet) -> Iterator[Box]:
    secrets(online, "POST", status=201, name="key", value=VALUE, hosts=[NAME])
    secrets(online, "POST", status=201, name="ruled", value=RULE_VALUE)
    rule = {RULED: [{"transform": {"headers": {"Authorization": "Bearer ${e2b.secrets.ruled}"}}}]}
    with online.box(secrets={"API_KEY": "key"}, network={"rules": rule}) as made:
        yield made
    for name in ("key", "ruled"):
        secrets(online, "DELETE", f"/{name}")


@pytest.fixture(autouse=True)
def _asked(internet: Internet) -> None:
    internet.requests.clear()


def placeholder(box: Box) -> str:
    text = box.sh('printf %s "$API_KEY"')
    assert text.startswith("atoll_secret_")
    return text


def only(internet: Internet) -> Request:
    (asked,) = internet.requests
    return asked


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_curl_sends_the_value_where_it_has_the_placeholder(internet, box, scheme):
    assert box.sh(f'curl {QUIET} -H "X-Api-Key: $API_KEY" {scheme}://{NAME}/status/200') == "200"
    asked = only(internet)
    assert asked.headers["X-Api-Key"] == VALUE
    assert asked.sni == (NAME if scheme == "https" else "")


def test_python_sends_it_from_a_session_and_from_a_program(internet, box):
    code = (
        "import os, urllib.request as r\n"
        "said = {'Authorization': 'Bearer ' + os.environ['API_KEY']}\n"
        f"ask = r.Request('https://{NAME}/status/200', headers=said)\n"
        "print(r.urlopen(ask).status)"
    )
    assert box.python(code)["stdout"] == "200\n"
    program = f"import os, requests; requests.get('https://{NAME}/status/200', auth=('ann', os.environ['API_KEY']))"
    box.sh(f'python3 -c "{program}"')
    first, second = internet.requests
    assert first.headers["Authorization"] == f"Bearer {VALUE}"
    assert base64.b64decode(second.headers["Authorization"].removeprefix("Basic ")).decode() == f"ann:{VALUE}"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_header_rule_has_its_secrets_value(internet, box, scheme):
    assert box.sh(f"curl {QUIET} {scheme}://{RULED}/status/200") == "200"
    assert only(internet).headers["Authorization"] == f"Bearer {RULE_VALUE}"


def test_any_other_host_gets_the_placeholder(internet, box):
    word = placeholder(box)
    assert box.sh(f'curl {QUIET} -k -H "X-Api-Key: $API_KEY" https://{OTHER}/status/200') == "200"
    assert box.sh(f'curl {QUIET} -H "X-Api-Key: $API_KEY" http://{OTHER}/status/200') == "200"
    assert box.sh(f'curl {QUIET} -H "X-Api-Key: $API_KEY" http://{RULED}/status/200') == "200"
    assert [each.headers["X-Api-Key"] for each in internet.requests] == [word] * 3


def test_a_name_that_is_only_said_gets_it_neither(internet, box):
    """The connection goes to the name's own servers, whatever address was dialled; and a request for another name is
    none for this one."""
    elsewhere = f"--connect-to {NAME}:443:{WEB['httpbin.org']}:443"
    assert box.sh(f'curl {QUIET} {elsewhere} -H "X-Api-Key: $API_KEY" https://{NAME}/status/200') == "200"
    assert only(internet).server == WEB[NAME]
    lied = box.run(f'curl {QUIET} -H "Host: {OTHER}" -H "X-Api-Key: $API_KEY" https://{NAME}/status/200')
    assert lied["exit_code"] != 0
    assert len(internet.requests) == 1


def test_a_redirect_to_another_host_does_not_take_it_along(online, internet, box):
    internet.zone.set("redirects.test", "8.8.8.8")
    secrets(online, "PUT", "/key", hosts=[NAME, "redirects.test"])
    try:
        box.run(f'curl {QUIET} -kL --max-redirs 1 -H "X-Api-Key: $API_KEY" http://redirects.test/')
    finally:
        secrets(online, "PUT", "/key", hosts=[NAME])
    first, *rest = internet.requests
    assert (first.host, first.headers["X-Api-Key"]) == ("redirects.test", VALUE)
    assert rest
    assert {(each.host, each.headers["X-Api-Key"]) for each in rest} == {("dns.google", placeholder(box))}


def test_a_path_a_query_and_a_body_keep_the_placeholder(internet, box):
    word = placeholder(box)
    box.sh(f'curl {QUIET} -d "key=$API_KEY" "https://{NAME}/$API_KEY?key=$API_KEY"')
    asked = only(internet)
    assert asked.path == f"/{word}?key={word}"
    assert asked.body == f"key={word}".encode()


def test_another_sandboxs_placeholder_is_worth_nothing_and_each_has_its_own(online, internet, box):
    word = placeholder(box)
    with online.box(secrets={"API_KEY": "key"}) as second:
        assert placeholder(second) != word
        second.sh(f'curl {QUIET} -H "X-Mine: $API_KEY" -H "X-Theirs: {word}" https://{NAME}/status/200')
        asked = only(internet)
        assert (asked.headers["X-Mine"], asked.headers["X-Theirs"]) == (VALUE, word)


def test_a_head_full_of_placeholders_is_refused_and_fills_no_memory(online, internet, box):
    secrets(online, "PUT", "/key", value="v" * 8192)
    try:
        done = box.run(f'curl {QUIET} -H "X: $(for n in $(seq 900); do printf %s $API_KEY; done)" http://{NAME}/get')
        assert done["exit_code"] != 0
        assert internet.requests == []
    finally:
        secrets(online, "PUT", "/key", value=VALUE)


def test_a_new_value_reaches_running_and_paused_sandboxes(online, internet):
    secrets(online, "POST", status=201, name="changing", value=VALUE, hosts=[NAME])
    ask = f'curl {QUIET} -H "X-Api-Key: $API_KEY" https://{NAME}/status/200'
    with online.box(secrets={"API_KEY": "changing"}) as running, online.box(secrets={"API_KEY": "changing"}) as paused:
        assert paused.control("POST", "/pause").status_code == 200
        assert secrets(online, "PUT", "/changing", value=NEWER)["version"] == 2
        running.sh(ask)
        assert paused.control("POST", "/resume").status_code == 200
        paused.sh(ask)
        assert [each.headers["X-Api-Key"] for each in internet.requests] == [NEWER, NEWER]
        for action in ("stop", "start"):
            assert paused.control("POST", f"/{action}").status_code == 200
        paused.sh(ask)
        assert internet.requests[-1].headers["X-Api-Key"] == NEWER
        secrets(online, "DELETE", "/changing")
        internet.requests.clear()
        running.sh(ask.replace("https", "http"))
        assert only(internet).headers["X-Api-Key"] == placeholder(running)


def test_a_pattern_is_for_the_names_below_it_and_no_other(online, internet):
    secrets(online, "POST", status=201, name="wide", value=VALUE, hosts=["*.example.com"])
    try:
        with online.box(secrets={"API_KEY": "wide"}) as box:
            for site in (f"https://{NAME}", f"http://{OTHER}"):
                assert box.sh(f'curl {QUIET} -H "X-Api-Key: $API_KEY" {site}/status/200') == "200"
            below, itself = internet.requests
            assert (below.headers["X-Api-Key"], itself.headers["X-Api-Key"]) == (VALUE, placeholder(box))
    finally:
        secrets(online, "DELETE", "/wide")


def test_without_its_secret_a_rule_lets_no_request_go(online, internet):
    secrets(online, "POST", status=201, name="gone", value=VALUE)
    rule = {RULED: [{"transform": {"headers": {"X-Key": "${atoll.secrets.gone}"}}}]}
    with online.box(network={"rules": rule}) as box:
        secrets(online, "DELETE", "/gone")
        done = box.run(f"curl -sS -w '%{{http_code}}' https://{RULED}/status/200")
        assert done["stdout"].endswith("502"), done
        assert "gone" in done["stdout"]
        assert internet.requests == []
        secrets(online, "POST", status=201, name="gone", value=NEWER)
        box.sh(f"curl {QUIET} https://{RULED}/status/200")
        assert only(internet).headers["X-Key"] == NEWER
        secrets(online, "DELETE", "/gone")


def test_a_daemon_that_is_killed_is_followed_by_one_that_knows_the_values(online, internet, box):
    pids = online.installation.pids("egress")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: set(online.installation.pids("egress")) - set(pids), "a new daemon")
    until(lambda: box.run(f"curl {QUIET} http://{RULED}/status/200")["stdout"] == "200", "a way out")
    internet.requests.clear()
    box.sh(f'curl {QUIET} -H "X-Api-Key: $API_KEY" https://{NAME}/status/200')
    assert only(internet).headers["X-Api-Key"] == VALUE


SEARCH = r"""
import os, re
needle = re.compile(b"5ecret-(of-the|newer)")
found = []
for pid in [each for each in os.listdir("/proc") if each.isdigit()]:
    for name in ("environ", "cmdline"):
        try:
            if needle.search(open(f"/proc/{pid}/{name}", "rb").read()):
                found.append(f"/proc/{pid}/{name}")
        except OSError:
            pass
    try:
        ranges = [line.split() for line in open(f"/proc/{pid}/maps")]
        memory = open(f"/proc/{pid}/mem", "rb", 0)
    except OSError:
        continue
    if pid == str(os.getpid()):
        continue
    for line in ranges:
        if "r" not in line[1] or line[-1] in ("[vvar]", "[vsyscall]"):
            continue
        start, end = (int(part, 16) for part in line[0].split("-"))
        try:
            memory.seek(start)
            if needle.search(memory.read(end - start)):
                found.append(f"/proc/{pid}/mem")
        except (OSError, OverflowError, ValueError):
            pass
for top in ("/etc", "/run", "/tmp", "/home", "/root", "/workspace", "/var", "/usr/local", "/.atoll"):
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            try:
                if os.path.isfile(path) and needle.search(open(path, "rb").read()):
                    found.append(path)
            except OSError:
                pass
print(found)
"""


def test_nothing_inside_knows_a_value(box):
    """Root looks into every file, every environment and the memory of every process, PID 1 and its own session too."""
    box.sh(f'curl {QUIET} -H "X-Api-Key: $API_KEY" https://{NAME}/status/200')
    body = {"path": "/workspace/search.py", "content": SEARCH}
    assert box.agent("POST", "/files/write", json=body).status_code == 200
    found = box.sh("sudo python3 /workspace/search.py")
    assert found == "[]"
    control = box.run("export CANARY=5ecret-of-the-test; sudo -E python3 /workspace/search.py")
    assert "/environ" in control["stdout"], "the search finds nothing at all"


def test_nothing_outside_has_a_value_in_clear(online, box):
    box.sh(f'curl {QUIET} -H "X-Api-Key: $API_KEY" "https://{NAME}/status/200"')
    logged(box, kind="request", name=NAME, path="/status/200", verdict="allowed")
    places = online.installation.places
    files = [path for top in (places.data, places.run) for path in top.rglob("*") if path.is_file()]
    kept = [path for path in files if "templates" not in path.parts and "runtime" not in path.parts]
    assert {"atoll.db", "access.jsonl", f"{box.id}.json"} <= {path.name for path in kept}
    assert [path for path in kept if not is_disk(path) and b"5ecret-" in content(path)] == []
    shown = [box.control("GET").text, box.control("GET", "/egress").text]
    shown += [online.api("GET", path).text for path in ("/v1/secrets", "/v1/secrets/key", "/v1/sandboxes")]
    assert not any("5ecret-" in text for text in shown)


def is_disk(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size >= 1 << 26
    return False


def test_the_api_shows_names_and_what_was_given(online, box):
    shown = box.control("GET").json()
    assert shown["secrets"] == {"API_KEY": "key"}
    assert shown["network"]["rules"][RULED][0]["transform"]["headers"]["Authorization"] == "Bearer ${e2b.secrets.ruled}"
