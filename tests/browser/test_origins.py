"""Whatever a page of a sandbox tries in a browser, it stays its own: `networking.md` and `security.md` promise it.

By path all sandboxes share the API's origin, so their pages get one of their own (CSP `sandbox`). By name each sandbox
has an origin, and all are one site.
"""

from __future__ import annotations

import pytest

from hostile import OWN, REFUSED, reading, unread
from hostile import page as hostile
from names import DOMAIN
from sites import Site, origin

pytestmark = [
    pytest.mark.root,
    pytest.mark.browser,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="session"),
]

SECRET = "<p>of the other one</p>"


@pytest.fixture(scope="module")
def attacker(site) -> Site:
    return site()


@pytest.fixture(scope="module")
def victim(site) -> Site:
    made = site()
    made.put("/", SECRET)
    return made


@pytest.fixture
def api(named_stack) -> str:
    return origin(named_stack)


async def found(page, url: str) -> dict[str, str]:
    await page.goto(url)
    return await page.evaluate("window.found")


# ---- by path: on the API's host


async def test_by_path_a_page_has_nothing_of_the_origin(page, attacker):
    attacker.put("/own", hostile(OWN))
    attacker.put("/worker.js", "", ("Service-Worker-Allowed", "/"), kind="text/javascript")
    assert await found(page, attacker.by_path("/own")) == dict.fromkeys(OWN, REFUSED)
    assert await page.evaluate("window.origin") == "null"


async def test_by_name_the_same_page_has_what_belongs_to_its_own_origin(page, attacker):
    attacker.put("/own", hostile(OWN))
    attacker.put("/worker.js", "", kind="text/javascript")
    for name, got in (await found(page, attacker.by_name("/own"))).items():
        assert got.startswith("got "), (name, got)


async def test_by_path_a_page_reads_neither_the_api_nor_another_sandbox(page, attacker, victim, api):
    others = {"the API": f"{api}/health", "the other": victim.by_path()}
    attacker.put("/reads", hostile(reading(others)))
    assert await found(page, attacker.by_path("/reads")) == unread("the API") | unread("the other")


async def test_by_path_a_page_reads_no_window_that_it_opened(page, attacker, victim):
    attacker.put("/opens", hostile({}))
    await page.goto(attacker.by_path("/opens"))
    async with page.expect_popup() as coming:
        await page.evaluate("url => { window.other = window.open(url); }", victim.by_path())
    popup = await coming.value
    await popup.get_by_text("of the other one").wait_for()
    told = "() => { try { return window.other.document.body.innerHTML; } catch (error) { return error.name; } }"
    assert await page.evaluate(told) == REFUSED


OPENER = {
    "reading the opener": "opener.document.body.innerHTML",
    "the opener's storage": "opener.localStorage.getItem('left')",
    "leading the opener away": "opener.location = 'about:blank#away'",
}
ABOVE = {
    "reading what is above": "parent.document.body.innerHTML",
    "leading what is above away": "parent.location = 'about:blank#away'",
}


async def test_by_path_a_page_has_no_power_over_the_page_that_opened_it(page, attacker, api):
    attacker.put("/opened", hostile(OPENER))
    await page.goto(f"{api}/")
    async with page.expect_popup() as coming:
        await page.evaluate("url => { window.open(url); }", attacker.by_path("/opened"))
    popup = await coming.value
    await popup.wait_for_load_state()
    assert await popup.evaluate("window.found") == dict.fromkeys(OPENER, REFUSED)
    assert page.url == f"{api}/"


async def test_by_path_a_page_has_no_power_over_the_page_that_frames_it(page, attacker, victim):
    attacker.put("/framed", hostile(ABOVE))
    framing = victim.by_path("/frames")
    victim.put("/frames", f"<iframe src='{attacker.by_path('/framed')}'></iframe>")
    await page.goto(framing)
    (inner,) = page.main_frame.child_frames
    assert await inner.evaluate("window.found") == dict.fromkeys(ABOVE, REFUSED)
    assert page.url == framing


