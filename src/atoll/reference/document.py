"""A REST surface as data, and the OpenAPI 3.1 document that says it. Pure.

Each dialect has its operations beside its parsers; what an error looks like comes from the dialect's own table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .schema import Schema, joined, ref, text

JSON = "application/json"
REQUEST_ID = {"X-Request-ID": {"description": "Names this call in the logs.", "schema": text()}}


@dataclass(frozen=True)
class Parameter:
    name: str
    where: str
    """path, query or header."""
    about: str
    schema: Schema
    required: bool = False
    example: str | int | None = None


@dataclass(frozen=True)
class Content:
    """Of a request or of an answer."""

    schema: Schema
    example: Any = None  # Any: JSON values
    about: str = ""
    media: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    """Name → what it says."""
    required: bool = True
    """A request without a body is refused."""


@dataclass(frozen=True)
class Failure:
    """A row of a dialect's table of errors."""

    status: int
    code: str
    about: str


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    id: str
    tag: str
    summary: str
    about: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Content | None = None
    answers: Mapping[int, Content] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    """Kinds, beside those that every operation has."""
    public: bool = False
    """Without a key or token."""


@dataclass(frozen=True)
class Surface:
    title: str
    version: str
    about: str
    servers: Sequence[Mapping[str, Any]]
    tags: Mapping[str, str]
    """Name → what belongs to it, in the order of the reference."""
    operations: Sequence[Operation]
    schemas: Mapping[str, Schema]
    """Among them `Error`."""
    security: Mapping[str, Mapping[str, str]]
    failures: Mapping[str, Failure]
    everywhere: tuple[str, ...] = ()
    """Kinds of errors that every operation can have; those of credentials only where there are some."""
    credentials: tuple[str, ...] = ()


def openapi(surface: Surface) -> dict[str, Any]:
    """The whole document, as JSON values."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in surface.operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(surface, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": surface.title,
            "version": surface.version,
            "description": surface.about,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": list(surface.servers),
        "security": [{name: []} for name in surface.security],
        "tags": [{"name": name, "description": about} for name, about in surface.tags.items()],
        "paths": paths,
        "components": {"securitySchemes": dict(surface.security), "schemas": dict(surface.schemas)},
        "x-errors": [asdict(failure) for failure in surface.failures.values()],
    }


def _operation(surface: Surface, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    if operation.about:
        described["description"] = operation.about
    if operation.public:
        described["security"] = []
    if operation.parameters:
        described["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.body is not None:
        about = {"description": operation.body.about} if operation.body.about else {}
        described["requestBody"] = {**about, "required": operation.body.required, "content": _content(operation.body)}
    answers = {str(status): _answer(content) for status, content in operation.answers.items()}
    described["responses"] = {**answers, **_failures(surface, operation)}
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described = {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.about,
        "required": parameter.required or parameter.where == "path",
        "schema": parameter.schema,
    }
    return described if parameter.example is None else {**described, "example": parameter.example}


def _content(content: Content) -> dict[str, Any]:
    example = {} if content.example is None else {"example": content.example}
    return {content.media: {"schema": content.schema, **example}}


def _answer(content: Content) -> dict[str, Any]:
    headers = {name: {"description": about, "schema": text()} for name, about in content.headers.items()}
    body = {} if content.media == "" else {"content": _content(content)}
    return {"description": content.about or "Done.", "headers": {**REQUEST_ID, **headers}, **body}


def _failures(surface: Surface, operation: Operation) -> dict[str, Any]:
    """One answer for each status, which says the codes that it may have."""
    kinds = dict.fromkeys((*operation.errors, *(() if operation.public else surface.credentials), *surface.everywhere))
    by_status: dict[int, list[Failure]] = {}
    for kind in kinds:
        failure = surface.failures[kind]
        by_status.setdefault(failure.status, []).append(failure)
    return {str(status): _failure(failures) for status, failures in sorted(by_status.items())}


def _failure(failures: Sequence[Failure]) -> dict[str, Any]:
    codes = {"type": "object", "properties": {"code": {"enum": [each.code for each in failures]}}}
    return {
        "description": " ".join(f"`{each.code}`: {each.about}" for each in failures),
        "headers": REQUEST_ID,
        "content": {JSON: {"schema": joined(ref("Error"), codes)}},
    }
