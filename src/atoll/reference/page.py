"""An OpenAPI document as one HTML page for people: no script, no font, nothing from elsewhere. Pure.

Words from the caller (the address that it came by) are escaped like all others.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

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

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5d6878; --back: #f6f7f9; --card: #fff; --line: #e0e5ec;
  --code: #eef1f5; --link: #1d5fd0; --get: #1a7f4b; --post: #1d5fd0; --put: #96690a; --delete: #b3261e }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #98a2b0; --back: #12151a; --card: #1a1f26;
  --line: #2b323c; --code: #232a33; --link: #7fb0ff; --get: #5fce96; --post: #7fb0ff; --put: #e0b24c;
  --delete: #ff8a80 } }
* { box-sizing: border-box }
html { scroll-padding-top: 1rem }
body { margin: 0; font: 15px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--back);
  display: grid; grid-template-columns: 17rem minmax(0, 1fr) }
a { color: var(--link); text-decoration: none } a:hover { text-decoration: underline }
nav { position: sticky; top: 0; height: 100vh; overflow: auto; padding: 1.2rem 1rem;
  border-right: 1px solid var(--line); font-size: .87rem }
nav b { display: block; margin: 1rem 0 .2rem } nav a { display: block; padding: .08rem 0; overflow-wrap: anywhere }
main { padding: 1.5rem 2.5rem 6rem; max-width: 62rem; width: 100% }
h1 { font-size: 1.6rem; margin: 0 0 .6rem } h2 { font-size: 1.25rem; margin: 2.6rem 0 .4rem }
h3 { font-size: 1.05rem; margin: 0 0 .3rem } h4 { font-size: .9rem; margin: 1rem 0 .3rem; color: var(--soft) }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.3rem;
  margin: 1rem 0 }
code, pre { font: .86em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
code { background: var(--code); border-radius: 4px; padding: .05em .3em } p code { overflow-wrap: anywhere }
pre { background: var(--code); border-radius: 8px; padding: .7rem .9rem; overflow-x: auto; margin: .4rem 0 }
.path { font: 600 .95rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere }
.GET { color: var(--get) } .POST { color: var(--post) } .PUT, .PATCH { color: var(--put) }
.DELETE { color: var(--delete) }
table { border-collapse: collapse; width: 100%; font-size: .9rem; display: block; overflow-x: auto }
td, th { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-top: 1px solid var(--line) }
th { color: var(--soft); font-weight: 500; border-top: 0 } td:nth-child(2) { min-width: 9rem }
td:last-child { width: 100% } small { color: var(--soft) }
p { margin: .4rem 0 }
@media (max-width: 50rem) { body { display: block } nav { position: static; height: auto; border: 0 }
  main { padding: 1rem } }
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""To be sent with the page: what it shows depends on the address that it was asked for at."""

_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Link:
    title: str
    href: str


ADDRESS = "https://address.invalid"
"""Stands in a page for what it is asked for at: a page is made once, and nobody makes us work by asking for it."""
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")


def address(scheme: str, host: str) -> str | None:
    """Of what a caller said; None for what is none."""
    return f"{scheme}://{host}" if scheme in ("http", "https") and _HOST.fullmatch(host) else None


def addressed(made: str, base_url: str) -> str:
    """A page for a caller who uses this address."""
    return made.replace(ADDRESS, escape(base_url))


def page(document: Json, links: Sequence[Link] = (), path: str = "") -> str:
    """The examples call `ADDRESS` and `path` below it. `links` lead elsewhere."""
    base_url = ADDRESS + path
    info = document["info"]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style>",
        f"<nav>{''.join(_nav(document, links))}</nav>",
        f"<main><h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        paragraphs(info["description"]),
        *(_tag(document, tag, base_url) for tag in document["tags"]),
        '<h2 id="objects">Objects</h2>',
        *(_object(name, schema) for name, schema in document["components"]["schemas"].items()),
        _errors(document),
        "</main></html>\n",
    ]
    return "\n".join(parts)


def paragraphs(text: str) -> str:
    return "".join(f"<p>{inline(part)}</p>" for part in text.split("\n\n") if part.strip())


