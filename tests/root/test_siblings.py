"""What is born from one zygote shares no random number, token, id or name: sandboxes, contexts, restarted ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from envd import token_of
from siblings import SCIENCE, STANDARD, drawing, shared
from stack import Box, Stack

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

AT_EACH_CALL = {
    "a shell's RANDOM": "echo $RANDOM $RANDOM $RANDOM",
    "a shell's SRANDOM": "echo $SRANDOM $SRANDOM",
    "mktemp": "mktemp -u",
    "a uuid of the kernel": "cat /proc/sys/kernel/random/uuid",
    "openssl": "openssl rand -hex 16",
    "JavaScript": "node -e 'console.log(Math.random(), crypto.randomUUID())'",
    "Python": "python3 -c 'import random, uuid; print(random.random(), uuid.uuid4(), hash(\"x\"))'",
}
IN_EACH_LIFE = {
    "boot id": "cat /proc/sys/kernel/random/boot_id",
}
IN_EACH_SANDBOX = {
    "host name": "hostname",
    "address": "hostname -I",
}
IN_NO_TEMPLATE = ("/etc/ssh/ssh_host_*", "/var/lib/systemd/random-seed", "/var/lib/dbus/machine-id", "/root/.rnd",
                  "/etc/ssl/private/*.key", "/home/*/.ssh/id_*", "/root/.ssh/id_*", "/etc/krb5.keytab",
                  "/root/.local/share/jupyter/runtime/*")  # fmt: skip


@pytest.fixture(scope="module")
def box(stack: Stack) -> Iterator[Box]:
    with stack.box() as made:
        yield made


@pytest.fixture(scope="module")
def other(stack: Stack) -> Iterator[Box]:
    with stack.box() as made:
        yield made


def ask(box: Box, path: str, order: dict[str, Any]) -> str:
    """E2B's code interpreter, where contexts are named."""
    named = {"E2b-Sandbox-Id": box.id, "E2b-Sandbox-Port": "49999", "X-Access-Token": token_of(box)}
    answer = box.stack.client.post(path, headers=named, json=order)
    assert answer.status_code == 200, answer.text
    return answer.text


def new_context(box: Box) -> str:
    return str(json.loads(ask(box, "/contexts", {}))["id"])


def drawn_in(box: Box, context: str | None = None) -> dict[str, object]:
    """None: the default one, which may be older than its sandbox's name."""
    order = {"code": drawing({**STANDARD, **SCIENCE}), "context_id": context}
    lines = ask(box, "/execute", order).splitlines()
    return dict(json.loads("".join(event["text"] for event in map(json.loads, lines) if event["type"] == "stdout")))


def test_nothing_drawn_in_one_context_is_drawn_in_another(box, other):
    again = new_context(box)
    drawn = [drawn_in(box), drawn_in(other)]
    drawn += [drawn_in(box, new_context(box)), drawn_in(box, again), drawn_in(other, new_context(other))]
    ask(box, f"/contexts/{again}/restart", {})
    drawn.append(drawn_in(box, again))
    assert shared(drawn) == {}


def said(box: Box, commands: dict[str, str]) -> dict[str, object]:
    return {name: box.sh(command) for name, command in commands.items()}


def test_no_program_draws_what_another_drew(box, other):
    assert shared([said(where, AT_EACH_CALL) for where in (box, box, other)]) == {}


def test_two_sandboxes_are_not_the_same_machine(box, other):
    assert shared([said(where, {**IN_EACH_LIFE, **IN_EACH_SANDBOX}) for where in (box, other)]) == {}


def test_another_life_is_another_boot_and_draws_anew(stack):
    with stack.box() as made:
        before = said(made, IN_EACH_LIFE), drawn_in(made)
        assert made.control("POST", "/stop").status_code == 200
        assert made.control("POST", "/start").status_code == 200
        made.token = made.control("POST", "/token/refresh").json()["auth_token"]
        after = said(made, IN_EACH_LIFE), drawn_in(made)
    assert shared([before[0], after[0]]) == {}
    assert shared([before[1], after[1]]) == {}


@pytest.mark.parametrize("template", ["base", "code-interpreter"])
def test_no_key_or_id_lies_in_a_template(stack, template):
    with stack.box(template) as made:
        assert made.sh(f"sudo sh -c 'ls -d {' '.join(IN_NO_TEMPLATE)}; cat /etc/machine-id' 2>/dev/null; true") == ""
