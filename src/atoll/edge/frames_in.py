"""What a sandbox sends, looked at with suspicion: frames, and getters that trust no type."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from atoll.wire import frames


class Frame(NamedTuple):
    type: str
    """`O`, `E`, or the `type` of a JSON frame."""
    payload: bytes
    value: dict[str, Any]

    @classmethod
    def of(cls, raw: frames.Frame) -> Frame:
        if raw.type != frames.JSON:
            return cls(raw.type.decode(), raw.payload, {})
        value = parse_json(raw.payload)
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):
            raise frames.FrameError("a JSON frame without a type")
        return cls(value["type"], b"", value)


def parse_json(raw: bytes) -> Any:
    """FrameError for what is not JSON, nests too deep (RecursionError is no ValueError) or has endless digits."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise frames.FrameError("not JSON") from error


def text(value: object, otherwise: str = "") -> str:
    return value if isinstance(value, str) else otherwise


def number(value: object, otherwise: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    try:
        return float(value) if math.isfinite(value) else otherwise
    except OverflowError:
        return otherwise


def whole(value: object, otherwise: int = 0) -> int:
    return int(number(value, otherwise))


def objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
