"""What a request's body asks for, checked: what does not fit is told field by field, as status 422. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from atoll.wire import json_in

from . import names
from .errors import Refused

Object = dict[str, Any]  # Any: JSON
Problem = dict[str, Any]


class Malformed(Exception):
    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("malformed")
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Execution:
    code: str
    context_id: str
    env: dict[str, str]
    language: str | None
    """Of the context, when it may have to be made first."""

    def to_wire(self) -> Object:
        wanted: Object = {"code": self.code, "env": self.env, "wait": True, "describe": True}
        if self.language is not None:
            wanted["make"] = {"language": self.language, "cwd": names.HOME, "user": "user", "env": {}}
        return wanted


@dataclass(frozen=True, slots=True)
class Making:
    language: str
    cwd: str


def execution(raw: bytes) -> Execution:
    """Malformed; Refused (400)."""
    body = parse(raw, {"code": _text, "context_id": _optional_text, "language": _optional_text, "env_vars": _env})
    context_id, language = body.get("context_id"), body.get("language")
    if context_id and language:
        raise Refused(400, "Only one of context_id or language can be provided")
    if not context_id:
        language = names.language_of(language)
        return Execution(body["code"], names.default_id(language), body.get("env_vars") or {}, language)
    return Execution(body["code"], context_id, body.get("env_vars") or {}, names.default_language(context_id))


def making(raw: bytes) -> Making:
    """Malformed."""
    body = parse(raw, {"language": _optional_text, "cwd": _optional_text})
    return Making(names.language_of(body.get("language")), names.directory_of(body.get("cwd")))


Check = Callable[[object], tuple[str, str] | None]
"""What is wrong with a value, as a name for programs and as words for people."""


def parse(raw: bytes, fields: dict[str, Check]) -> Object:
    body = _object(raw)
    problems = [
        _problem(kind, ("body", name), message)
        for name, check in fields.items()
        if (wrong := check(body.get(name, _ABSENT)))
        for kind, message in (wrong,)
    ]
    if problems:
        raise Malformed(problems)
    return body


_ABSENT = object()


def _object(raw: bytes) -> Object:
    if not raw.strip():
        raise Malformed([_problem("missing", ("body",), "Field required")])
    try:
        body = json_in.load(raw)
    except ValueError as error:
        raise Malformed([_problem("json_invalid", ("body",), "JSON decode error")]) from error
    if not isinstance(body, dict):
        raise Malformed([_problem("dict_type", ("body",), "Input should be a valid dictionary")])
    return body


def _problem(kind: str, place: tuple[str, ...], message: str) -> Problem:
    return {"type": kind, "loc": list(place), "msg": message}


def _text(value: object) -> tuple[str, str] | None:
    if value is _ABSENT:
        return "missing", "Field required"
    return None if isinstance(value, str) else ("string_type", "Input should be a valid string")


def _optional_text(value: object) -> tuple[str, str] | None:
    return None if value is None or value is _ABSENT else _text(value)


def _env(value: object) -> tuple[str, str] | None:
    if value is None or value is _ABSENT:
        return None
    if not isinstance(value, dict):
        return "dict_type", "Input should be a valid dictionary"
    if not all(isinstance(each, str) for each in value.values()):
        return "string_type", "Input should be a valid string"
    if any(not name or "=" in name or "\0" in name or "\0" in text for name, text in value.items()):
        return "value_error", "Names have a character, and neither = nor NUL; values have no NUL"
    return None
