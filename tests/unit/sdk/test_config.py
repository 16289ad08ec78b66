"""Where the server is and with which key."""

from __future__ import annotations

import pytest
from script import Said

import atoll
from atoll.sdk._core.config import DEFAULT_URL, account


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, DEFAULT_URL),
        ({"E2B_DOMAIN": "e.example"}, "https://api.e.example"),
        ({"E2B_DOMAIN": "e.example", "E2B_API_URL": "http://e:1/"}, "http://e:1"),
        ({"E2B_API_URL": "http://e", "HOPX_BASE_URL": "http://h"}, "http://h"),
        ({"ATOLL_BASE_URL": " http://a/ ", "HOPX_BASE_URL": "http://h"}, "http://a"),
        ({"ATOLL_BASE_URL": "", "HOPX_BASE_URL": "http://h"}, "http://h"),
    ],
)
def test_the_url_is_the_first_that_is_set(environment, variables, url):
    for name, value in variables.items():
        environment.setenv(name, value)
    assert account("k", None).base_url == url
    assert account("k", "http://given/").base_url == "http://given"


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"E2B_API_KEY": "e"}, "e"),
        ({"E2B_API_KEY": "e", "HOPX_API_KEY": "h"}, "h"),
        ({"ATOLL_API_KEY": "a\n", "HOPX_API_KEY": "h"}, "a"),
    ],
)
def test_the_key_is_the_first_that_is_set(environment, variables, key):
    for name, value in variables.items():
        environment.setenv(name, value)
    assert account(None, None).headers == {"X-API-Key": key}
    assert account("given", None).headers == {"X-API-Key": "given"}


def test_a_missing_key_is_an_error_that_says_what_to_do(form, server):
    box = form.sandbox("sb1", base_url=server.url)
    with pytest.raises(atoll.AuthenticationError, match=r"ATOLL_API_KEY.*atoll keys create"):
        form.run(box.get_info)
    with pytest.raises(atoll.AuthenticationError):
        form.run(lambda: form.sandbox.create("busybox", base_url=server.url))
    assert server.heard == []


def test_a_key_that_cannot_be_one_is_not_sent(server):
    with pytest.raises(atoll.AuthenticationError):
        atoll.Sandbox("sb1", api_key="a\nX-Other: 1", base_url=server.url).get_info()
    assert server.heard == []


def test_the_key_is_not_shown():
    assert "hidden" not in repr(account("hidden", None))
    assert repr(atoll.Sandbox("sb1", api_key="hidden")) == "Sandbox('sb1')"


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://a", "http://", "http:///x", "://a"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(atoll.ValidationError, match="http://"):
        atoll.Sandbox("sb1", api_key="k", base_url=url)


@pytest.mark.parametrize("sandbox_id", ["", "..", "."])
def test_an_id_that_would_lead_elsewhere_is_refused(form, server, account, sandbox_id):
    with pytest.raises(atoll.ValidationError):
        form.run(lambda: form.sandbox(sandbox_id, **account).get_info())


def test_no_template_is_an_error_before_anything_is_sent(form, server, account):
    with pytest.raises(atoll.ValidationError, match="template"):
        form.run(lambda: form.sandbox.create(**account))
    assert server.heard == []


DIRECT = {
    "http://127.0.0.1:8080/s/sb1": "{base}/s/sb1/8000/",
    "https://sb1.box.example": "https://8000-sb1.box.example/",
    "https://sb1.box.example:8443": "https://8000-sb1.box.example:8443/",
    "": "{base}/s/sb1/8000/",
}


@pytest.mark.parametrize("direct", DIRECT)
def test_the_url_of_a_port(form, server, account, direct):
    server.answers = [Said({"id": "sb1", "direct_url": direct})]
    box = form.sandbox("sb1", **account)
    wanted = DIRECT[direct].format(base=server.url)
    assert form.run(lambda: box.get_preview_url(8000)) == wanted
    assert form.run(lambda: box.get_host(8000)) == wanted.partition("://")[2].rstrip("/")
    assert len(server.heard) == 1


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port_is_refused(form, server, account, port):
    with pytest.raises(atoll.ValidationError):
        form.run(lambda: form.sandbox("sb1", **account).get_preview_url(port))


def test_a_ca_file_that_is_none_is_an_error_that_names_it(environment, tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    environment.setenv("ATOLL_CA_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(atoll.ValidationError, match=r"ATOLL_CA_FILE.*ca\.pem"):
        atoll.Sandbox("sb1", api_key="k", base_url="https://127.0.0.1:1").get_info()
