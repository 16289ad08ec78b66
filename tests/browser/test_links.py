"""A signed link lets a browser in: it becomes a cookie of one host, and the program inside sees neither."""

from __future__ import annotations

import json

import pytest

from hostile import page as hostile
from names import DOMAIN
from sites import Site

pytestmark = [
    pytest.mark.root,
    pytest.mark.browser,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="session"),
]

PAGE = """<!doctype html><title>inside</title><link rel=stylesheet href=style.css><body><script>
const hello = new Promise((yes, no) => {
  const socket = new WebSocket(new URL('socket', location).href.replace('http', 'ws'));
  socket.onmessage = (message) => yes(message.data);
  socket.onerror = () => no(new Error('refused'));
});
window.heard = hello.catch((error) => error.message);
</script><script src=script.js></script></body>
"""


def furnish(site: Site) -> Site:
    site.put("/", PAGE)
    site.put("/style.css", "body { color: rgb(1, 2, 3) }", kind="text/css")
    site.put("/script.js", "window.ran = true", kind="text/javascript")
    return site


def link(site: Site) -> str:
    answer = site.box.control("POST", "/links", json={"port": 8000})
    return str(answer.raise_for_status().json()["url"])


SEEN = "async () => [getComputedStyle(document.body).color, window.ran, await window.heard]"
WHOLE = ["rgb(1, 2, 3)", True, "hello"]


@pytest.fixture(scope="module")
def closed(site) -> Site:
    return furnish(site(inbound_auth="token"))


@pytest.fixture(scope="module")
def closed_by_path(stack, site) -> Site:
    """Of an installation without a domain."""
    return furnish(site(stack, inbound_auth="token"))


@pytest.fixture(scope="module")
def attacker(site) -> Site:
    return site()


async def test_by_name_a_link_opens_the_page_and_all_that_is_on_it(context, page, closed):
    assert (await page.goto(closed.by_name())).status == 401
    assert (await page.goto(link(closed))).status == 200
    assert page.url == closed.by_name()
    assert await page.evaluate(SEEN) == WHOLE
    (cookie,) = await context.cookies()
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Lax")
    assert cookie["domain"] == closed.by_name().split("/")[2].split(":")[0]  # with a dot before it: and hosts below
    assert await page.evaluate("document.cookie") == ""


async def test_by_path_a_link_opens_the_page(context, page, closed_by_path):
    assert (await page.goto(closed_by_path.by_path())).status == 401
    assert (await page.goto(link(closed_by_path))).status == 200
    assert page.url == closed_by_path.by_path()
    (cookie,) = await context.cookies()
    assert cookie["httpOnly"]
    assert cookie["path"] == f"/s/{closed_by_path.box.id}/8000/"


@pytest.mark.parametrize("by", ["name", "path"])
async def test_nothing_of_a_link_reaches_the_program(context, page, closed, closed_by_path, by):
    site = closed if by == "name" else closed_by_path
    site.put(f"/within-{by}", "")
    url = link(site)
    await page.goto(url)
    await page.goto(site.by_name("/within-name") if by == "name" else site.by_path("/within-path"))
    assert len(site.arrived(f"/within-{by}")) == 1
    secrets = [url.partition("=")[2], *(cookie["value"] for cookie in await context.cookies())]
    assert len(secrets) == 2
    assert not [secret for secret in secrets if secret in site.log()]


async def test_by_path_a_programs_own_cookies_live_beside_that_of_the_link(page, closed_by_path):
    """Whatever they are called."""
    wishes = ("door=mine", "sid=mine")
    closed_by_path.put("/sets", "", *(("Set-Cookie", wish) for wish in wishes))
    closed_by_path.put("/after", "")
    await page.goto(link(closed_by_path))
    await page.goto(closed_by_path.by_path("/sets"))
    assert (await page.goto(closed_by_path.by_path("/after"))).status == 200
    assert set(closed_by_path.arrived("/after")[-1]["cookie"].split("; ")) == set(wishes)


async def test_another_sandbox_gets_nothing_of_it(page, closed, attacker):
    attacker.put("/after", "")
    await page.goto(link(closed))
    await page.goto(attacker.by_name("/after"))
    assert "cookie" not in attacker.arrived("/after")[-1]


ACROSS = {
    "socket": "opened(new WebSocket({url}.replace('http', 'ws')))",
    "post": "fetch({url}, {{method: 'POST', mode: 'no-cors', credentials: 'include'}})",
    "fetch": "fetch({url}, {{mode: 'no-cors', credentials: 'include'}})",
    "picture": "put('img', {url})",
    "frame": "put('iframe', {url})",
}
"""What a browser sends to another host without asking it."""


async def used(page, closed: Site, there: str, attacker: Site, here: str) -> list[str]:
    """What arrives at `closed` of all that is sent by the page `here`, in a window of somebody who came by a link."""
    paths = {name: f"/{name}-from-{attacker.box.id}" for name in ACROSS}
    sent = {name: code.format(url=json.dumps(there + paths[name][1:])) for name, code in ACROSS.items()}
    attacker.put("/uses", hostile(sent))
    await page.goto(link(closed))
    await page.goto(here)
    await page.evaluate("window.found")
    return [name for name, path in paths.items() if closed.arrived(path)]


async def test_by_name_another_sandboxs_page_cannot_use_it(page, closed, attacker):
    """All sandboxes are one site, so browsers send the cookie: the door has to look at who asks."""
    assert await used(page, closed, closed.by_name(), attacker, attacker.by_name("/uses")) == []


async def test_by_path_another_sandboxs_page_cannot_use_it(allowing, stack, site, closed_by_path):
    page, other = await allowing.new_page(), site(stack)
    assert await used(page, closed_by_path, closed_by_path.by_path(), other, other.by_path("/uses")) == []


async def test_by_path_a_page_of_another_site_cannot_use_it(allowing, attacker, closed_by_path):
    page = await allowing.new_page()
    assert await used(page, closed_by_path, closed_by_path.by_path(), attacker, attacker.by_name("/uses")) == []


async def test_cookies_that_another_sandbox_sets_for_the_domain_change_nothing(context, page, closed, attacker):
    attacker.put("/tosses", "")
    await page.goto(link(closed))
    (cookie,) = await context.cookies()
    await page.goto(attacker.by_name("/tosses"))
    for name in (cookie["name"], cookie["name"].removeprefix("__Host-")):
        await page.evaluate("text => { document.cookie = text; }", f"{name}=forged; Domain={DOMAIN}; Path=/; Secure")
    assert (await page.goto(closed.by_name())).status == 200
    assert "forged" not in closed.log()
