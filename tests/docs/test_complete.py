"""What can be met is written down: every endpoint, setting, error, variable, command and option."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache

import click
import pytest
import reading
from fastapi import APIRouter
from fastapi.routing import APIRoute

from atoll.cli.main import cli
from atoll.compose import SETTINGS
from atoll.core.errors import ErrorKind
from atoll.dialects import egress
from atoll.dialects import errors as control_errors
from atoll.dialects import reference as api_reference
from atoll.dialects.e2b import errors as e2b_errors
from atoll.dialects.e2b import novita
from atoll.dialects.e2b import routes as e2b
from atoll.dialects.hopx import routes as hopx
from atoll.dialects.hopx import secrets as hopx_secrets
from atoll.edge import pages as port_errors
from atoll.edge.e2b import errors as envd_errors
from atoll.edge.e2b import surface as envd
from atoll.edge.e2b import volumes
from atoll.edge.hopx import errors as agent_errors
from atoll.edge.hopx import surface
from scripts import reference

DOCS = reading.ROOT / "docs"
SOURCES = reading.ROOT / "src" / "atoll"
VARIABLE = re.compile(r"(?:ATOLL|HOPX|E2B|NOVITA)_[A-Z0-9_]+")


def page(name: str) -> str:
    return (DOCS / name).read_text()


@cache
def endpoints_written_down(name: str) -> frozenset[str]:
    """`METHOD /path` anywhere on a page, also in two columns of a table; a variable part has whatever name."""
    found = re.findall(r"\b(GET|POST|PUT|PATCH|DELETE)`?\s+(?:\|\s+)?`?(/[^\s`|)\"']*)", page(name))
    return frozenset(f"{method} {plain(path)}" for method, path in found)


def plain(path: str) -> str:
    return re.sub(r"\{[^}]*\}|\*", "{}", path)


def routes_of(router: APIRouter) -> Iterator[str]:
    for route in router.routes:
        assert isinstance(route, APIRoute)
        yield from (f"{method} {plain(route.path)}" for method in sorted(route.methods - {"HEAD"}))


def rows_of(table: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    for path, methods in table.items():
        yield from (f"{method} {plain(path)}" for method in methods)


def test_every_endpoint_is_in_the_rest_reference() -> None:
    routers = (hopx.router, hopx_secrets.router, egress.router)
    served = (*(each for router in routers for each in routes_of(router)), *rows_of(surface.ROUTES))
    missing = [each for each in served if each not in endpoints_written_down("rest.md")]
    assert not missing, "\n".join(missing)


def test_every_endpoint_of_e2b_is_on_its_page() -> None:
    agent = (*rows_of(envd.HTTP), *(f"POST {path}" for path in envd.RPC))
    content = (f"{method} /volumecontent/{{}}/{rest}" for method, rest in volumes.ROUTES)
    control = (each for router in (e2b.router, novita.own, novita.differing) for each in routes_of(router))
    served = (*control, *agent, *content)
    missing = [each for each in served if each not in endpoints_written_down("e2b-api.md")]
    assert not missing, "\n".join(missing)


def test_the_reference_says_where_it_is_served_itself() -> None:
    for route in api_reference.router.routes:
        assert isinstance(route, APIRoute)
        assert f"`{route.path}`" in page("rest.md"), route.path


def test_no_room_has_endpoints_that_these_tests_do_not_know() -> None:
    """A router of a new file has to be added above, or its endpoints would be missing from the documents."""
    routers = {
        path.relative_to(SOURCES).as_posix()
        for path in (SOURCES / "dialects").rglob("*.py")
        if re.search(r"^\w+ = APIRouter\(", path.read_text(), re.MULTILINE)
    }
    assert routers == {
        *("dialects/hopx/routes.py", "dialects/hopx/secrets.py", "dialects/egress.py"),
        *("dialects/e2b/routes.py", "dialects/e2b/novita.py"),
        "dialects/reference.py",
        "dialects/internal.py",  # between our own processes; in architecture.md
    }


def test_what_is_made_from_the_code_is_as_the_code_is() -> None:
    assert not reference.stale(), "run ./scripts/docs"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_on_its_page(setting) -> None:
    text = page("settings.md")
    assert setting.variable in text
    assert f"`{setting.flag}" in text


def test_every_kind_of_error_is_on_its_page() -> None:
    text = page("errors.md")
    for kind in ErrorKind:
        assert f"`{kind}`" in text, kind
        for dialect in control_errors.Dialect:
            cell = control_errors.cell(kind, dialect)
            assert re.search(rf"`{kind}` .*\| {cell.status}(?: `{cell.code}`)? \|", text), (kind, dialect)
    for connect in envd_errors.FROM_AGENT.values():
        assert f"| `{connect.code}` | {connect.status} |" in text, connect
    for refused in (*e2b_errors.CAUSES.values(), e2b_errors.SECRETS_FULL):
        assert re.search(rf"^\| {refused.status}(?: `{refused.code}`)? \|", text, re.MULTILINE), refused
    for table in (agent_errors.TABLE, port_errors.TABLE):
        for kind, cell in table.items():
            assert f"| {cell.status} | `{cell.code}` |" in text, kind


def variables() -> Iterator[tuple[str, str]]:
    """Names of variables that stand in the sources as texts of their own, and where."""
    for source in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_bytes())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value):
                yield node.value, f"{source.relative_to(SOURCES)}:{node.lineno}"


def test_every_variable_is_in_the_documents() -> None:
    text = page("settings.md")
    missing = [f"{name} ({place})" for name, place in variables() if not re.search(rf"\b{name}\b", text)]
    assert not missing, "\n".join(missing)


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """Also those of groups in it; they may be imported when they are asked for."""
    context = click.Context(group)
    for each in group.list_commands(context):
        found = group.get_command(context, each)
        assert found is not None, f"{name} {each}"
        yield f"{name} {each}", found
        if isinstance(found, click.Group):
            yield from commands(found, f"{name} {each}")


def test_every_command_and_option_is_in_the_reference() -> None:
    text = page("cli.md")
    missing = []
    for name, command in commands(cli, "atoll"):
        section = section_of(text, name)
        options = [each for param in command.params if not getattr(param, "hidden", False) for each in param.opts]
        missing += [f"{name} {each}" for each in options if each.startswith("-") and not stands_in(section, each)]
    assert not missing, "\n".join(missing)


def stands_in(text: str, option: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text) is not None


def section_of(text: str, command: str) -> str:
    """From its heading to the next one."""
    found = re.search(rf"^#+ `?{re.escape(command)}`?\s*$\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"`{command}` has no heading in docs/cli.md"
    return found[1]


def test_the_examples_of_the_command_line_are_commands() -> None:
    """Those in the help of commands, which name sandboxes that nobody has: the words are there, and the options."""
    wrong, seen = [], 0
    for block in reading.blocks("docs/cli.md", page("cli.md")):
        for line in block.text.splitlines():
            for words in calls_of_atoll(line):
                seen += 1
                wrong += [f"{block.place}: {line.strip()}: {why}" for why in unknown_words(words)]
    assert not wrong, "\n".join(wrong)
    assert seen > 20


def calls_of_atoll(line: str) -> Iterator[list[str]]:
    """What stands behind each `atoll` of a line of shell, up to a pipe or the like."""
    tokens = shlex.shlex(line, posix=True, punctuation_chars=True)
    tokens.whitespace_split = True
    for is_between, words in itertools.groupby(tokens, lambda token: not set(token) - set("();<>|&")):
        found = list(words)
        if not is_between and found[0] == "atoll":
            yield [word for word in found[1:] if not word.startswith("[") and not word.isupper()]


def unknown_words(words: list[str]) -> Iterator[str]:
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            yield f"no command {words[0]!r}"
            return
        command, words = found, words[1:]
    known = {text for param in command.params for text in (*param.opts, *param.secondary_opts)}
    for word in itertools.takewhile(lambda word: word != "--", words):
        name = word.partition("=")[0]
        if word.startswith("-") and word != "-" and name not in known:
            yield f"no option {name!r}"
