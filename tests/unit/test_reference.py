"""Documents, pages and chapters, of a surface made up for it."""

from __future__ import annotations

import pytest

from atoll.reference.document import Content, Failure, Operation, Parameter, Surface, openapi
from atoll.reference.markdown import chapter
from atoll.reference.page import ADDRESS, Link, address, addressed, page
from atoll.reference.reading import chapters, curl, rows, type_of
from atoll.reference.schema import choice, flag, items, joined, mapping, nullable, number, record, ref, text, whole

HOSTILE = 'a "b" <script>alert(1)</script> & `code <i>`'
ERROR = record({"code": text(), "message": text()})
SURFACE = Surface(
    title="Atoll: things",
    version="1",
    about=HOSTILE,
    servers=({"url": "/"},),
    tags={"Things": "What there is."},
    operations=(
        Operation(
            "PUT",
            "/things/{name}",
            "putThing",
            "Things",
            "Put one",
            HOSTILE,
            (
                Parameter("name", "path", "Which.", text(), example="it's"),
                Parameter("depth", "query", "How far.", whole(minimum=1, maximum=9, default=1), example=2),
            ),
            Content(record({"size": number()}, optional={"kind": choice(("a", "b"))}), {"size": 1.5, "kind": "it's"}),
            {200: Content(joined(ref("Thing"), record({"new": flag()})), about="Done.")},
            ("gone",),
        ),
        Operation(
            "GET", "/open", "open", "Things", "Look", answers={200: Content(text(), media="text/plain")}, public=True
        ),
    ),
    schemas={"Thing": record({"inner": record({"list": items(record({"x": whole()}))})}), "Error": ERROR},
    security={"Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
    failures={
        "gone": Failure(404, "GONE", "It is gone."),
        "lost": Failure(404, "LOST", "It is lost."),
        "ours": Failure(500, "OURS", "Our fault."),
        "key": Failure(401, "KEY", "No key."),
    },
    everywhere=("ours", "lost"),
    credentials=("key",),
)
DOCUMENT = openapi(SURFACE)
PUT, OPEN = chapters(DOCUMENT, "Things")


def test_errors_of_one_status_are_one_answer_with_the_codes_of_all():
    answers = PUT.content["responses"]
    assert list(answers) == ["200", "401", "404", "500"]
    assert answers["404"]["description"] == "`GONE`: It is gone. `LOST`: It is lost."
    assert answers["404"]["content"]["application/json"]["schema"]["allOf"][1]["properties"]["code"]["enum"] == [
        "GONE",
        "LOST",
    ]


def test_an_open_operation_has_no_errors_of_credentials():
    assert OPEN.content["security"] == []
    assert list(OPEN.content["responses"]) == ["200", "404", "500"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (text(), "string"),
        (nullable(flag()), "true, false or null"),
        (nullable(whole()), "whole number or null"),
        (nullable(choice(("a", "b"))), '"a", "b" or null'),
        (items(ref("Thing")), "list of Thing"),
        (mapping(text()), "object of string"),
        (nullable(ref("Thing")), "Thing or null"),
        (text(const="x"), '"x"'),
        ({}, "any value"),
    ],
)
def test_a_type_in_words(schema: dict, words: str):
    assert type_of(schema) == words


def test_fields_of_objects_inside_are_named_by_their_way():
    assert [row.name for row in rows(SURFACE.schemas["Thing"])] == ["inner", "inner.list", "inner.list[].x"]


def test_a_call_survives_the_shell_that_it_is_pasted_into():
    assert curl(DOCUMENT, PUT, "http://h") == (
        "curl -X PUT 'http://h/things/it%27s?depth=2' \\\n"
        '  -H "X-API-Key: $ATOLL_API_KEY" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        '  -d \'{"size": 1.5, "kind": "it\'"\'"\'s"}\''
    )
    assert curl(DOCUMENT, OPEN, "http://h") == "curl http://h/open"


def test_words_are_text_on_the_page_whatever_they_hold():
    made = page(DOCUMENT, (Link("a<b>", 'x"y'),))
    assert "<script>alert" not in made
    assert "a<b>" not in made
    assert 'href="x&quot;y"' in made
    assert "<code>code &lt;i&gt;</code>" in made


def test_a_page_is_made_once_for_every_address():
    made = page(DOCUMENT)
    assert f"curl {ADDRESS}/open" in made
    assert "curl https://h:1/open" in addressed(made, "https://h:1")
    assert ADDRESS not in addressed(made, "https://h:1")
    assert "&lt;b&gt;" in addressed(made, "http://<b>")


@pytest.mark.parametrize("host", ["h", "h.example:8443", "127.0.0.1", "[::1]:80"])
def test_a_host_is_one(host: str):
    assert address("http", host) == f"http://{host}"


@pytest.mark.parametrize(
    ("scheme", "host"),
    [("http", 'a"b'), ("http", "a b"), ("http", ""), ("http", "h/p"), ("http", "h:123456"), ("ftp", "h"), ("", "h")],
)
def test_what_is_no_address_is_none(scheme: str, host: str):
    assert address(scheme, host) is None


def test_a_bar_does_not_break_the_tables_of_the_chapter():
    surface = Surface(**{**vars(SURFACE), "schemas": {"Error": record({"a": text("x | y")})}})
    assert "| `a` | string | x \\| y |" in chapter(openapi(surface), "http://h")


def test_the_chapter_says_what_has_to_be_given_and_what_is_not_always_there():
    made = chapter(DOCUMENT, "http://h")
    assert "| `size` | number (required) |  |" in made
    assert "| `depth` | whole number (query) | How far. 1 to 9. Default: `1`. |" in made
    assert "**200** Done. The fields of `Thing`." in made
    assert "Errors: 401 `KEY`, 404 `GONE` `LOST`, 500 `OURS`." in made
