"""The commands over the API: what they ask for, what they show to people and to programs, short ids, errors."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qsl

import click
import pytest
from click.testing import CliRunner

from atoll import FileOperationError, compose
from atoll.cli.api import find_account
from atoll.cli.cp import MAX_LOOK, Found, Kind, Place, _short, landing, parse_found, parse_place
from atoll.cli.env import parse_pairs
from atoll.cli.exec import exec_
from atoll.cli.failures import explained
from atoll.cli.ids import resolve
from atoll.cli.main import BY_NAME, cli, every_command, load
from atoll.cli.network import Reach
from atoll.cli.render import plain, show_one
from atoll.cli.top import line_of
from atoll.core.errors import AuthenticationFailed, InvalidInput, NotFound, Unavailable
from atoll.core.settings import Places

OTHER = "abce" + "1" * 16


# ---- ids


def test_the_beginning_of_an_id_is_enough() -> None:
    assert resolve("abcd", ["abcdef", "abxxxx"]) == "abcdef"
    assert resolve("abcdef", ["abcdef", "abcdefgh"]) == "abcdef"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("abc", InvalidInput, "too short"),
        ("abcd", InvalidInput, "may be abcd1, abcd2: give more"),
        ("zzzz", NotFound, "begins with 'zzzz'"),
        ("", InvalidInput, "too short"),
    ],
)
def test_what_is_not_enough_is_said(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        resolve(text, ["abcd1", "abcd2"])


def test_a_short_id_is_looked_up_and_a_whole_one_is_not(api, box) -> None:
    api.has_sandboxes(box, {**box, "id": OTHER})
    api.answers("POST", f"/v1/sandboxes/{box['id']}/pause", box)
    assert api.run("pause", "abcd").stdout == box["id"] + "\n"
    assert [each.path for each in api.asked] == ["/v1/sandboxes", f"/v1/sandboxes/{box['id']}/pause"]
    api.asked.clear()
    api.run("pause", box["id"])
    assert [each.path for each in api.asked] == [f"/v1/sandboxes/{box['id']}/pause"]
    with pytest.raises(InvalidInput, match="too short"):
        api.run("pause", "abc")


# ---- listing


def test_ps_follows_the_pages_and_shows_times_to_the_second(api, box) -> None:
    pages = {None: ([box], "2"), "2": ([{**box, "id": OTHER, "status": "paused"}], None)}

    def answer(asked):
        rows, more = pages[asked.query.get("cursor")]
        return 200, {"data": rows, "has_more": more is not None, "next_cursor": more}

    api.on("GET", "/v1/sandboxes", answer)
    heading, first, second = api.run("ps").stdout.splitlines()
    assert heading.split() == ["ID", "TEMPLATE", "STATUS", "REGION", "CREATED", "EXPIRES"]
    assert first.split() == [box["id"], "base", "running", "here", "2026-01-02", "03:04:05Z", "–"]
    assert second.split()[0] == OTHER
    assert {each.key for each in api.asked} == {"e2b_" + "0" * 40}


def test_ps_for_programs_has_everything_but_what_lets_others_in(api, box) -> None:
    api.has_sandboxes(box)
    (row,) = json.loads(api.run("ps", "--json", "--status", "running").stdout)
    assert (row["id"], row["created_at"]) == (box["id"], box["created_at"])
    assert "secret-token" not in json.dumps(row)
    assert api.asked[0].query["status"] == "running"


def test_ps_finds_sandboxes_by_their_labels(api, box) -> None:
    api.has_sandboxes(box)
    api.run("ps", "-m", "user=ann", "--metadata", "task=a b")
    assert parse_qsl(api.asked[0].query["metadata"]) == [("user", "ann"), ("task", "a b")]


def test_no_sandboxes_are_said_in_words_and_in_json(api) -> None:
    api.has_sandboxes()
    assert api.run("ps").stdout == "No sandboxes.\n"
    assert api.run("ps", "--json").stdout == "[]\n"


def test_nothing_of_a_sandbox_reaches_a_terminal_raw(api, box) -> None:
    api.has_sandboxes({**box, "template_name": "\x1b[2Jx", "metadata": {"a": "\x1b]0;t\a"}})
    assert "\x1b" not in api.run("ps").stdout
    assert "\x1b" not in api.run("info", box["id"]).stdout


def test_templates_are_rows(api) -> None:
    found = {"id": "base", "name": "base", "language": "bash", "default_resources": {"vcpu": 2, "memory_mb": 512}}
    api.answers("GET", "/v1/templates", {"data": [found]})
    assert api.run("templates").stdout.splitlines()[1].split()[:4] == ["base", "bash", "2", "512"]
    assert json.loads(api.run("templates", "--json").stdout)[0]["name"] == "base"


# ---- making and changing


def test_create_sends_what_is_said_and_prints_the_id(api, box) -> None:
    api.answers("POST", "/v1/sandboxes", {**box, "auth_token": "t"}, 201)
    words = ("--template", "base", "--env", "A=1", "-m", "who=me", "--timeout", "60", "--allow", "pypi.org")
    assert api.run("create", *words, "--secret", "KEY=openai").stdout == box["id"] + "\n"
    (asked,) = api.asked
    sent = asked.body
    assert (sent["template_name"], sent["env_vars"], sent["metadata"]) == ("base", {"A": "1"}, {"who": "me"})
    assert (sent["timeout_seconds"], sent["secrets"]) == (60, {"KEY": "openai"})
    assert sent["network"] == {"allow_out": ["pypi.org"], "deny_out": ["0.0.0.0/0"]}


def test_reach_is_closed_before_it_is_open() -> None:
    assert Reach().to_create() == {}
    assert Reach(off=True).to_create() == {"allow_internet_access": False}
    assert Reach(deny=("192.0.2.0/24",)).to_policy() == {"deny_out": ["192.0.2.0/24"]}
    assert Reach(allow=("a.b",), deny=("192.0.2.0/24",)).to_policy()["deny_out"] == ["192.0.2.0/24"]
    with pytest.raises(InvalidInput):
        Reach(off=True, allow=("a.b",)).to_policy()


def test_a_network_is_shown_and_changed(api, box) -> None:
    api.has_sandboxes({**box, "network": {"allow_out": ["a.b"]}})
    api.answers("PUT", f"/v1/sandboxes/{box['id']}/network", box)
    shown = json.loads(api.run("network", box["id"], "--json").stdout)
    assert shown == {"internet_access": True, "allow_out": ["a.b"]}
    assert [each.method for each in api.asked] == ["GET"]
    for words, sent in [
        (["--off"], {"allow_internet_access": False}),
        (["--on"], {"allow_internet_access": True}),
        (["--deny", "192.0.2.1"], {"deny_out": ["192.0.2.1"], "allow_internet_access": True}),
    ]:
        api.asked.clear()
        api.run("network", box["id"], *words)
        assert {name.replace("internet_access", "allow_internet_access").replace("allow_allow", "allow"): value
                for name, value in api.asked[0].body.items()} == sent  # fmt: skip
    for words in (["--off", "--on"], ["--show", "--off"], ["--on", "--allow", "a.b"], ["--off", "--allow", "a.b"]):
        with pytest.raises(InvalidInput):
            api.run("network", box["id"], *words)


def test_all_are_deleted_only_when_that_is_said_twice(api, box) -> None:
    api.has_sandboxes(box, {**box, "id": OTHER})
    for each in (box["id"], OTHER):
        api.answers("DELETE", f"/v1/sandboxes/{each}", {"id": each})
    for words in (["kill", "--all"], ["kill"], ["kill", "--all", "--yes", OTHER]):
        with pytest.raises(InvalidInput):
            api.run(*words)
    assert not [each for each in api.asked if each.method == "DELETE"]
    assert api.run("kill", "--all", "--yes").stdout.split() == [box["id"], OTHER]


# ---- secrets


def test_a_secrets_value_comes_from_standard_input_and_is_never_shown(api) -> None:
    kept = {"id": "s1", "name": "openai", "version": 1, "hosts": ["api.openai.com"]}
    api.answers("POST", "/v1/secrets", kept, 201)
    api.answers("GET", "/v1/secrets", {"data": [kept], "has_more": False})
    api.answers("DELETE", "/v1/secrets/openai", {})
    words = ("secret", "create", "openai", "--host", "api.openai.com")
    assert api.run(*words, input="s3cret \n").stdout == "openai\n"
    assert api.asked[0].body == {"name": "openai", "value": "s3cret ", "hosts": ["api.openai.com"]}
    assert "api.openai.com" in api.run("secret", "list").stdout
    assert json.loads(api.run("secret", "list", "--json").stdout)[0]["name"] == "openai"
    api.answers("PUT", "/v1/secrets/openai", {**kept, "version": 2})
    assert api.run("secret", "update", "openai", input="new").stdout == "openai\n"
    assert api.asked[-1].body == {"value": "new"}
    api.run("secret", "update", "openai", "--keep-value", "--host", "a.example")
    assert api.asked[-1].body == {"hosts": ["a.example"]}
    assert api.run("secret", "delete", "openai").stdout == "openai\n"
    with pytest.raises(InvalidInput, match="empty"):
        api.run(*words, input="")
    with pytest.raises(InvalidInput, match="at most"):
        api.run(*words, input="x" * 70_000)


# ---- exec


@pytest.mark.parametrize(
    ("words", "command", "workdir"),
    [
        (["abcd", "--", "ls", "-l", "-w", "x"], ("ls", "-l", "-w", "x"), ""),
        (["-w", "/tmp", "abcd", "ls", "-l"], ("ls", "-l"), "/tmp"),
        (["abcd", "-w", "/tmp", "--", "ls", "-d"], ("ls", "-d"), "/tmp"),
        (["abcd", "ls", "-w", "/tmp"], ("ls", "-w", "/tmp"), ""),
        (["abcd", "--", "sh", "-c", "x", "--", "y"], ("sh", "-c", "x", "--", "y"), ""),
    ],
)
def test_options_of_the_command_are_the_commands(words: list[str], command: tuple[str, ...], workdir: str) -> None:
    found = exec_.make_context("exec", list(words)).params
    assert (found["sandbox"], found["command"], found["workdir"]) == ("abcd", command, workdir)


# ---- cp


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("abcd:/tmp/a", Place("abcd", "/tmp/a")),
        ("abcd:a/b", Place("abcd", "/workspace/a/b")),
        ("abcd:", Place("abcd", "/workspace/")),
        ("./a:b", Place(None, "./a:b")),
        ("/a:b", Place(None, "/a:b")),
        ("a", Place(None, "a")),
        (":a", Place(None, ":a")),
        (".:a", Place(None, ".:a")),
    ],
)
def test_places_are_told_apart(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize(
    ("kind", "target", "name", "goal"),
    [
        (Kind.DIRECTORY, "/tmp", "a", "/tmp/a"),
        (Kind.DIRECTORY, ".", "a", "./a"),
        (Kind.DIRECTORY, "/tmp", ".", "/tmp"),
        (Kind.DIRECTORY, "/", "", "/"),
        (Kind.FILE, "/tmp/b", "a", "/tmp/b"),
        (Kind.MISSING, "/tmp/b", "a", "/tmp/b"),
        (Kind.MISSING, "/tmp/b/", "a", "/tmp/b/a"),
    ],
)
def test_a_copy_lands_as_with_cp(kind: Kind, target: str, name: str, goal: str) -> None:
    assert landing(kind, target, name) == goal


@pytest.mark.parametrize("words", [("a", "b"), ("abcd:a", "abcd:b")])
def test_a_copy_is_between_here_and_there(api, words: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput, match="SANDBOX:PATH"):
        api.run("cp", *words)


def test_a_shell_that_answers_without_end_is_not_listened_to() -> None:
    assert _short(iter([b"file\n", b"/a\n"])) == b"file\n/a\n"
    with pytest.raises(Unavailable, match="does not answer as one does"):
        _short(itertools.repeat(b"y\n" * (MAX_LOOK // 4)))


# ---- the whole


def test_every_command_of_the_table_is_one_and_has_help() -> None:
    """A line of the table is short, the command's own first line may say more."""
    found = dict(every_command())
    assert list(found) == list(BY_NAME)
    assert [name for name, command in found.items() if command.name != name or not command.help] == []
    assert [name for name, row in BY_NAME.items() if len(row.help) > 60 or not row.help.endswith(".")] == []


