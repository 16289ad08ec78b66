"""What is repeated, how long is waited, and what a repetition means."""

from __future__ import annotations

import itertools

import pytest
from script import Said

import atoll
from atoll.sdk._core.errors import CONTROL, NetworkError, TimeoutError
from atoll.sdk._core.request import Answer, Failure, Patience, Repeat, Request, Send, Wait, exchange, is_repeated

OUTCOMES = {
    **{str(status): Answer(status, {}) for status in (400, 401, 403, 404, 408, 409, 429, 500, 502, 503, 504)},
    "no connection": Failure(NetworkError("x"), sent=False),
    "broken": Failure(NetworkError("x"), sent=True),
    "out of time": Failure(TimeoutError("x"), sent=True, timed_out=True),
    "no connection in time": Failure(TimeoutError("x"), sent=False, timed_out=True),
}
REPEATED = {
    Repeat.ALWAYS: {"429", "502", "503", "504", "no connection", "broken"},
    Repeat.REFUSED: {"429", "503", "no connection"},
    Repeat.NEVER: set(),
}


@pytest.mark.parametrize(("repeat", "name"), list(itertools.product(Repeat, OUTCOMES)))
def test_the_table_of_what_is_repeated(repeat, name):
    assert is_repeated(repeat, OUTCOMES[name]) == (name in REPEATED[repeat])


PATIENCE = Patience()


def waits(request: Request, *outcomes, patience: Patience = PATIENCE, chance: float = 1.0) -> list[float]:
    """The waits of a call, until it ends."""
    found, steps, given = [], exchange(request, CONTROL, patience, lambda: chance), iter(outcomes)
    step = next(steps)
    try:
        while True:
            if isinstance(step, Wait):
                found.append(step.seconds)
            step = steps.send(next(given) if isinstance(step, Send) else None)
    except (StopIteration, atoll.AtollError):
        return found


GET = Request("GET", "/x")
BUSY = Answer(503, {})


def test_waits_grow_and_end():
    assert waits(GET, BUSY, BUSY, BUSY, BUSY) == [0.2, 0.4, 0.8]
    assert waits(GET, BUSY, BUSY, BUSY, BUSY, chance=0.0) == [0.1, 0.2, 0.4]
    assert waits(GET, *[BUSY] * 9, patience=Patience(retries=8, longest_wait=1.0))[-1] == 1.0
    assert waits(GET, BUSY, patience=Patience(retries=0)) == []


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        (Answer(429, {"retry-after": "3"}), 3),
        (Answer(429, {}, b'{"error": {"details": {"retry_after_seconds": 2}}}'), 2),
        (Answer(429, {}, b'{"error": "x", "details": {"retry_after_seconds": 1}}'), 1),
        (Answer(503, {"retry-after": "60"}), 60),
    ],
)
def test_a_server_that_says_how_long_is_believed(answer, wait):
    assert waits(GET, answer, Answer(200, {}), chance=0.0) == [wait]


def test_nobody_waits_longer_than_a_minute():
    assert waits(GET, Answer(429, {"retry-after": "61"})) == []


@pytest.mark.parametrize("value", ["-1", "1e9", "soon", "", "٣"])
def test_nonsense_is_no_time(value):
    assert waits(GET, Answer(429, {"retry-after": value}), Answer(200, {}), chance=1.0) == [0.2]


@pytest.fixture
def instant(environment):
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    environment.setattr("atoll.sdk._async.client.sleep", sleep)
    environment.setattr("atoll.sdk._sync.client.sleep", slept.append)
    return slept


def test_a_busy_server_is_asked_again(form, server, account, instant):
    server.answers = [Said({}, 503), Said({}, 429, {"Retry-After": "1"}), Said({"id": "sb1", "status": "running"})]
    assert form.run(lambda: form.sandbox("sb1", **account).get_info()).status == "running"
    assert len(server.heard) == 3
    assert instant[1] >= 1


def test_a_redirection_is_an_error_and_followed_by_nobody(form, server, account, tmp_path):
    elsewhere = Said({}, 302, {"Location": f"{server.url}/elsewhere"})
    box = form.sandbox("sb1", **account)
    server.answers = [elsewhere, Said({"auth_token": "t"}), elsewhere]
    with pytest.raises(atoll.APIError):
        form.run(box.get_info)
    with pytest.raises(atoll.AgentError):
        form.run(lambda: box.files.download("/a", tmp_path / "a"))
    assert not [line for line in server.lines if "elsewhere" in line]


