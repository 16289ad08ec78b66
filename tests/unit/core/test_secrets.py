"""Secrets: what may be given, what is referred to, and what a policy does with them."""

from __future__ import annotations

import pytest

from atoll.core import secrets
from atoll.core.errors import CapacityExceeded, InvalidInput
from atoll.core.packet_policy import Divert, compile_policy
from atoll.core.policy import (
    Policy,
    Transform,
    fingerprint,
    from_wire,
    given_form,
    parse,
    referred,
    to_wire,
    with_secrets,
    without_secrets,
)
from atoll.core.secrets import MAX_HOSTS, MAX_SECRETS, MAX_USES, MAX_VALUE, SecretUse, SecretValue

WORD = secrets.new_placeholder()
KEY = SecretValue("key", "sk-value", ("api.example", "b.example"), (WORD,))
TOKEN = SecretValue("token", "tok-value")


def ruled(value: str, name: str = "api.example") -> dict:
    return {"rules": {name: [{"transform": {"headers": {"Authorization": value, "X": "1"}}}]}}


def policy(value: str, *values: SecretValue) -> Policy:
    return from_wire(with_secrets(to_wire(parse(ruled(value))), values))


# ---- what is given


@pytest.mark.parametrize("name", ["a", "A-b_9", "a.b", "x" * 128, "sec_x", "sec_" + "0" * 23])
def test_names(name):
    assert secrets.check_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 129, "a b", ".a", "..", "a/b", "ü", "a\n", "${x}", "sec_" + "0" * 24])
def test_what_is_no_name(name):
    with pytest.raises(InvalidInput):
        secrets.check_name(name)


@pytest.mark.parametrize("value", ["x", "a b\tc", "ünïcode €", "v" * MAX_VALUE, "${e2b.secrets.other}"])
def test_values(value):
    assert secrets.check_value(value) == value


@pytest.mark.parametrize(
    "value", ["", "a\r\nX-Evil: b", "a\nb", "a\0b", "\x7f", "\ud800", "v" * (MAX_VALUE + 1), "é" * 4097]
)
def test_what_cannot_stand_in_a_header_is_no_value_and_is_not_quoted(value):
    with pytest.raises(InvalidInput) as caught:
        secrets.check_value(value)
    assert not value or value not in caught.value.message


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_break_at_the_end_is_named_since_files_have_one(end):
    with pytest.raises(InvalidInput, match="line break"):
        secrets.check_value(f"sk-1{end}")


def test_hosts_are_names_and_patterns_in_their_normal_form():
    assert secrets.check_hosts(["API.Example.", "api.example", "bücher.example", "*.B.example"]) == (
        "api.example",
        "xn--bcher-kva.example",
        "*.b.example",
    )


@pytest.mark.parametrize(
    "host",
    [
        "",
        "*",
        "*.",
        "*.com",
        "*.COM.",
        "*.*.example",
        "a.*.example",
        "*a.example",
        "*.203.0.113.7",
        "a.example:443",
        "https://a.example",
        "203.0.113.7",
        "a b",
        "x" * 300,
    ],
)
def test_what_is_no_host(host):
    with pytest.raises(InvalidInput):
        secrets.check_hosts([host])


def test_there_are_limits():
    with pytest.raises(InvalidInput):
        secrets.check_hosts([f"h{n}.example" for n in range(MAX_HOSTS + 1)])
    with pytest.raises(InvalidInput):
        secrets.check_variables({f"V{n}": "key" for n in range(MAX_USES + 1)}, {})
    with pytest.raises(InvalidInput):
        secrets.check_description("x" * 1025)
    secrets.check_room(MAX_SECRETS - 1)
    with pytest.raises(CapacityExceeded) as caught:
        secrets.check_room(MAX_SECRETS)
    assert caught.value.details["resource"] == "secrets"


