"""`atoll run`: what is shown of a stream, and how figures get to a screen or a disk."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from atoll.cli import figures
from atoll.cli.figures import Drawing, draw, drawing_of
from atoll.cli.run import Display, language_of, read_code, show
from atoll.core.errors import InvalidInput

PNG = figures.PNG + b"pixels" * 2000
PICTURE = base64.b64encode(PNG).decode()


def display(mime: str, data: Any, at: str = "t1") -> dict[str, Any]:
    return {"type": "display", "mime": mime, "data": data, "timestamp": at}


END = [{"type": "result", "exit_code": 0}, {"type": "complete", "success": True}]


def test_streams_go_where_they_belong_and_the_code_is_the_programs(capfdbinary) -> None:
    said = [{"type": "stdout", "data": "ö\n"}, {"type": "stderr", "data": "e"}, {"type": "result", "exit_code": 9}]
    assert show(said, Display(Drawing.NONE, None)) == 9
    assert capfdbinary.readouterr() == ("ö\n".encode(), b"e")


def test_a_stream_without_an_end_is_a_failure(capsys) -> None:
    assert show([{"type": "stdout", "data": "x"}, {"type": "odd"}], Display(Drawing.NONE, None)) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_picture_and_its_text_the_picture_is_shown(capsys, order: int) -> None:
    forms = [display("image/png", PICTURE), display("text/plain", "<Figure>")][::order]
    show([*forms, *END], Display(Drawing.KITTY, None))
    shown = capsys.readouterr()
    assert "<Figure>" not in shown.out
    assert shown.out.startswith("\x1b_G")
    assert shown.err == ""


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_table_and_its_html_the_text_is_shown(capsys, order: int) -> None:
    show([*[display("text/html", "<table>"), display("text/plain", "a b")][::order], *END], Display(Drawing.NONE, None))
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("a b\n", "")


def test_two_results_are_two(capsys) -> None:
    show([display("text/plain", "1"), display("text/plain", "2", "t2"), *END], Display(Drawing.NONE, None))
    assert capsys.readouterr().out == "1\n2\n"


def test_what_cannot_be_shown_is_named_or_saved(capsys, tmp_path: Path) -> None:
    show([display("image/png", PICTURE), *END], Display(Drawing.NONE, None))
    assert "--save DIR" in capsys.readouterr().err
    places = Display(Drawing.NONE, tmp_path / "new" / "place")
    forms = [
        display("image/png", PICTURE),
        display("text/html", "<p>", "t2"),
        display("application/json", {"a": 1}, "t3"),
    ]
    show([*forms, *forms, *END], places)
    saved = {each.name: each.read_bytes() for each in places.save.iterdir()}
    assert saved["result-1.png"] == saved["result-2.png"] == PNG
    assert saved["result-2.html"] == b"<p>"
    assert saved["result-1.json"] == b'{\n  "a": 1\n}'
    assert capsys.readouterr().err.count(str(places.save)) == 6


@pytest.mark.parametrize("data", ["no base64!", None, 7, {"a": 1}, "\x1b]0;title\a"])
def test_a_picture_that_is_none_reaches_no_screen(capsys, data: Any) -> None:
    show([display("image/png", data), *END], Display(Drawing.ITERM, None))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "not what it says" in shown.err


def test_only_what_is_a_png_is_drawn(capsys) -> None:
    show([display("image/png", base64.b64encode(b"<svg>").decode()), *END], Display(Drawing.ITERM, None))
    assert "\x1b" not in capsys.readouterr().out


def test_a_hostile_kind_is_named_harmlessly(capsys) -> None:
    show([display("text/\x1b[2J", "x"), *END], Display(Drawing.NONE, None))
    assert "\x1b" not in capsys.readouterr().err


def test_kitty_gets_pieces_and_iterm_one() -> None:
    pieces = draw(PNG, Drawing.KITTY).rstrip("\n").split("\x1b\\")[:-1]
    assert pieces[0].startswith("\x1b_Ga=T,f=100,m=1;")
    assert pieces[-1].startswith("\x1b_Gm=0;")
    assert base64.b64decode("".join(each.partition(";")[2] for each in pieces)) == PNG
    assert max(len(each.partition(";")[2]) for each in pieces) == 4096
    assert draw(PNG, Drawing.ITERM) == f"\x1b]1337;File=inline=1;size={len(PNG)}:{PICTURE}\a\n"


@pytest.mark.parametrize(
    ("environ", "how"),
    [
        ({"TERM": "xterm-kitty"}, Drawing.KITTY),
        ({"KITTY_WINDOW_ID": "1", "TERM": "xterm"}, Drawing.KITTY),
        ({"TERM_PROGRAM": "ghostty"}, Drawing.KITTY),
        ({"TERM_PROGRAM": "iTerm.app"}, Drawing.ITERM),
        ({"TERM_PROGRAM": "WezTerm"}, Drawing.ITERM),
        ({"TERM_PROGRAM": "iTerm.app", "TMUX": "/tmp/tmux"}, Drawing.NONE),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1"}, Drawing.NONE),
        ({"TERM": "xterm-256color"}, Drawing.NONE),
        ({}, Drawing.NONE),
    ],
)
def test_terminals_that_can_draw_are_known(environ: dict[str, str], how: Drawing) -> None:
    assert drawing_of(environ, True) is how
    assert drawing_of(environ, False) is Drawing.NONE


@pytest.mark.parametrize(
    ("file", "language"),
    [("a.py", "python"), ("a/B.JS", "javascript"), ("x.sh", "bash"), ("m.go", "go"), ("-", "python"), (None, "python")],
)
def test_the_suffix_says_the_language(file: str | None, language: str) -> None:
    assert language_of(file) == language


def test_another_suffix_says_what_to_do() -> None:
    with pytest.raises(InvalidInput, match="--language"):
        language_of("a.rb")


def test_code_is_a_file_or_words(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("ö")
    assert read_code(str(tmp_path / "a.py"), None) == "ö"
    assert read_code(None, "") == ""
    (tmp_path / "b.py").write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_code(str(tmp_path / "b.py"), None)
    for both in ((None, None), ("a", "b")):
        with pytest.raises(InvalidInput, match="one of them"):
            read_code(*both)
