"""What a reader of an OpenAPI document is shown: rows of a table for a schema, and a call with curl. Pure.

Both forms of the reference, the page and the chapter of the documents, are made of these.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

Json = Mapping[str, Any]  # Any: JSON values
HIDDEN = ("X-Request-ID",)
"""Headers that every answer has: said once, at the beginning."""


@dataclass(frozen=True)
class Row:
    name: str
    """With the names that it stands below, joined with dots; `[]` for each of a list."""
    type: str
    required: bool
    about: str
    where: str = ""
    """Of a parameter: path, query or header."""


@dataclass(frozen=True)
class Chapter:
    """An operation."""

    method: str
    path: str
    anchor: str
    content: Json


def chapters(document: Json, tag: str) -> Iterator[Chapter]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield Chapter(method.upper(), path, operation["operationId"], operation)


def name_of(schema: Json) -> str | None:
    """Of a schema that is described elsewhere."""
    return str(schema["$ref"]).rpartition("/")[2] if "$ref" in schema else None


def type_of(schema: Json) -> str:
    """In words; the name of a described object in its place."""
    if named := name_of(schema):
        return named
    if "enum" in schema:
        return _alternatives(json.dumps(each) for each in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "anyOf" in schema:
        return _alternatives(type_of(each) for each in schema["anyOf"])
    if "allOf" in schema:
        return " + ".join(named for each in schema["allOf"] if (named := name_of(each))) or "object"
    given = schema.get("type", "any value")
    kinds = given if isinstance(given, list) else [given]
    return _alternatives(_kind(kind, schema) for kind in kinds)


def _alternatives(words: Iterable[str]) -> str:
    *first, last = dict.fromkeys(part for word in words for part in word.split(" or "))
    return f"{', '.join(first)} or {last}" if first else last


def _kind(kind: str, schema: Json) -> str:
    if kind == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict) and "properties" not in schema:
        return f"object of {type_of(schema['additionalProperties'])}"
    return {"integer": "whole number", "boolean": "true or false"}.get(kind, kind)


def rows(schema: Json, above: str = "") -> Iterator[Row]:
    """The fields of an object, and those of objects inside that have no name of their own."""
    for part in schema.get("allOf", ()):
        yield from rows(part, above)
    required = schema.get("required", ())
    for name, each in schema.get("properties", {}).items():
        yield Row(f"{above}{name}", type_of(each), name in required, about(each))
        yield from rows(_inside(each), f"{above}{name}{'[]' if 'items' in each else ''}.")


def _inside(schema: Json) -> Json:
    inside: Json = schema.get("items", schema)
    return inside


def about(schema: Json) -> str:
    """What it means, and what it may be."""
    said = [str(schema.get("description", ""))]
    if "minimum" in schema or "maximum" in schema:
        said.append(_range(schema))
    if "maxItems" in schema:
        said.append(f"At most {schema['maxItems']:,}.")
    if "default" in schema:
        said.append(f"Default: `{json.dumps(schema['default'], ensure_ascii=False)}`.")
    return " ".join(part for part in said if part)


def _range(schema: Json) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if most is None:
        return f"At least {least:,}."
    return f"{least:,} to {most:,}." if least is not None else f"At most {most:,}."


def marks(row: Row, asked: bool) -> str:
    """What else there is to know of a field: whether it has to be given, or whether it is always there."""
    if asked:
        return ", ".join(
            part for part in (row.where, "required" if row.required and row.where != "path" else "") if part
        )
    return "" if row.required else "not always"


def parameter_rows(operation: Json) -> list[Row]:
    return [
        Row(each["name"], type_of(each["schema"]), each["required"], _said(each), each["in"])
        for each in operation.get("parameters", ())
    ]


def _said(parameter: Json) -> str:
    return about({**parameter["schema"], "description": parameter["description"]})


def successes(operation: Json) -> list[tuple[str, Json]]:
    return [(status, answer) for status, answer in operation["responses"].items() if status < "400"]


def failures(operation: Json) -> list[tuple[str, list[str]]]:
    """Status, and the codes that it may have."""
    return [(status, _codes(answer)) for status, answer in operation["responses"].items() if status >= "400"]


def _codes(answer: Json) -> list[str]:
    found = content_of(answer)
    assert found is not None
    return [
        code
        for part in found[1]["schema"]["allOf"]
        for code in part.get("properties", {}).get("code", {}).get("enum", ())
    ]


def content_of(described: Json) -> tuple[str, Json] | None:
    """Of a body or an answer: its media type, and schema with example."""
    return next(iter(described.get("content", {}).items()), None)


def shown_headers(answer: Json) -> list[tuple[str, str]]:
    headers = answer.get("headers", {})
    return [(name, str(each["description"])) for name, each in headers.items() if name not in HIDDEN]


def curl(document: Json, chapter: Chapter, base_url: str) -> str:
    """A call that can be copied: words in capitals are for the reader to fill in."""
    operation, url = chapter.content, base_url + _target(chapter)
    lines = [f"curl {_method(chapter)}{shlex.quote(url)}"]
    if operation.get("security", True):
        lines.append(f"-H {_credential(document)}")
    if body := content_of(operation.get("requestBody", {})):
        media, content = body
        if media == "multipart/form-data":
            lines += [f"-F {shlex.quote(f'{name}={value}')}" for name, value in content["example"].items()]
        elif "example" in content:
            lines.append(f"-H {shlex.quote(f'Content-Type: {media}')}")
            lines.append(f"-d {shlex.quote(json.dumps(content['example'], ensure_ascii=False))}")
    return " \\\n  ".join(lines)


def _method(chapter: Chapter) -> str:
    return (
        "" if chapter.method == "GET" or (chapter.method == "POST" and _has_body(chapter)) else f"-X {chapter.method} "
    )


def _has_body(chapter: Chapter) -> bool:
    body = content_of(chapter.content.get("requestBody", {}))
    return body is not None and "example" in body[1]


def _target(chapter: Chapter) -> str:
    path, query = chapter.path, {}
    for parameter in chapter.content.get("parameters", ()):
        example = parameter.get("example")
        if parameter["in"] == "path" and example is not None:
            path = path.replace(f"{{{parameter['name']}}}", quote(str(example)))
        elif parameter["in"] == "query" and example is not None:
            query[parameter["name"]] = example
    return path + (f"?{urlencode(query, safe='/')}" if query else "")


def _credential(document: Json) -> str:
    scheme = next(iter(document["components"]["securitySchemes"].values()))
    return '"X-API-Key: $ATOLL_API_KEY"' if scheme["type"] == "apiKey" else '"Authorization: Bearer $TOKEN"'


def example_text(content: Json) -> str | None:
    if "example" not in content:
        return None
    example = content["example"]
    return example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