def inline(text: str) -> str:
    """Escaped; what stands between backquotes is code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _nav(document: Json, links: Sequence[Link]) -> Iterator[str]:
    for link in links:
        yield f'<a href="{escape(link.href)}">{escape(link.title)}</a>'
    for tag in document["tags"]:
        yield f"<b>{escape(tag['name'])}</b>"
        for chapter in chapters(document, tag["name"]):
            yield f'<a href="#{chapter.anchor}">{escape(chapter.content["summary"])}</a>'
    yield '<b>Errors</b><a href="#errors">All of them</a><b>Objects</b>'
    for name in document["components"]["schemas"]:
        yield f'<a href="#{name}">{escape(name)}</a>'


def _tag(document: Json, tag: Json, base_url: str) -> str:
    shown = "".join(_chapter(document, chapter, base_url) for chapter in chapters(document, tag["name"]))
    return f"<h2>{escape(tag['name'])}</h2>{paragraphs(tag['description'])}{shown}"


def _chapter(document: Json, chapter: Chapter, base_url: str) -> str:
    operation = chapter.content
    return "".join(
        (
            f'<article id="{chapter.anchor}"><h3>{escape(operation["summary"])}</h3>',
            f'<p class="path"><span class="{chapter.method}">{chapter.method}</span> {escape(chapter.path)}</p>',
            paragraphs(operation.get("description", "")),
            _table("Parameters", parameter_rows(operation), asked=True),
            _body(operation),
            f"<pre>{escape(curl(document, chapter, base_url))}</pre>",
            *(_answer(status, answer) for status, answer in successes(operation)),
            _failures(operation),
            "</article>",
        )
    )


def _body(operation: Json) -> str:
    found = content_of(operation.get("requestBody", {}))
    if found is None:
        return ""
    media, content = found
    about = paragraphs(operation["requestBody"].get("description", ""))
    return about + _table(f"Body ({media})", list(rows(content["schema"])), asked=True)


def _answer(status: str, answer: Json) -> str:
    head = f"<h4>{status} · {inline(answer['description'])}</h4>"
    headers = "".join(f"<p><code>{escape(name)}</code> {inline(about)}</p>" for name, about in shown_headers(answer))
    found = content_of(answer)
    if found is None:
        return head + headers
    media, content = found
    example = example_text(content)
    shown = f"<pre>{escape(example)}</pre>" if example else ""
    return head + headers + _named(media, content["schema"]) + _table("", list(rows(content["schema"]))) + shown


def _named(media: str, schema: Json) -> str:
    """The objects whose fields are described at the end."""
    names = [name for part in (schema, *schema.get("allOf", ())) if (name := name_of(part))]
    words = ", ".join(f'<a href="#{name}">{escape(name)}</a>' for name in names)
    kind = "" if media == "application/json" else f"<code>{escape(media)}</code>"
    return f"<p>{kind}{'The fields of ' + words if words else ''}</p>" if kind or words else ""


def _failures(operation: Json) -> str:
    shown = ", ".join(f"{status} {' '.join(map(_code, codes))}" for status, codes in failures(operation))
    return f"<h4>Errors</h4><p>{shown}</p>" if shown else ""


def _code(code: str) -> str:
    return f'<a href="#{code}"><code>{code}</code></a>'


def _errors(document: Json) -> str:
    shown = "".join(
        f'<tr id="{each["code"]}"><td>{each["status"]}</td><td><code>{each["code"]}</code></td>'
        f"<td>{inline(each['about'])}</td></tr>"
        for each in document["x-errors"]
    )
    return f'<h2 id="errors">Errors</h2><table>{shown}</table>'


def _object(name: str, schema: Json) -> str:
    about = paragraphs(schema.get("description", ""))
    return f'<article id="{name}"><h3>{escape(name)}</h3>{about}{_table("", list(rows(schema)))}</article>'


def _table(title: str, shown: Sequence[Row], asked: bool = False) -> str:
    if not shown:
        return ""
    head = f"<h4>{escape(title)}</h4>" if title else ""
    lines = "".join(
        f"<tr><td><code>{escape(row.name)}</code></td><td>{escape(row.type)}{_marks(row, asked)}</td>"
        f"<td>{inline(row.about)}</td></tr>"
        for row in shown
    )
    return f"{head}<table>{lines}</table>"


def _marks(row: Row, asked: bool) -> str:
    said = marks(row, asked)
    return f" <small>{said}</small>" if said else ""
