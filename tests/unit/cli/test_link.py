"""`atoll link` and `atoll url`: what they ask for and what they print."""

from __future__ import annotations

import pytest

BOX = "a" * 20
URL = f"http://127.0.0.1:8080/s/{BOX}/3000/?atoll_link=x.y.z"


@pytest.mark.parametrize(
    ("words", "order"),
    [
        ([], {"seconds": 3600}),
        (["3000"], {"seconds": 3600, "port": 3000}),
        (["3000", "--seconds", "60"], {"seconds": 60, "port": 3000}),
    ],
)
def test_it_prints_the_url_and_nothing_else(api, words: list[str], order: dict):
    api.answers("POST", f"/v1/sandboxes/{BOX}/links", {"url": URL, "port": 3000}, 201)
    assert api.run("link", BOX, *words).stdout == URL + "\n"
    assert [each.body for each in api.asked] == [order]


@pytest.mark.parametrize("words", [["0"], ["65536"], ["web"], ["3000", "--seconds", "59"], ["--seconds", "604801"]])
def test_what_cannot_be_is_said_without_asking(api, words: list[str]):
    api.run("link", BOX, *words, exit_code=2)
    assert api.asked == []


def test_a_url_is_on_the_host_by_which_the_caller_knows_the_server(api, box):
    api.has_sandboxes(box)
    assert api.run("url", box["id"], 3000).stdout == f"{api.url}/s/{box['id']}/3000/\n"


def test_below_a_domain_a_port_has_a_name(api, box):
    api.has_sandboxes({**box, "direct_url": f"https://{box['id']}.sandboxes.example.com"})
    assert api.run("url", box["id"], 3000).stdout == f"https://3000-{box['id']}.sandboxes.example.com/\n"
