from __future__ import annotations

import time

import pytest

from atoll.core.names import is_name, matches, normal, parse_pattern


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("example.com", "example.com"),
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("localhost", "localhost"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("a-b.example", "a-b.example"),
        ("1.example", "1.example"),
        ("1e100.net", "1e100.net"),
        ("0x7f.example", "0x7f.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("example。com", "example.com"),
        ("ｅｘａｍｐｌｅ.com", "example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("\u212aelvin.example", "kelvin.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_the_normal_form(text, expected):
    assert normal(text) == expected
    assert normal(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "-a.b",
            "a-.b",
            "a b",
            "a\tb",
            "a\x00b",
            "a/b",
            "a:1",
            "a@b",
            "a%41",
            "*",
        ),
        *("*.a", "a" * 64, "a." * 126 + "ab", "ü" * 64, "[::1]", "::1", "fe80::1"),
        *(
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x",
            "a.0x7f",
            "a.1",
            "1.1.1.1.",
            "１２７.0.0.1",
            "0177.0.0.1",
        ),
        *("\ud800.a", "a\u200b\u200b..b", "a\n", "a.b\n", "example.com/", "ａ／b"),
    ],
)
def test_what_is_no_name(text):
    assert normal(text) is None


@pytest.mark.parametrize(
    "text", ["straße.example", "STRASSE\u1e9e.example", "\u03c2.example", "a\u200db.example", "a\u200cb.example"]
)
def test_letters_that_name_two_hosts_are_refused_the_encoded_form_says_which(text):
    assert normal(text) is None
    assert normal("xn--strae-oqa.example") == "xn--strae-oqa.example"


def test_a_name_has_at_most_253_letters():
    name = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(name) == 253
    assert normal(name) == name
    assert normal(name + ".") == name
    assert normal("a" + name) is None


def test_a_long_text_is_no_work():
    """Its normal form would be three seconds of it."""
    started = time.process_time()
    assert normal("ü." * 500_000) is None
    assert time.process_time() - started < 0.05


PATTERNS = ("example.com", "*.example.com", "*.com", "*", "other.example")
NAMES = {
    "example.com": {"example.com", "*.com", "*"},
    "www.example.com": {"*.example.com", "*.com", "*"},
    "a.b.example.com": {"*.example.com", "*.com", "*"},
    "notexample.com": {"*.com", "*"},
    "example.com.evil.net": {"*"},
    "com": {"*"},
    "other.example": {"other.example", "*"},
    "xother.example": {"*"},
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", NAMES)
def test_every_pattern_with_every_name(pattern, name):
    assert matches(pattern, name) == (pattern in NAMES[name])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", "*"),
        ("*.Example.com.", "*.example.com"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("example.com", "example.com"),
        ("*.*", None),
        ("**", None),
        ("*.", None),
        ("a.*", None),
        ("*a.b", None),
        ("*.1.1.1.1", None),
        ("1.1.1.1", None),
    ],
)
def test_a_pattern_is_a_name_or_what_is_below_one_or_everything(text, expected):
    assert parse_pattern(text) == expected


def test_a_name_in_capitals_is_not_in_its_normal_form():
    assert not is_name("Example.com")
