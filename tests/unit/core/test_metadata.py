"""Metadata: any text, within bounds."""

from __future__ import annotations

import pytest

from atoll.core.errors import InvalidInput
from atoll.core.metadata import MAX_NAME, MAX_PAIRS, MAX_TOTAL, MAX_VALUE, check_metadata


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"user": "ann", "empty": ""},
        {'a "quoted" name': "x=y&z", "ü": "日本", "a.b[0]": "%41"},
        {"n" * MAX_NAME: "v" * MAX_VALUE},
        {str(n): "" for n in range(MAX_PAIRS)},
    ],
)
def test_any_text_is_taken(given):
    assert check_metadata(given) == given


@pytest.mark.parametrize(
    "given",
    [
        {"": "x"},
        {"n" * (MAX_NAME + 1): "x"},
        {"ü" * (MAX_NAME // 2 + 1): "x"},
        {"x": "v" * (MAX_VALUE + 1)},
        {str(n): "" for n in range(MAX_PAIRS + 1)},
        {str(n): "v" * MAX_VALUE for n in range(MAX_TOTAL // MAX_VALUE)},
        {"x": "\ud800"},
        {"\udfff": "x"},
        {"x": "a\0b"},
    ],
)
def test_what_is_out_of_bounds_is_refused_with_the_fields_name(given):
    with pytest.raises(InvalidInput) as caught:
        check_metadata(given, "labels")
    assert caught.value.details == {"field": "labels"}
    assert "labels" in caught.value.message
