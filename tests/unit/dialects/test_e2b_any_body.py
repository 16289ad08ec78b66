"""Whatever stands in a body or a query, E2B's API answers with its own errors and never fails by itself."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.errors import AtollError
from atoll.dialects.e2b import names, novita_parse, novita_render, parse
from e2b_wire import three_times

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.just("${PORT}")
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
PROXY = st.fixed_dictionaries({}, optional=dict.fromkeys(("address", "username", "password", "tls"), VALUES))
NETWORK = st.fixed_dictionaries(
    {}, optional={**dict.fromkeys((*parse.EGRESS, *parse.INGRESS), VALUES), "egressProxy": VALUES | PROXY}
)
FIELDS = ("timeout", "autoPause", "autoPauseMemory", "autoResume", "secure", "allow_internet_access", "metadata")
MORE = ("envVars", "iam", "volumeMounts", "mcp", "memory", "duration", "name", "value")
NOVITAS = ("secrets", "nodeID", "allowPublicTraffic", "resume", "hosts", "description", "quotaSizeGiB", "quotaInodes")
BODY = st.fixed_dictionaries(
    {},
    optional={
        "templateID": st.just("base") | VALUES,
        "network": NETWORK | VALUES,
        **dict.fromkeys((*FIELDS, *MORE, *NOVITAS), VALUES),
    },
)
PARSERS = {
    "create": lambda raw: parse.creation(raw, 2),
    "create v1": lambda raw: parse.creation(raw, 1),
    "connect": lambda raw: parse.connection(raw, 2),
    "resume": parse.resumption,
    "pause": parse.keeps_memory,
    "timeout": parse.timeout_s,
    "refresh": parse.refresh_s,
    "network": parse.network,
    "secret": lambda raw: parse.body(parse.SecretBody, raw),
    "json": parse.json_of,
    "novita create": novita_parse.creation,
    "novita connect": lambda raw: novita_parse.network_choice(parse.body(novita_parse.ConnectBody, raw)),
    "novita reset": lambda raw: novita_parse.network_choice(parse.body(novita_parse.ResetBody, raw)),
    "novita secret": lambda raw: parse.body(novita_parse.SecretChangeBody, raw).new_description,
    "novita volume": lambda raw: parse.body(novita_parse.NovitaVolumeBody, raw).size_mib,
}


@pytest.mark.parametrize("parser", PARSERS)
@settings(max_examples=30, deadline=None)
@given(body=BODY | VALUES)
def test_any_json_is_read_or_refused(parser: str, body: Any):
    _try(lambda: PARSERS[parser](json.dumps(body).encode()))


@pytest.mark.parametrize("parser", PARSERS)
@settings(max_examples=30, deadline=None)
@given(raw=st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(parser: str, raw: bytes):
    _try(lambda: PARSERS[parser](raw))


QUERIES = ("metadata", "state", "limit", "nextToken", "order", "startedAfter", "template", "cursor", "start", "end")
NOVITAS_QUERIES = (
    "startTime",
    "endTime",
    "sandboxID",
    "events",
    "state",
    "orderAsc",
    "offset",
    "page",
    "template_type",
)
QUERY = st.dictionaries(
    st.sampled_from((*QUERIES, "level", "direction", "sandbox_ids", *NOVITAS_QUERIES)), st.text(max_size=20)
)


@settings(max_examples=100, deadline=None)
@given(query=QUERY)
def test_any_query_is_read_or_refused(query: dict[str, str]):
    for read in (parse.listing, parse.running, parse.log_query, parse.seconds_range, parse.sandbox_ids):
        _try(lambda read=read: read(query))
    _try(lambda: novita_parse.template_page(query))
    _try(lambda: novita_parse.events(query, [query.get("events", "")], novita_render.EVENT_NAMES, 1e9))


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=40) | st.from_regex(r"[a-z]{1,3}/?[a-z:]{0,4}", fullmatch=True))
def test_any_name_is_read_or_refused(text: str):
    _try(lambda: names.parse_reference(text))


@settings(max_examples=100, deadline=None)
@given(pairs=st.dictionaries(st.text(min_size=1, max_size=6), st.text(max_size=6), max_size=3))
def test_any_metadata_comes_through_its_layers(pairs: dict[str, str]):
    (arrived,) = parse_qs(urlencode({"metadata": three_times(pairs)}), keep_blank_values=True)["metadata"]
    assert parse.metadata(arrived) == pairs


def _try(read: Any) -> None:  # Any: a parser with its input
    with contextlib.suppress(AtollError):
        read()
