"""An OpenAPI document as a chapter of the documents. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .reading import (
    Chapter,
    Json,
    Row,
    chapters,
    content_of,
    curl,
    example_text,
    failures,
    marks,
    name_of,
    parameter_rows,
    rows,
    shown_headers,
    successes,
)


def chapter(document: Json, base_url: str) -> str:
    """With a heading of the second level for the document, and its operations below it."""
    return "\n".join(_lines(document, base_url)).rstrip() + "\n"


def _lines(document: Json, base_url: str) -> Iterator[str]:
    yield from (f"## {document['info']['title'].removeprefix('Atoll: ').capitalize()}", "")
    yield from (document["info"]["description"], "")
    for tag in document["tags"]:
        yield from (f"### {tag['name']}", "", tag["description"], "")
        for each in chapters(document, tag["name"]):
            yield from _operation(document, each, base_url)
    for name, schema in document["components"]["schemas"].items():
        yield from (f"### Object `{name}`", "")
        if about := schema.get("description"):
            yield from (about, "")
        yield from _table(list(rows(schema)))


def _operation(document: Json, each: Chapter, base_url: str) -> Iterator[str]:
    operation = each.content
    yield from (f"#### {operation['summary']}: `{each.method} {each.path}`", "")
    if about := operation.get("description"):
        yield from (about, "")
    yield from _table(parameter_rows(operation), asked=True)
    if found := content_of(operation.get("requestBody", {})):
        media, content = found
        yield from (f"Body (`{media}`):", "")
        yield from _table(list(rows(content["schema"])), asked=True)
    yield from ("```sh", curl(document, each, base_url), "```", "")
    for status, answer in successes(operation):
        yield from _answer(status, answer)
    if failed := failures(operation):
        yield from (f"Errors: {', '.join(_failure(*each) for each in failed)}.", "")


def _failure(status: str, codes: Sequence[str]) -> str:
    return f"{status} {' '.join(f'`{code}`' for code in codes)}"


def _answer(status: str, answer: Json) -> Iterator[str]:
    found = content_of(answer)
    named = _named(found[1]["schema"]) if found else ""
    media = f" `{found[0]}`" if found and found[0] != "application/json" else ""
    yield from (f"**{status}**{media} {answer['description']}{named}", "")
    for name, about in shown_headers(answer):
        yield from (f"`{name}`: {about}", "")
    if found is None:
        return
    yield from _table(list(rows(found[1]["schema"])))
    if example := example_text(found[1]):
        yield from ("```json" if media == "" else "```text", example.rstrip("\n"), "```", "")


def _named(schema: Json) -> str:
    names = [name for part in (schema, *schema.get("allOf", ())) if (name := name_of(part))]
    return f" The fields of {', '.join(f'`{name}`' for name in names)}." if names else ""


def _table(shown: Sequence[Row], asked: bool = False) -> Iterator[str]:
    if not shown:
        return
    yield from ("| name | what | |", "|---|---|---|")
    for row in shown:
        said = marks(row, asked)
        yield f"| `{row.name}` | {_cell(row.type)}{f' ({said})' if said else ''} | {_cell(row.about)} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
