"""What the edge says in the place of a program, to a browser."""

from __future__ import annotations

import asyncio

import pytest

from sites import by_name, origin, run

pytestmark = [
    pytest.mark.root,
    pytest.mark.browser,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="session"),
]

NOBODY = "0" * 20
LOOK = """() => {
    const script = document.createElement('script');
    script.textContent = 'window.ran = true';
    document.body.append(script);
    return ['ran' in window, window.origin];
}"""


@pytest.fixture(scope="module")
def box(named_stack):
    with named_stack.box(inbound_auth="public") as made:
        yield made


async def test_the_page_of_a_closed_port_says_so_and_gives_way_when_the_port_opens(context, named_stack, box):
    urls = (by_name(box, port=8123), f"{origin(named_stack)}/s/{box.id}/8123/")
    pages = [await context.new_page() for _ in urls]
    answers = await asyncio.gather(*(page.goto(url) for page, url in zip(pages, urls, strict=True)))
    assert [answer.status for answer in answers] == [502, 502]
    for page in pages:
        assert await page.get_by_text("Nothing listens at port 8123").is_visible()
    run(box, "python3 -m http.server 8123")
    await asyncio.gather(*(page.get_by_role("heading", name="Directory listing").wait_for() for page in pages))


async def test_a_page_where_no_sandbox_can_be(page, named_stack, box):
    for url in (by_name(box).replace(box.id, "nobody"), f"{origin(named_stack)}/s/nobody/8000/"):
        answer = await page.goto(url)
        assert answer.status == 404, url
        assert "nobody" in await page.inner_text("main"), url


async def test_a_sandbox_that_is_gone_has_a_page_that_says_so(page, named_stack, site):
    made = site(inbound_auth="token")
    made.put("/", "<h1>here</h1>")
    await page.set_extra_http_headers({"X-API-Key": named_stack.installation.api_key})
    assert (await page.goto(made.by_name())).status == 200
    made.box.kill()
    assert (await page.reload()).status == 404
    assert made.box.id in await page.inner_text("main")


async def test_a_closed_sandbox_asks_who_is_there_and_one_that_is_not_there_says_so(page, named_stack):
    with named_stack.box() as closed:
        for url, status, said in (
            (by_name(closed), 401, "Authentication required"),
            (by_name(closed).replace(closed.id, NOBODY), 404, "not found"),
        ):
            answer = await page.goto(url)
            assert answer.status == status, url
            assert said in await page.inner_text("main"), url


async def test_pages_of_the_edge_run_no_script_and_are_styled(page, box):
    """Were a message of ours ever to hold a tag, it would do nothing."""
    await page.goto(by_name(box, port=8125))
    assert await page.evaluate(LOOK) == [False, "null"]
    styled = "getComputedStyle(document.querySelector('main')).borderRadius"
    assert await page.evaluate(styled) != "0px"
