import pytest

from atoll.core.access import PREFIX, access_token, sandbox_of
from atoll.core.ids import new_sandbox_id

KEY = bytes(range(32))
ID = "abcdefghij0123456789"


def test_it_is_always_the_same_and_says_whose_it_is():
    assert access_token(KEY, ID) == access_token(KEY, ID)
    assert sandbox_of(KEY, access_token(KEY, ID)) == ID


def test_no_two_sandboxes_or_installations_share_one():
    tokens = {access_token(key, one) for key in (KEY, KEY[::-1]) for one in (ID, new_sandbox_id())}
    assert len(tokens) == 4


@pytest.mark.parametrize("at", range(len(access_token(KEY, ID))))
def test_one_letter_changed_opens_nothing(at: int):
    token = access_token(KEY, ID)
    other = "b" if token[at] != "b" else "c"
    assert sandbox_of(KEY, token[:at] + other + token[at + 1 :]) is None


@pytest.mark.parametrize(
    "text", ["", PREFIX, ID, f"{PREFIX}{ID}", f"{PREFIX}{ID}_", f"{ID}_{'0' * 64}", "ä" * 30, "a.b.c"]
)
def test_what_is_no_token_opens_nothing(text: str):
    assert sandbox_of(KEY, text) is None


def test_nor_does_what_another_key_made():
    assert sandbox_of(KEY, access_token(KEY[::-1], ID)) is None
