"""What an OpenAPI document promises, as checks of real requests and answers.

Documents leave objects open, so that clients take new fields; here every object is closed, so that a field that nobody
described is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from jsonschema import Draft202012Validator, FormatChecker

Schema = dict[str, Any]
METHODS = ("get", "put", "post", "patch", "delete")


FORMATS = FormatChecker(["ipv4"])


@FORMATS.checks("date-time", raises=ValueError)
def is_moment(value: object) -> bool:
    """With an offset: without one nobody knows when it is."""
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@FORMATS.checks("uri", raises=ValueError)
def is_address(value: object) -> bool:
    return not isinstance(value, str) or urlsplit(value).scheme in ("http", "https")


@dataclass(frozen=True)
class Described:
    id: str
    method: str
    path: str
    operation: dict[str, Any]


def operations(document: dict[str, Any]) -> dict[str, Described]:
    found = [
        Described(operation["operationId"], method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len({each.id for each in found}) == len(found)
    return {each.id: each for each in found}


def closed(document: dict[str, Any], schema: Schema) -> Schema:
    """With references in place, and nothing in an object that is not described."""
    if "$ref" in schema:
        return closed(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "allOf" in schema:
        parts = [closed(document, part) for part in schema["allOf"]]
        properties = {name: each for part in parts for name, each in part.get("properties", {}).items()}
        required = [name for part in parts for name in part.get("required", ())]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    shut = {name: value for name, value in schema.items() if name != "description"}
    if "anyOf" in shut:
        shut["anyOf"] = [closed(document, each) for each in shut["anyOf"]]
    if "items" in shut:
        shut["items"] = closed(document, shut["items"])
    if isinstance(shut.get("additionalProperties"), dict):
        shut["additionalProperties"] = closed(document, shut["additionalProperties"])
    if shut.get("properties"):
        shut["properties"] = {name: closed(document, each) for name, each in shut["properties"].items()}
        shut.setdefault("additionalProperties", False)
    return shut


def problems(document: dict[str, Any], schema: Schema, value: object) -> list[str]:
    validator = Draft202012Validator(closed(document, schema), format_checker=FORMATS)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def flaws(document: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a document by itself."""
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(closed(document, schema))
        assert name
    for each in operations(document).values():
        named = {part[1:-1] for part in each.path.split("/") if part.startswith("{")}
        given = {one["name"] for one in each.operation.get("parameters", ()) if one["in"] == "path"}
        if named != given:
            yield f"{each.id}: {named} in the path, {given} described"
        for place, content in _contents(each.operation):
            Draft202012Validator.check_schema(closed(document, content["schema"]))
            if "example" in content and place != "multipart/form-data":
                yield from (f"{each.id}, {place}: {what}" for what in _wrong_example(document, content))


def _wrong_example(document: dict[str, Any], content: dict[str, Any]) -> list[str]:
    return problems(document, content["schema"], content["example"])


def _contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from operation.get("requestBody", {}).get("content", {}).items()
    for answer in operation["responses"].values():
        yield from answer.get("content", {}).items()


@dataclass
class Driver:
    """Makes calls by their names, and compares what is sent and what comes with the document."""

    document: dict[str, Any]
    client: httpx.Client
    prefix: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    done: dict[str, set[int]] = field(default_factory=dict)

    def __call__(
        self,
        id: str,
        *names: object,
        query: dict[str, Any] | None = None,
        json: object = None,
        files: dict[str, Any] | None = None,
        data: dict[str, str] | None = None,
        **headers: str,
    ) -> httpx.Response:
        described = operations(self.document)[id]
        self._check_sent(described, query, json)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        path = _filled(described.path, names)
        sent = self.client.build_request(
            described.method,
            self.prefix + path,
            params=query,
            json=json,
            files=files,
            data=data,
            headers={**self.headers, **given},
        )
        answer = self.client.send(sent)
        self._check_answer(described, answer)
        self.done.setdefault(id, set()).add(answer.status_code)
        return answer

    def _check_sent(self, described: Described, query: dict[str, Any] | None, json: object) -> None:
        known = {each["name"] for each in described.operation.get("parameters", ()) if each["in"] == "query"}
        assert set(query or {}) <= known, described.id
        if json is not None:
            content = described.operation["requestBody"]["content"]["application/json"]
            assert problems(self.document, content["schema"], json) == [], described.id

    def _check_answer(self, described: Described, answer: httpx.Response) -> None:
        promised = described.operation["responses"].get(str(answer.status_code))
        assert promised is not None, (described.id, answer.status_code, answer.text)
        assert answer.headers["X-Request-ID"]
        for name in promised["headers"]:
            assert name in answer.headers, (described.id, name)
        (media, content), *_ = promised["content"].items()
        assert answer.headers["Content-Type"].partition(";")[0] == media, described.id
        if media == "application/json":
            wrong = self._problems(described, answer, content["schema"])
            assert wrong == [], (described.id, answer.text)

    def _problems(self, described: Described, answer: httpx.Response, schema: Schema) -> list[str]:
        return problems(self.document, schema, answer.json())


def _filled(path: str, names: tuple[object, ...]) -> str:
    rest = list(names)
    parts = [str(rest.pop(0)) if part.startswith("{") else part for part in path.split("/")]
    assert not rest, path
    return "/".join(parts)
