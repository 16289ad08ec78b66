import base64

import pytest

from atoll.control.paging import position
from atoll.core.errors import InvalidInput


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "ü",
        "!!!!",
        encoded("{}"),
        encoded("[1]"),
        encoded('["a", "b"]'),
        encoded('[NaN, "' + "a" * 20 + '"]'),
        encoded('[1.0, "\\ud800"]'),
        encoded('[1.0, "../../x"]'),
        encoded("[" * 100_000),
    ],
)
def test_a_cursor_that_was_not_given_out_is_invalid(cursor: str):
    with pytest.raises(InvalidInput):
        position(cursor)


def test_a_cursor_reads_back():
    assert position(encoded('[1.5, "' + "a" * 20 + '"]').rstrip("=")) == (1.5, "a" * 20)
