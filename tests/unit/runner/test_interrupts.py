"""Each test waits for a sign from the cell before it interrupts: no sleeping, no guessing."""

import signal

import pytest

from atoll.agent.runner.interrupts import Interrupts

READY = "print('ready\\n', end='')"  # one write, so that the sign comes from inside the `try`
BUSY = "print('ready')\nwhile True: pass"
SLEEPING = "import time\nprint('ready')\ntime.sleep(600)"
AWAITING = "import asyncio\nprint('ready')\nawait asyncio.sleep(600)"
RUNNING_LOOP = "import asyncio\nprint('ready')\nasyncio.run(asyncio.sleep(600))"
CHILD = "import subprocess\nsubprocess.run(['sh', '-c', 'echo ready; exec sleep 600'])"


@pytest.mark.parametrize("code", [BUSY, SLEEPING, AWAITING, RUNNING_LOOP, CHILD])
def test_interrupt_ends_the_cell_and_keeps_the_state(context, code):
    context.run("kept = 5")
    context.start(code)
    seen = context.until_prints("ready\n")
    context.interrupt()
    outcome = context.finish(outcome=seen)
    assert (outcome.status, outcome.error["name"]) == ("interrupted", "KeyboardInterrupt")
    assert context.run("kept").text == "5"


def test_interrupted_await_shows_where_it_waited(context):
    context.run("import asyncio\nasync def wait():\n    print('ready')\n    await asyncio.sleep(600)")
    context.start("await wait()")
    seen = context.until_prints("ready\n")
    context.interrupt()
    text = context.finish(outcome=seen).error["traceback"]
    assert "    await wait()\n" in text
    assert text.endswith("KeyboardInterrupt\n")


def test_interrupted_await_runs_its_finally(context):
    context.start(f"import asyncio\ntry:\n    {READY}\n    await asyncio.sleep(600)\nfinally:\n    print('cleaned')")
    seen = context.until_prints("ready\n")
    context.interrupt()
    assert context.finish(outcome=seen).stdout == "ready\ncleaned\n"


def test_interrupt_between_cells_is_ignored(context):
    context.run("1")
    context.interrupt()
    assert context.run("'alive'").text == "'alive'"


def test_interrupt_between_cells_with_an_open_loop_is_ignored(context):
    context.run("import asyncio\nawait asyncio.sleep(0)")
    context.interrupt()
    assert context.run("'alive'").text == "'alive'"


def test_cell_that_catches_the_interrupt_goes_on(context):
    body = f"    {READY}\n    time.sleep(600)\n"
    context.start(f"import time\ntry:\n{body}except KeyboardInterrupt:\n    print('caught')\n'done'")
    seen = context.until_prints("ready\n")
    context.interrupt()
    outcome = context.finish(outcome=seen)
    assert (outcome.status, outcome.text, outcome.stdout) == ("ok", "'done'", "ready\ncaught\n")


def test_second_interrupt_ends_a_cell_that_swallowed_the_first(context):
    body = f"    {READY}\n    time.sleep(600)\n"
    context.start(f"import time\ntry:\n{body}except KeyboardInterrupt:\n    print('stubborn')\n    time.sleep(600)")
    seen = context.until_prints("ready\n")
    context.interrupt()
    seen = context.until_prints("stubborn\n", seen)
    context.interrupt()
    assert context.finish(outcome=seen).status == "interrupted"
    assert context.run("1").status == "ok"


def test_storm_of_interrupts_does_not_kill_the_context(context):
    context.start(BUSY)
    seen = context.until_prints("ready\n")
    for _ in range(50):
        context.interrupt()
    outcome = context.finish(outcome=seen)
    assert outcome.status == "interrupted"
    for _ in range(50):
        context.interrupt()
    assert context.run("1").text == "1"


def test_interrupts_never_tear_a_frame(context):
    """Displays as fast as possible, interrupted at arbitrary places: the stream stays readable."""
    for _ in range(10):
        context.start("print('ready')\nwhile True: display('x' * 5000)")
        seen = context.until_prints("ready\n")
        context.interrupt()
        assert context.finish(outcome=seen).status == "interrupted"
    assert context.run("1").text == "1"


def test_interrupt_during_a_repr_ends_the_cell(context):
    context.run(f"import time\nclass Slow:\n    def __repr__(self):\n        {READY}\n        time.sleep(600)")
    context.start("Slow()")
    seen = context.until_prints("ready\n")
    context.interrupt()
    assert context.finish(outcome=seen).status == "interrupted"


def test_handler_of_an_earlier_cell_does_not_make_later_ones_uninterruptible(context):
    context.run("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)")
    context.start(BUSY)
    seen = context.until_prints("ready\n")
    context.interrupt()
    assert context.finish(outcome=seen).status == "interrupted"


def test_keyboard_interrupt_of_the_program_itself_is_an_error(context):
    outcome = context.run("raise KeyboardInterrupt('mine')")
    assert (outcome.status, outcome.error["name"]) == ("error", "KeyboardInterrupt")


@pytest.fixture
def interrupts():
    before = signal.getsignal(signal.SIGINT)
    found = Interrupts()
    yield found
    signal.signal(signal.SIGINT, before)


def test_interrupt_while_preparing_is_raised_at_the_step_into_user_code(interrupts):
    interrupts.begin()
    signal.raise_signal(signal.SIGINT)
    ran = []
    with pytest.raises(KeyboardInterrupt):
        interrupts.call(lambda: ran.append(1))
    assert ran == []


def test_interrupt_in_a_whole_function_waits_for_its_end(interrupts):
    steps = []

    def whole():
        signal.raise_signal(signal.SIGINT)
        steps.append("whole")

    def user():
        whole()
        interrupts.raise_pending()
        steps.append("not reached")

    interrupts.keep_whole(whole)
    interrupts.begin()
    with pytest.raises(KeyboardInterrupt):
        interrupts.call(user)
    assert steps == ["whole"]


def test_pending_interrupt_of_one_cell_does_not_reach_the_next(interrupts):
    interrupts.begin()
    signal.raise_signal(signal.SIGINT)
    interrupts.end()
    interrupts.begin()
    assert interrupts.call(lambda: "ran") == "ran"
    assert not interrupts.fired