def test_help_and_version_import_no_command() -> None:
    code = (
        "import sys\nfrom atoll.cli.main import cli\n"
        "try:\n    cli.main(['--help'], prog_name='atoll')\n"
        "except SystemExit:\n    pass\n"
        "slow = {'httpx', 'rich', 'websockets', 'asyncio', 'ssl', 'atoll.compose', 'atoll.sdk'} & set(sys.modules)\n"
        "sys.exit(f'imported: {slow}' if slow else 0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [name for name in BY_NAME if f"\n  {name} " not in done.stdout] == []


SERVER_ONLY = (
    *("aiohttp", "alembic", "cryptography", "dns", "fastapi", "h2", "httptools", "jwt", "mcp"),
    *("sqlalchemy", "starlette", "uvicorn", "uvloop", "yaml"),
)


def test_a_client_alone_has_every_command_that_is_a_clients() -> None:
    """With only what the package itself requires; the others say what to install."""
    code = (
        f"import sys\nfor name in {SERVER_ONLY!r}:\n    sys.modules[name] = None\n"
        "import click\nfrom atoll.cli.main import BY_NAME, load\n"
        "for name, row in BY_NAME.items():\n"
        "    if not row.extra:\n        load(name, row)\n"
        "import websockets.sync.client, atoll.sdk\n"
        "from atoll.cli.api import find_account\n"
        "find_account(None, 'http://127.0.0.1:1', 'k')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_without_its_libraries_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(click.ClickException, match=r"`atoll keys` needs sqlalchemy: pip install 'atoll\[server\]'"):
        load("keys", BY_NAME["keys"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_what_makes_them_complete(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert "_ATOLL_COMPLETE" in done.stdout
    assert CliRunner().invoke(cli, ["completion", "tcsh"]).exit_code == 2


# ---- inside a sandbox


@pytest.fixture
def inside(api, box):
    """The path of its agent."""
    api.answers("POST", f"/v1/sandboxes/{box['id']}/token/refresh", {"auth_token": "t"})
    return f"/s/{box['id']}"


def test_background_runs_are_listed_with_the_time_to_the_second(api, box, inside) -> None:
    run = {"process_id": "p1", "name": "server", "status": "running", "start_time": "2026-01-02T03:04:05.678901Z"}
    api.answers("GET", f"{inside}/execute/processes", {"processes": [run, {**run, "start_time": None}]})
    _, first, second = api.run("logs", box["id"], "--list").stdout.splitlines()
    assert first.split()[-2:] == ["2026-01-02", "03:04:05Z"]
    assert second.split()[-1] == "–"
    assert json.loads(api.run("logs", box["id"], "--json").stdout)[0] == run


def test_of_a_file_ls_shows_the_file(api, box, inside) -> None:
    files = [{"name": name, "path": f"/tmp/{name}", "size": 7, "is_directory": False} for name in ("a", "b")]
    no_directory = {"error": "Not a directory: it", "code": "INVALID_PATH"}

    def listed(asked):
        return (200, {"files": files}) if asked.query["path"] == "/tmp" else (400, no_directory)

    api.on("GET", f"{inside}/files/list", listed)
    assert [row["name"] for row in json.loads(api.run("ls", f"{box['id']}:/tmp/b", "--json").stdout)] == ["b"]
    for odd in ("/tmp/c", "/tmp/b/"):
        with pytest.raises(FileOperationError, match="Not a directory"):
            api.run("ls", f"{box['id']}:{odd}")


# ---- which installation


def places(tmp_path: Path, url: str | None = "http://127.0.0.1:9", key: str | None = "local-key") -> Places:
    made = Places.of(tmp_path / "data", tmp_path / "run")
    for path, text in ((made.run / compose.URL_FILE, url), (made.first_key, key)):
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)
    return made


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """An installation that runs on this machine, and an environment that is told."""

    def make(environ: dict[str, str] | None = None, **more: str | None) -> None:
        made = places(tmp_path, **more)
        monkeypatch.setattr(compose, "environment", lambda: environ or {})
        monkeypatch.setattr(compose, "read_places", lambda flags, environ: made)

    return make


def test_without_a_word_it_is_the_installation_of_this_machine(here) -> None:
    here()
    account = find_account(None, None, None)
    assert (account.url, account.key) == ("http://127.0.0.1:9", "local-key")


def test_words_come_before_the_environment_and_that_before_this_machine(here) -> None:
    here({"ATOLL_BASE_URL": "https://a.example/", "ATOLL_API_KEY": "k1", "HOPX_API_KEY": "k2"})
    assert find_account(None, None, None).url == "https://a.example"
    assert find_account(None, None, None).key == "k1"
    assert find_account(None, "http://b.example", "k3") == find_account(None, "http://b.example/", "k3")


def test_this_machines_key_goes_nowhere_else(here) -> None:
    here({"ATOLL_BASE_URL": "https://a.example"})
    with pytest.raises(AuthenticationFailed, match="--key"):
        find_account(None, None, None)


def test_what_is_missing_is_said(here) -> None:
    here(url=None, key=None)
    with pytest.raises(NotFound, match="atoll up"):
        find_account(None, None, None)


def test_who_may_not_see_this_machines_installation_says_where_it_is(here, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(places: Places) -> str:
        raise PermissionError(13, "Permission denied", str(places.run / "url"))

    here({"ATOLL_API_KEY": "k"})
    monkeypatch.setattr(compose, "running_url", refused)
    assert find_account(None, "http://127.0.0.1:8080", None).key == "k"
    with pytest.raises(NotFound, match="ATOLL_BASE_URL"):
        find_account(None, None, None)


def test_a_key_is_in_no_traceback(here) -> None:
    here()
    assert "local-key" not in repr(find_account(None, None, None))


# ---- words


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain ü 漢", "plain ü 漢"), ("a\x1b[1m", "a\\x1b[1m"), ("\u202ex", "\\u202ex"), ("a\nb\0", "a\\x0ab\\x00"),
     ("\x9b2J", "\\x9b2J"), ("\ud800", "\\ud800"), ("\U000e0001", "\\U000e0001")],
)  # fmt: skip
def test_what_a_terminal_obeys_is_shown_in_words(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_one_row_is_a_line_a_value(capsys) -> None:
    show_one({"id": "a", "on": True, "nothing": None, "list": ["\x1b"]}, as_json=False)
    assert capsys.readouterr().out.splitlines() == ["id       a", "on       yes", "nothing  –", 'list     ["\\u001b"]']


def test_pairs_are_names_and_values() -> None:
    assert parse_pairs(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    for wrong in ("A", "=x", ""):
        with pytest.raises(click.BadParameter):
            parse_pairs([wrong])


def test_errors_have_a_line_and_a_code() -> None:
    from atoll import sdk

    for error, code in [
        (InvalidInput("no"), 2),
        (NotFound("no"), 1),
        (sdk.ValidationError("no"), 2),
        (sdk.NotFoundError("no"), 1),
        (sdk.TimeoutError("no"), 124),
        (FileNotFoundError(2, "No such file", "x"), 1),
    ]:
        told = explained(error)
        assert told is not None
        assert told.status == code
    assert explained(ZeroDivisionError()) is None
    assert "\x1b" not in explained(NotFound("\x1b[2J")).message


@pytest.mark.parametrize(
    "figures",
    [
        {},
        {"system": 7, "process": None},
        {"system": {"memory": {"used": float("inf"), "total": 10**400}, "cpu": {"usage_percent": "x"}}},
        {"uptime_seconds": float("nan"), "process": {"count": {}}},
    ],
    ids=str,
)
def test_odd_figures_of_a_sandbox_are_nothing(figures: dict) -> None:
    assert line_of(figures) == "CPU 0 %   memory 0 B of 0 B   disk 0 B of 0 B   processes 0   up 0 s"


def test_colours_are_for_terminals_and_for_those_who_want_them() -> None:
    """On a pty: a table's heading is bold, unless NO_COLOR is set."""
    import pty

    code = "import click\nfrom atoll.cli import main\nmain.cli.callback = lambda: None\n"
    code += "main.cli.add_command(click.Command('x', callback=lambda: click.secho('bold', bold=True)))\n"
    code += "main.Commands.get_command = lambda self, ctx, name: self.commands.get(name)\nmain.main()\n"
    for more, bold in (({}, True), ({"NO_COLOR": "1"}, False)):
        master, slave = pty.openpty()
        kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        environment = {**kept, **more, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code, "x"], env=environment, stdout=slave, stderr=subprocess.PIPE)
        assert done.returncode == 0, done.stderr
        assert (b"\x1b[1m" in os.read(master, 100)) is bold
        os.close(master)
        os.close(slave)


# ---- copies


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("directory\n/tmp\n", Found(Kind.DIRECTORY, "/tmp")),
        ("file 12\n/a\nb\n", Found(Kind.FILE, "/a\nb", 12)),
        ("file\n/a\n", Found(Kind.FILE, "/a")),
        ("file -1\n/a\n", Found(Kind.FILE, "/a")),
        ("file ²\n/a\n", Found(Kind.FILE, "/a")),
        (f"file {'9' * 5000}\n/a\n", Found(Kind.FILE, "/a")),
        ("missing\n", Found(Kind.MISSING, "/asked")),
        ("file 1\nnot-absolute\n", Found(Kind.FILE, "/asked", 1)),
        ("", None),
        ("sh: no such thing\n", None),
    ],
)
def test_what_a_sandbox_says_of_a_path_is_read_with_care(answer: str, found: Found | None) -> None:
    assert parse_found(answer, "/asked") == found
