"""What a sandbox sends, looked at with suspicion: frames, and getters that trust no type."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from atoll.wire import frames, json_in
from atoll.wire.json_values import mapping, number, objects, text, texts

__all__ = ["Frame", "mapping", "number", "objects", "parse_json", "text", "texts", "whole"]


class Frame(NamedTuple):
    type: str
    """`O`, `E`, or the `type` of a JSON frame."""
    payload: bytes
    value: dict[str, Any]

    @classmethod
    def of(cls, raw: frames.Frame) -> Frame:
        if raw.type != frames.JSON:
            return cls(raw.type.decode(), raw.payload, {})
        try:
            value = json_in.load(raw.payload)  # others wait while it is read
        except ValueError as error:
            raise frames.FrameError(str(error)) from error
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):
            raise frames.FrameError("a JSON frame without a type")
        return cls(value["type"], b"", value)


def parse_json(raw: bytes) -> Any:
    """FrameError for what is not JSON, nests too deep (RecursionError is no ValueError) or has endless digits."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise frames.FrameError("not JSON") from error


def whole(value: object, otherwise: int = 0) -> int:
    return int(number(value, otherwise))
