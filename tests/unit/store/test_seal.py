from __future__ import annotations

import pytest

from atoll.core.errors import InternalError
from atoll.store.seal import Seal

KEY, OTHER = bytes(32), bytes(range(32))
VALUES = {"egress_proxy": {"address": "a:1", "password": "s3cret"}}


def test_what_was_sealed_opens_for_its_row() -> None:
    sealed = Seal(KEY).close(VALUES, "a")
    assert "s3cret" not in sealed
    assert Seal(KEY).open(sealed, "a") == VALUES


def test_nothing_is_not_sealed() -> None:
    assert Seal(KEY).close({}, "a") == ""
    assert Seal(KEY).open("", "a") == {}


def test_the_same_sealed_twice_looks_different() -> None:
    assert Seal(KEY).close(VALUES, "a") != Seal(KEY).close(VALUES, "a")


@pytest.mark.parametrize(
    ("key", "row", "damage"),
    [(OTHER, "a", ""), (KEY, "b", ""), (KEY, "a", "x"), (KEY, "a", "v2")],
    ids=["another key", "another row", "damaged", "another form"],
)
def test_it_opens_nowhere_else_and_the_error_says_what_to_restore(key: bytes, row: str, damage: str) -> None:
    sealed = Seal(KEY).close(VALUES, "a")
    if damage == "x":
        sealed = sealed[:-6] + ("AAAAA=" if not sealed.endswith("AAAAA=") else "BBBBB=")
    elif damage:
        sealed = sealed.replace("v1", damage, 1)
    with pytest.raises(InternalError, match=r"seal\.key"):
        Seal(key).open(sealed, row)