async def test_by_path_cookies_reach_the_program_that_set_them_and_nobody_else(context, page, attacker, victim, api):
    wishes = ("plain=1", "root=1; Path=/", f"others=1; Path=/s/{victim.box.id}/8000/", f"wide=1; Domain={DOMAIN}")
    attacker.put("/sets", "", *(("Set-Cookie", wish) for wish in wishes))
    await page.goto(attacker.by_path("/sets"))
    kept = await context.cookies()
    assert {cookie["path"].split("8000")[0] for cookie in kept} == {f"/s/{attacker.box.id}/"}
    assert all(cookie["name"].startswith("atoll-") for cookie in kept)

    attacker.put("/again", "")
    victim.put("/after", "")
    for site, path in ((attacker, "/again"), (victim, "/after")):
        await page.goto(site.by_path(path))
    assert "plain=1" in attacker.arrived("/again")[-1]["cookie"].split("; ")
    assert "cookie" not in victim.arrived("/after")[-1]


async def test_by_path_no_answer_clears_what_the_host_keeps(context, page, attacker, api):
    await page.goto(f"{api}/")
    await page.evaluate("localStorage.setItem('kept', 'yes'); document.cookie = 'kept=yes'")
    attacker.put("/clears", "", ("Clear-Site-Data", '"*"'))
    await page.goto(attacker.by_path("/clears"))
    await page.goto(f"{api}/")
    assert await page.evaluate("[localStorage.getItem('kept'), document.cookie]") == ["yes", "kept=yes"]


# ---- by name: another origin of the same site


async def test_by_name_a_page_reads_neither_the_api_nor_another_sandbox(page, attacker, victim, api):
    others = {"the API": f"{api}/health", "the other": victim.by_name(), "the other by path": victim.by_path()}
    attacker.put("/reads", hostile(reading(others)))
    expected = unread("the API") | unread("the other") | unread("the other by path")
    assert await found(page, attacker.by_name("/reads")) == expected


async def test_by_name_an_answer_sets_no_cookie_for_the_domain(context, page, attacker, victim):
    attacker.put("/sets", "", ("Set-Cookie", "own=1"), ("Set-Cookie", f"wide=1; Domain={DOMAIN}"))
    await page.goto(attacker.by_name("/sets"))
    assert [cookie["name"] for cookie in await context.cookies()] == ["own"]
    victim.put("/after", "")
    await page.goto(victim.by_name("/after"))
    assert "cookie" not in victim.arrived("/after")[-1]


async def test_by_name_no_answer_clears_the_cookies_of_other_hosts(context, page, attacker, victim):
    """`Clear-Site-Data: "cookies"` is for the whole domain, whoever below it says so."""
    victim.put("/sets", "", ("Set-Cookie", "kept=1"))
    await page.goto(victim.by_name("/sets"))
    attacker.put("/clears", "", ("Clear-Site-Data", '"cookies"'))
    await page.goto(attacker.by_name("/clears"))
    assert [cookie["name"] for cookie in await context.cookies()] == ["kept"]


@pytest.mark.parametrize("by", ["by_path", "by_name"])
async def test_no_page_of_a_sandbox_frames_the_apis(page, attacker, api, by):
    attacker.put("/frames", f"<iframe src='{api}/'></iframe>")
    await page.goto(getattr(attacker, by)("/frames"))
    (inner,) = page.main_frame.child_frames
    assert "Atoll" not in await inner.content()


async def test_the_api_takes_no_cookie_for_a_credential(named_stack, context, page, attacker, api):
    """A page may set cookies for the whole domain by script, so they are worth nothing there."""
    attacker.put("/tosses", hostile({}))
    await page.goto(attacker.by_name("/tosses"))
    secrets = {"X-API-Key": named_stack.installation.api_key, "Authorization": attacker.box.token}
    tossed = [f"{name}={secret}; Domain={DOMAIN}; Path=/; Secure" for name, secret in secrets.items()]
    await page.evaluate("cookies => { for (const each of cookies) document.cookie = each; }", tossed)
    assert (await page.goto(f"{api}/v1/sandboxes")).status == 401
    assert len(await context.cookies(api)) == len(tossed)
