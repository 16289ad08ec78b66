"""Names of languages and of contexts."""

from __future__ import annotations

import doctest
import re

import pytest

from atoll.edge.e2b.code import events, names, surface

AGENTS_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
LANGUAGES = ["python", "r", "javascript", "julia-1_9", "c++", "c#", "julia-1.9", "日本", "_x", "-", "x" * 500, "\ud800"]


@pytest.mark.parametrize("module", [names, events, surface])
def test_the_examples(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_an_id_that_the_agent_takes(language):
    context_id = names.default_id(language)
    assert AGENTS_ID.fullmatch(context_id)
    assert names.is_ours(context_id)
    assert names.default_language(context_id) in (language, None)


def test_no_two_languages_share_one():
    assert len({names.default_id(each) for each in LANGUAGES}) == len(LANGUAGES)


@pytest.mark.parametrize("language", ["python", "r", "julia-1_9"])
def test_a_plain_language_is_told_from_its_id(language):
    assert names.default_language(names.default_id(language)) == language


@pytest.mark.parametrize(
    "context_id", ["", "default", "default-", "default-_", "default-A", "x", "default-a/b", "a" * 36]
)
def test_ids_of_nobody(context_id):
    assert not names.is_ours(context_id)