def test_the_rules_of_a_policy_refer_to_secrets_in_a_bounded_number_of_places():
    """One value can be long, and each place is filled with it."""
    full = {f"{n}.example": [{"transform": {"headers": {"X": "${e2b.secrets.a}" * (MAX_USES // 8)}}}] for n in range(8)}
    assert len(parse({"rules": full}).transforms) == 8
    with pytest.raises(InvalidInput, match=str(MAX_USES)):
        parse({"rules": full | {"9.example": [{"transform": {"headers": {"X": "${atoll.secrets.b}"}}}]}})


def test_a_variable_is_given_once():
    secrets.check_variables({"KEY": "key"}, {"OTHER": "x"})
    with pytest.raises(InvalidInput, match="KEY"):
        secrets.check_variables({"KEY": "key"}, {"KEY": "x"})
    with pytest.raises(InvalidInput):
        secrets.check_variables({"KEY": "no name"}, {})


def test_placeholders_are_words_of_their_own():
    made = {secrets.new_placeholder() for _ in range(100)}
    assert len(made) == 100
    assert all(secrets.PLACEHOLDER.fullmatch(word) for word in made)
    assert not secrets.is_id(WORD)
    assert secrets.is_id(secrets.new_id())


def test_values_do_not_show_when_they_are_printed():
    assert "sk-value" not in repr(KEY)
    made = policy("${e2b.secrets.key}", KEY)
    assert "sk-value" not in repr(made)
    assert "sk-value" not in repr(made.treatments)


def test_wire_forms_come_back():
    assert SecretValue.from_wire(KEY.to_wire()) == KEY
    use = SecretUse("API_KEY", "key", WORD)
    assert SecretUse.from_wire(use.to_wire()) == use


# ---- references


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("plain", ()),
        ("${e2b.secrets.a}", ("a",)),
        ("Bearer ${atoll.secrets.a}/${e2b.secrets.B-_9}/${e2b.secrets.a}", ("a", "B-_9")),
        ("$e2b.secrets.a ${ e2b.secrets.a} {e2b.secrets.a} ${other.secrets.a}", ()),
    ],
)
def test_references(text, names):
    secrets.check_references("x", text)
    assert secrets.references(text) == names


def test_what_a_value_says_is_not_looked_at_again():
    assert secrets.filled("${e2b.secrets.a}-${atoll.secrets.b}", {"a": "${e2b.secrets.b}", "b": "2"}) == (
        "${e2b.secrets.b}-2"
    )


def test_a_form_says_what_it_refers_to_and_where():
    form = given_form(
        parse({"rules": ruled("${e2b.secrets.a}")["rules"] | ruled("${e2b.secrets.a}", "b.example")["rules"]})
    )
    assert referred(form) == {"a": ("api.example", "b.example")}
    assert referred({}) == {}


# ---- in a policy


def test_a_rule_is_shown_as_given_and_done_with_the_value():
    made = policy("Bearer ${e2b.secrets.token}", TOKEN)
    assert given_form(made) == ruled("Bearer ${e2b.secrets.token}")
    assert (
        without_secrets(to_wire(parse(ruled("${e2b.secrets.token}"))))["rules"]
        == ruled("${e2b.secrets.token}")["rules"]
    )
    assert made.treatments == {
        "api.example": Transform("api.example", (("Authorization", "Bearer tok-value"), ("X", "1")))
    }


def test_a_secret_that_is_not_there_lets_no_request_go():
    assert policy("${e2b.secrets.token}").treatments["api.example"] == Transform("api.example", (), missing=("token",))


def test_a_secret_goes_to_its_own_hosts_only_by_a_rule_too():
    assert policy("${e2b.secrets.key}", KEY).treatments["api.example"].missing == ()
    elsewhere = from_wire(with_secrets(to_wire(parse(ruled("${e2b.secrets.key}", "c.example"))), [KEY]))
    assert elsewhere.treatments["c.example"].missing == ("key",)


def test_a_told_placeholder_is_the_names_and_the_organizations():
    key = bytes(32)
    told = secrets.told_placeholder(key, 1, "key")
    assert secrets.PLACEHOLDER.fullmatch(told)
    others = {
        secrets.told_placeholder(*each) for each in ((key, 1, "other"), (key, 2, "key"), (bytes(range(32)), 1, "key"))
    }
    assert told == secrets.told_placeholder(key, 1, "key")
    assert len(others - {told}) == 3


def test_placeholders_are_swapped_at_the_secrets_hosts_and_nowhere_else():
    made = policy("as given", KEY)
    assert made.treatments["api.example"].swaps == ((WORD, "sk-value"),)
    assert made.treatments["b.example"] == Transform("b.example", (), ((WORD, "sk-value"),))
    assert set(made.treatments) == {"api.example", "b.example"}


def test_a_pattern_is_for_the_names_below_it_at_any_depth_and_not_for_itself():
    wide = SecretValue("wide", "w-value", ("*.b.example",), ("atoll_secret_wide",))
    made = from_wire(with_secrets(to_wire(parse(ruled("Bearer ${e2b.secrets.wide}", "x.b.example"))), [KEY, wide]))
    swapped = {name: (found := made.treatment(name)) and found.swaps for name in ("a.b.example", "q.a.b.example")}
    assert swapped == dict.fromkeys(swapped, (("atoll_secret_wide", "w-value"),))
    assert made.treatment("x.b.example") == Transform(
        "x.b.example", (("Authorization", "Bearer w-value"), ("X", "1")), (("atoll_secret_wide", "w-value"),)
    )
    assert [word for word, _ in made.treatment("b.example").swaps] == [WORD]
    assert made.treatment("xb.example") is made.treatment("example") is None
    elsewhere = from_wire(with_secrets(to_wire(parse(ruled("${e2b.secrets.wide}", "b.example"))), [wide]))
    assert elsewhere.treatment("b.example").missing == ("wide",)


def test_a_secret_without_hosts_is_swapped_nowhere():
    bare = SecretValue("key", "sk-value", (), (WORD,))
    assert from_wire(with_secrets({}, [bare])).treatments == {}
    assert policy("${e2b.secrets.key}", bare).treatments["api.example"].swaps == ()


def test_names_of_secrets_are_read_like_those_of_rules():
    made = from_wire(with_secrets(to_wire(parse({})), [KEY]))
    assert made.reads_names
    assert compile_policy(made).divert is Divert.WEB
    assert compile_policy(from_wire(with_secrets({}, [TOKEN]))).divert is Divert.NONE


def test_the_wire_form_comes_back_with_the_same_fingerprint_whatever_the_order():
    one, other = (with_secrets(to_wire(parse(ruled("x"))), values) for values in ([KEY, TOKEN], [TOKEN, KEY]))
    assert one == other == to_wire(from_wire(one))
    assert fingerprint(one) == fingerprint(to_wire(from_wire(other)))
    newer = with_secrets(one, [KEY, SecretValue("token", "another")])
    assert fingerprint(newer) != fingerprint(one)


def test_a_caller_cannot_give_values_in_a_policy():
    assert parse({"secrets": [KEY.to_wire()]}).secrets == ()
