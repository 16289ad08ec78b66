"""What `atoll up` says to who starts it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from atoll import compose
from atoll.cli.up import greet, say_what_takes_long
from atoll.core.template import Template


@pytest.fixture
def config(tmp_path: Path) -> compose.Config:
    return compose.read_config({"data_dir": str(tmp_path / "data")}, {})


def said(config: compose.Config) -> str:
    console = Console(file=io.StringIO(), width=200)
    say_what_takes_long(config, console)
    return console.file.getvalue()


def build(config: compose.Config, name: str) -> None:
    place = config.places.data / "node" / "templates" / name
    place.mkdir(parents=True)
    (place / "template.json").write_text(json.dumps(Template(name, "d", ()).to_wire()))


def test_the_first_start_says_that_it_takes_a_while(config):
    assert "base, code-interpreter" in said(config)
    build(config, "base")
    assert "(code-interpreter)" in said(config)


def test_every_other_start_does_not(config):
    build(config, "base")
    build(config, "code-interpreter")
    assert said(config) == ""


def test_the_greeting_has_what_a_first_result_needs(config):
    console = Console(file=io.StringIO(), width=200)
    greet(console, config, "http://127.0.0.1:8080", "KEY", None)
    shown = console.file.getvalue()
    assert "export ATOLL_BASE_URL=http://127.0.0.1:8080 ATOLL_API_KEY=KEY" in shown
    assert 'atoll run -c "print(6 * 7)"\n' in shown
    assert "from atoll import Sandbox" in shown
    assert "http://127.0.0.1:8080/docs" in shown


def test_the_greeting_of_a_later_start_shows_no_key_but_takes_it_from_its_file(config):
    console = Console(file=io.StringIO(), width=200)
    greet(console, config, "http://127.0.0.1:8080", "KEY", "KEY")
    shown = console.file.getvalue()
    assert f'ATOLL_API_KEY="$(sudo cat {config.places.first_key})"' in shown
    assert "KEY\n" not in shown
