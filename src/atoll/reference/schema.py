"""JSON Schema as OpenAPI 3.1 has it, in few words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Schema = dict[str, Any]  # Any: JSON values


def text(about: str = "", **more: Any) -> Schema:
    return _typed("string", about, more)


def whole(about: str = "", **more: Any) -> Schema:
    return _typed("integer", about, more)


def number(about: str = "", **more: Any) -> Schema:
    return _typed("number", about, more)


def flag(about: str = "", **more: Any) -> Schema:
    return _typed("boolean", about, more)


def moment(about: str = "") -> Schema:
    return text(about, format="date-time")


def choice(values: Iterable[str], about: str = "", **more: Any) -> Schema:
    return text(about, enum=list(values), **more)


def items(of: Schema, about: str = "", **more: Any) -> Schema:
    return _typed("array", about, {"items": of, **more})


def mapping(values: Schema, about: str = "", **more: Any) -> Schema:
    """Any names, values of one kind."""
    return _typed("object", about, {"additionalProperties": values, **more})


def record(
    fields: Mapping[str, Schema], about: str = "", optional: Mapping[str, Schema] | None = None, **more: Any
) -> Schema:
    """`fields` are always there."""
    required = {"required": list(fields)} if fields else {}
    return _typed("object", about, {"properties": {**fields, **(optional or {})}, **required, **more})


def either(*schemas: Schema, about: str = "") -> Schema:
    return {"anyOf": list(schemas), **({"description": about} if about else {})}


def nullable(schema: Schema) -> Schema:
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return either({name: value for name, value in schema.items() if name != "description"}, {"type": "null"}) | (
        {"description": schema["description"]} if "description" in schema else {}
    )


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def joined(*schemas: Schema) -> Schema:
    """One object with the fields of all."""
    return {"allOf": list(schemas)}


ANYTHING: Schema = {}


def _typed(kind: str, about: str, more: Mapping[str, Any]) -> Schema:
    return {"type": kind, **({"description": about} if about else {}), **more}