def test_a_refused_token_of_an_upload_is_another_at_the_next(form, server, account):
    box = form.sandbox("sb1", **account)
    server.answers = [Said({"auth_token": "old"}), Said({"code": "INVALID_TOKEN"}, 401), Said({"auth_token": "new"})]
    content = b"x" * (8 * 1024 * 1024 + 1)
    with pytest.raises(atoll.AuthenticationError):
        form.run(lambda: box.files.write_bytes("/a", content))
    form.run(lambda: box.files.write_bytes("/a", content))
    assert server.last.headers["authorization"] == "Bearer new"


def test_max_retries_is_how_often(form, server, account, instant):
    server.answers = [Said({}, 503)] * 9
    with pytest.raises(atoll.ServerError):
        form.run(lambda: form.sandbox("sb1", max_retries=1, **account).get_info())
    assert len(server.heard) == 2


@pytest.mark.parametrize("answer", [Said({}, 429), Said({}, 503), Said({}, 502), Said(broken=True)], ids=str)
def test_code_is_never_sent_twice(form, server, account, instant, answer):
    box = form.sandbox("sb1", **account)
    server.answers = [Said({"auth_token": "t"}), answer]
    with pytest.raises(atoll.AtollError):
        form.run(lambda: box.run_code("1"))
    assert [line for line in server.lines if "execute" in line] == ["POST /s/sb1/execute"]
    assert instant == []


def test_a_create_that_may_have_been_done_is_not_sent_twice(form, server, account, instant):
    server.answers = [Said(broken=True)]
    with pytest.raises(atoll.NetworkError):
        form.run(lambda: form.sandbox.create("busybox", **account))
    assert len(server.heard) == 1


def test_a_deletion_whose_answer_was_lost_is_done(form, server, account, instant):
    server.answers = [Said(broken=True), Said({}, 404)]
    form.run(lambda: form.sandbox("sb1", **account).kill())
    assert len(server.heard) == 2


def test_a_deletion_that_was_refused_first_is_not(form, server, account, instant):
    server.answers = [Said({}, 503), Said({}, 404)]
    with pytest.raises(atoll.NotFoundError):
        form.run(lambda: form.sandbox("sb1", **account).kill())


def test_a_token_that_is_refused_is_replaced_once(form, server, account, instant):
    refused = Said({"error": "expired", "code": "TOKEN_EXPIRED"}, 401)
    box = form.sandbox("sb1", **account)
    server.answers = [Said({"auth_token": "old"}), refused, Said({"auth_token": "new"}), Said({"stdout": "x"})]
    assert form.run(lambda: box.run_code("1")).stdout == "x"
    refresh, execute = "POST /v1/sandboxes/sb1/token/refresh", "POST /s/sb1/execute"
    assert server.lines == [refresh, execute, refresh, execute]
    assert [each.headers["authorization"] for each in server.heard if "execute" in each.path] == [
        "Bearer old",
        "Bearer new",
    ]
    server.answers = [refused, Said({"auth_token": "new"}), refused]
    with pytest.raises(atoll.TokenExpiredError):
        form.run(lambda: box.run_code("1"))


def test_a_token_is_replaced_before_it_runs_out(form, server, account):
    box = form.sandbox("sb1", **account)
    server.answers = [Said({"auth_token": "old", "token_expires_at": "2000-01-01T00:00:00Z"})]
    form.run(box.get_agent_info)
    form.run(box.get_agent_info)
    form.run(box.get_agent_info)
    assert [line.split()[0] for line in server.lines] == ["POST", "GET", "POST", "GET", "GET"]


def test_leaving_the_block_deletes_and_hides_nothing(form, server, account, instant):
    box = form.sandbox("sb1", **account)

    def leave(fails: bool):
        def block() -> None:
            if fails:
                raise KeyError("the block's own")

        if form.name == "sync":
            with box:
                block()
            return None

        async def run() -> None:
            async with box:
                block()

        return run()

    server.answers = [Said({}, 404)]
    form.run(lambda: leave(False))
    server.answers = [Said({}, 400)]
    with pytest.raises(KeyError):
        form.run(lambda: leave(True))
    server.answers = [Said({}, 400)]
    with pytest.raises(atoll.ValidationError):
        form.run(lambda: leave(False))
    assert server.lines == ["DELETE /v1/sandboxes/sb1"] * 3
