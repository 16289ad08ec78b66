import pytest

from atoll.core.keys import digest, digits_of, displayed, new_digits, printed

DIGITS = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("prefix", ["e2b_", "hopx_live_", "hopx_test_"])
def test_the_same_digits_after_each_prefix_are_the_same_key(prefix: str):
    assert digits_of(prefix + DIGITS) == DIGITS


@pytest.mark.parametrize(
    "text",
    [
        "",
        DIGITS,
        "e2b_",
        "e2b_" + DIGITS[1:],
        "e2b_" + DIGITS + "0",
        "e2b_" + DIGITS.upper(),
        "sk_" + DIGITS,
        "e2b_" + DIGITS + "\n",
        "\ud800",
    ],
)
def test_anything_else_is_no_key(text: str):
    assert digits_of(text) is None


def test_a_new_key_reads_back_and_its_display_hides_it():
    digits = new_digits()
    assert digits_of(printed(digits)) == digits
    assert displayed(digits).startswith("e2b_" + digits[:6])
    assert digits[:10] not in displayed(digits)
    assert len(digest(digits)) == 64
