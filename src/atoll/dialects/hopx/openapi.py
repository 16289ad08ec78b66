"""What HopX's control plane takes and answers here, in words: the data of `/v1/openapi.json`, `/docs` and docs/rest.md.

Beside `parse.py` and `render.py`, which it describes; tests compare it with the routes, with the fields that `parse`
reads, and with real answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atoll import __version__
from atoll.control.egress_log import MAX_ENTRIES, MAX_WAIT_S
from atoll.control.paging import DEFAULT_LIMIT, MAX_LIMIT
from atoll.core import egress, ingress, policy, secrets
from atoll.core.errors import ErrorKind
from atoll.core.lifecycle import State
from atoll.core.metadata import MAX_PAIRS
from atoll.core.order import MAX_VARIABLES
from atoll.core.sandbox import InboundAuth
from atoll.dialects.errors import TABLE, Dialect
from atoll.reference.document import Content, Failure, Operation, Parameter, Surface
from atoll.reference.schema import (
    Schema,
    choice,
    either,
    flag,
    items,
    joined,
    mapping,
    moment,
    nullable,
    number,
    record,
    ref,
    text,
    whole,
)

_K = ErrorKind
SANDBOX_ID = "a1b2c3d4e5f6a7b8c9d0"
TEMPLATE = "code-interpreter"

ABOUT = """Makes sandboxes and looks after them. A sandbox that runs is used through the agent surface, which has a
reference of its own at `/docs/agent`.

Every call but those that say so needs an API key, as `X-API-Key: KEY` or `Authorization: Bearer KEY`. Bodies and
answers are JSON. Fields that are not described here are ignored, and `null` means that a field is absent.

Every answer has the header `X-Request-ID`. The log has the call under this id, and an error repeats it in its body.
Where the key has a limit of calls, the answer says how much is left: `X-RateLimit-Limit`, `X-RateLimit-Remaining` and
`X-RateLimit-Reset` (Unix seconds); a call beyond it is answered with 429 and `Retry-After`."""

WHAT: Mapping[ErrorKind, str] = {
    _K.INVALID_INPUT: "The request is wrong and stays wrong; the message says what, `details.field` where.",
    _K.AUTHENTICATION_FAILED: "No API key, or not a valid one.",
    _K.PERMISSION_DENIED: "A valid key, but not for this.",
    _K.NOT_FOUND: "There is no such thing, or it is somebody else's.",
    _K.CONFLICT: "The sandbox is in a state in which this cannot be done.",
    _K.CAPACITY_EXCEEDED: "The machine is full, a quota is used up, or a size is above its maximum.",
    _K.RATE_LIMITED: "Too many calls; `Retry-After` says when to try again.",
    _K.UNAVAILABLE: "A part of Atoll is not there right now. Nothing has happened; it is safe to try again.",
    _K.UNSUPPORTED: "This machine cannot do it, and the message says why.",
    _K.INTERNAL: "Our fault. The log has the cause under the request id.",
}

FAILURES = {
    kind.value: Failure(TABLE[kind][Dialect.HOPX].status, TABLE[kind][Dialect.HOPX].code, WHAT[kind]) for kind in _K
}

REQUEST_ID: Schema = text("Names this call in the logs.", pattern="^req_|^[A-Za-z0-9_.-]{1,64}$")
NAMED = record({"request_id": REQUEST_ID})


# ---- what is in force for a sandbox's network

NETWORK: dict[str, Schema] = {
    "allow_out": items(
        text(),
        "What may be reached: addresses, networks, names, `*.` wildcards. Allow beats deny.",
        maxItems=policy.MAX_ENTRIES,
    ),
    "deny_out": items(
        text(),
        "What may not: addresses and networks. `0.0.0.0/0`, or the word `ALL_TRAFFIC`, is everything.",
        maxItems=policy.MAX_ENTRIES,
    ),
    "rules": mapping(
        items(record({}, optional={"transform": record({}, optional={"headers": mapping(text())})})),
        "Headers that are set in requests to a name, outside the sandbox: name → list of one transform.",
        maxProperties=policy.MAX_RULE_DOMAINS,
    ),
    "egress_proxy": record(
        {"address": text("host:port")},
        "A SOCKS5 server that carries all TCP. `password` and `ca_cert` never come back.",
        optional={
            "username": text(),
            "password": text(writeOnly=True),
            "tls": record(
                {}, optional={"enabled": flag(), "server_name": nullable(text()), "ca_cert": text(writeOnly=True)}
            ),
        },
    ),
    "dns_servers": items(
        text(format="ipv4"),
        "What the sandbox's programs see as resolvers, and who is asked. Empty: nobody.",
        maxItems=policy.MAX_DNS_SERVERS,
    ),
    "dns": choice(policy.Dns, "`open`: with allowed names, every name is resolved.", default="auto"),
    "ech": choice(policy.Ech, "`refuse`: a TLS hello whose real name is encrypted goes nowhere.", default="outer"),
    "inspect": flag("Names are read on ports 80 and 443 although no list needs them, for the log.", default=False),
    "allow_public_traffic": flag(
        "`false`: whoever calls a program in it shows its traffic token, its sandbox token or an API key.",
        default=True,
    ),
    "mask_request_host": text("The Host that programs in the sandbox see; `${PORT}` is their port."),
    "https_ports": items(
        whole(minimum=1, maximum=ingress.LAST_PORT),
        "Ports whose programs speak TLS themselves.",
        maxItems=ingress.MAX_HTTPS_PORTS,
    ),
}
INTERNET: dict[str, Schema] = {
    "internet_access": nullable(flag("`false`: nothing goes out. The same as `deny_out` with everything.")),
    "allow_internet_access": nullable(flag("Another name for `internet_access`; `false` in either wins.")),
}


# ---- objects

RESOURCES = record({"vcpu": whole(), "memory_mb": whole("MiB."), "disk_gb": whole("GiB.")})
PORT = whole(minimum=1, maximum=ingress.LAST_PORT)

SANDBOX = record(
    {
        "id": text("20 letters and digits."),
        "object": text(const="sandbox"),
        "status": choice((state for state in State if state is not State.DELETED), "Whether it is executing."),
        "template_id": text("The template's name."),
        "template_name": text(),
        "organization_id": whole(),
        "node_id": text("The machine that it is on."),
        "region": text(),
        "public_host": text("Where its agent is reached, as HopX's clients expect it."),
        "direct_url": text("Where its agent is reached.", format="uri"),
        "preview_url": text("Where its web port is reached.", format="uri"),
        "inbound_auth": choice(InboundAuth, "Who may call programs that listen in it."),
        "web_port": nullable(whole("The port that its own host serves. `null`: 8000, else the only one that listens.")),
        "auto_resume": flag("Calls to its programs resume it when it is paused."),
        "resources": record({"vcpu": whole(), "memory_mb": whole("MiB."), "disk_mb": whole("MiB.")}),
        "internet_access": flag("Whether anything goes out at all."),
        "network": ref("Network"),
        "metadata": mapping(text(), "As it was given."),
        "secrets": mapping(text(), "Variables that stand for secrets, and the names of these."),
        "live_mode": flag(),
        "timeout_seconds": nullable(whole("As it was asked for last.")),
        "expires_at": nullable(moment("The earliest end that its clocks see as things stand. `null`: none.")),
        "created_at": moment(),
    },
    "A sandbox as the control plane knows it.",
)
TRAFFIC_TOKEN = record(
    {
        "traffic_access_token": nullable(
            text("What opens its ports, as the header `E2b-Traffic-Access-Token`. `null`: nothing closes them.")
        )
    }
)
TOKEN = record({"auth_token": text("A sandbox token: the key to its agent."), "token_expires_at": moment()})
TEMPLATE_RECORD = record(
    {
        "id": text("Its name."),
        "object": text(const="template"),
        "name": text(),
        "display_name": text(),
        "description": text(),
        "category": text(),
        "language": nullable(text()),
        "default_resources": ref("Resources"),
        "min_resources": ref("Resources"),
        "max_resources": ref("Resources"),
        "features": items(text()),
        "tags": items(text()),
        "organization_id": nullable(text()),
        "status": text(),
        "is_active": flag(),
        "is_public": flag(),
        "created_at": nullable(moment()),
        "updated_at": nullable(moment()),
    },
    "What a sandbox is made from.",
)
ERROR_FIELDS: dict[str, Schema] = {
    "message": text("What is wrong and what to do."),
    "code": text(),
    "request_id": REQUEST_ID,
    "details": record({}, "JSON values that belong to the kind of error; `field` names a part of the request."),
}
ERROR = record(
    {"error": record(ERROR_FIELDS), **ERROR_FIELDS},
    "The same facts twice, because clients look in either place.",
    optional={"retry_after": whole("Seconds; with `RATE_LIMIT_EXCEEDED`.")},
)
EGRESS_ENTRY = record(
    {
        "seq": whole("Its number in the log; `cursor` is that of the last."),
        "at": number("Unix seconds."),
        "sandbox_id": text(),
        "kind": choice(egress.Kind),
        "verdict": choice(egress.Outcome, "`failed`: allowed, and nobody answered there."),
        "rule": text("What decided: `default`, `allow_out: 1.1.1.0/24`, `deny_out: 0.0.0.0/0`, `never: …`, …"),
    },
    "One connection, request, question to the resolver, or event. What is empty is left out.",
    optional={
        "protocol": text("tcp, udp, icmp …"),
        "address": text(),
        "port": whole(),
        "name": text(),
        "name_from": choice(egress.NameSource),
        "bytes_out": whole(),
        "bytes_in": whole(),
        "duration_s": number(),
        "method": text(),
        "path": text("Without the query."),
        "detail": text(),
    },
)
EGRESS_TOTALS: dict[str, Schema] = {
    "connections": whole("Allowed ones that are over."),
    "failed": whole("Of these, those to which nobody answered."),
    "denied": whole("Connections, requests and questions that were refused."),
    "questions": whole("To the resolver."),
    "bytes_out": whole(),
    "bytes_in": whole(),
    "lost": whole("Entries that could not be written."),
    "by_rule": mapping(whole(), "Entries by what decided."),
}

SECRET = record(
    {
        "id": text(),
        "object": text(const="secret"),
        "name": text(),
        "version": whole("How many values it has had."),
        "hosts": items(text(), "The names it may go to. Empty: those of the header rules that refer to it."),
        "description": text(),
        "metadata": mapping(text()),
        "created_at": moment(),
        "updated_at": moment(),
    },
    "All that is ever told of a secret: its value never comes back.",
)
SECRET_OPTIONS: dict[str, Schema] = {
    "hosts": nullable(items(text(), "The names it may go to.", maxItems=secrets.MAX_HOSTS)),
    "description": nullable(text(maxLength=secrets.MAX_DESCRIPTION)),
    "metadata": nullable(mapping(text(), "Words of your own.", maxProperties=MAX_PAIRS)),
}
SECRET_VALUE = text("One line.", maxLength=secrets.MAX_VALUE, writeOnly=True)

SCHEMAS: dict[str, Schema] = {
    "Secret": SECRET,
    "Sandbox": SANDBOX,
    "Network": record({}, "What may go out and how programs are reached; defaults are left out.", optional=NETWORK),
    "Resources": RESOURCES,
    "Template": TEMPLATE_RECORD,
    "EgressEntry": EGRESS_ENTRY,
    "Error": ERROR,
}


# ---- examples

SANDBOX_EXAMPLE: dict[str, Any] = {
    "id": SANDBOX_ID,
    "object": "sandbox",
    "status": "running",
    "template_id": TEMPLATE,
    "template_name": TEMPLATE,
    "organization_id": 1,
    "node_id": "node-1",
    "region": "local",
    "public_host": f"http://127.0.0.1:8080/s/{SANDBOX_ID}",
    "direct_url": f"http://127.0.0.1:8080/s/{SANDBOX_ID}",
    "preview_url": f"http://127.0.0.1:8080/s/{SANDBOX_ID}/8000/",
    "inbound_auth": "token",
    "web_port": None,
    "auto_resume": False,
    "resources": {"vcpu": 2, "memory_mb": 2048, "disk_mb": 10240},
    "internet_access": True,
    "network": {},
    "metadata": {},
    "secrets": {},
    "live_mode": True,
    "timeout_seconds": 600,
    "expires_at": "2026-01-01T12:10:00.000000+00:00",
    "created_at": "2026-01-01T12:00:00.000000+00:00",
}
REQUEST_ID_EXAMPLE = "req_3f9c2a7b1e5d4c6a8b0f1d2e"


# ---- operations

SANDBOX_PATH = "/v1/sandboxes/{sandbox_id}"
SANDBOX_PARAMETER = Parameter("sandbox_id", "path", "The sandbox.", text(), example="SANDBOX_ID")
TEMPLATE_PARAMETER = Parameter("name", "path", "The template.", text(), example=TEMPLATE)
ONE = joined(ref("Sandbox"), TRAFFIC_TOKEN, NAMED)
SANDBOX_ANSWER = Content(ONE, about="The sandbox.")

CREATE_FIELDS: dict[str, Schema] = {
    "template_name": nullable(text("The template to make it from. This or `template_id` is required.")),
    "template_id": nullable(either(text(), whole(), about="The same: here a template's id is its name.")),
    "region": nullable(text("Where; there is one region at an installation of one machine.")),
    "timeout_seconds": nullable(whole("Delete it so many seconds from now. Absent: when nobody uses it for long.")),
    **INTERNET,
    "network": {**nullable(ref("Network")), "description": "What it may reach, and how its programs are reached."},
    "env_vars": nullable(mapping(text(), "Variables that all its programs see.", maxProperties=MAX_VARIABLES)),
    "metadata": nullable(
        mapping(text(), "Words of your own, to find it by; they mean nothing to Atoll.", maxProperties=MAX_PAIRS)
    ),
    "secrets": nullable(
        mapping(
            text(),
            "Variables that stand for secrets: name of the variable → name of the secret. Programs see a placeholder, "
            "which becomes the value in the headers of requests to the secret's hosts.",
            maxProperties=secrets.MAX_USES,
        )
    ),
    "inbound_auth": nullable(choice(InboundAuth, "Who may call programs that listen in it.", default="token")),
    "web_port": nullable({**PORT, "description": "What its own host serves."}),
    "auto_resume": nullable(flag("Calls to its programs resume it when it is paused.", default=False)),
    "vcpu": nullable(whole("Processors, within the template's range.")),
    "memory_mb": nullable(whole("MiB, within the template's range.")),
    "disk_gb": nullable(whole("GiB, within the template's range.")),
}
TIMEOUT_FIELDS: dict[str, Schema] = {
    "timeout_seconds": whole("Seconds from now. It replaces the one before."),
}
LINK_FIELDS: dict[str, Schema] = {
    "port": nullable({**PORT, "description": "Absent: what the sandbox's own host serves, or its web port."}),
    "seconds": nullable(
        whole(
            "How long it is good for.",
            minimum=ingress.MIN_LINK_S,
            maximum=ingress.MAX_LINK_S,
            default=ingress.LINK_S,
        )
    ),
}


CREATE_SECRET_FIELDS: dict[str, Schema] = {
    "name": text("Letters, digits, `-` and `_`.", maxLength=secrets.MAX_NAME),
    "value": SECRET_VALUE,
}
UPDATE_SECRET_FIELDS: dict[str, Schema] = {"value": nullable(SECRET_VALUE), **SECRET_OPTIONS}
SECRET_PARAMETER = Parameter("name", "path", "The secret.", text(), example="API_KEY")
SECRET_EXAMPLE: dict[str, Any] = {
    "id": "sec_0123456789abcdef01234567",
    "object": "secret",
    "name": "API_KEY",
    "version": 1,
    "hosts": ["api.example.com"],
    "description": "",
    "metadata": {},
    "created_at": "2026-01-01T12:00:00.000000+00:00",
    "updated_at": "2026-01-01T12:00:00.000000+00:00",
    "request_id": REQUEST_ID_EXAMPLE,
}
SECRET_ANSWER = Content(joined(ref("Secret"), NAMED), SECRET_EXAMPLE, "The secret.")


def _change(verb: str, summary: str, about: str, *errors: str) -> Operation:
    return Operation(
        "POST",
        f"{SANDBOX_PATH}/{verb}",
        f"{verb}Sandbox",
        "Sandboxes",
        summary,
        about,
        (SANDBOX_PARAMETER,),
        answers={200: SANDBOX_ANSWER},
        errors=("not_found", "conflict", "unavailable", *errors),
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST",
        "/v1/sandboxes",
        "createSandbox",
        "Sandboxes",
        "Make a sandbox",
        "Answers when its agent serves, most often within a tenth of a second.",
        body=Content(record({}, optional=CREATE_FIELDS), {"template_name": TEMPLATE, "timeout_seconds": 600}),
        answers={
            201: Content(
                joined(ref("Sandbox"), TRAFFIC_TOKEN, TOKEN, NAMED),
                {
                    **SANDBOX_EXAMPLE,
                    "traffic_access_token": None,
                    "auth_token": "eyJhbGciOiJIUzI1NiJ9…",
                    "token_expires_at": "2026-01-02T12:00:00.000000+00:00",
                    "request_id": REQUEST_ID_EXAMPLE,
                },
                "The sandbox, and the key to its agent.",
            )
        },
        errors=("invalid_input", "not_found", "capacity_exceeded", "unavailable", "unsupported"),
    ),
    Operation(
        "GET",
        "/v1/sandboxes",
        "listSandboxes",
        "Sandboxes",
        "List sandboxes",
        "Newest first. `next_cursor` of one answer is `cursor` of the next call.",
        (
            Parameter(
                "limit",
                "query",
                "How many at most; more than the maximum is taken for it.",
                whole(minimum=1, default=DEFAULT_LIMIT),
                example=10,
            ),
            Parameter("status", "query", "Only those in this state.", choice(State), example="running"),
            Parameter("region", "query", "Only those there.", text()),
            Parameter(
                "metadata",
                "query",
                "Only those with these words: `NAME=VALUE`, url-encoded, joined with `&`, the whole encoded again.",
                text(),
            ),
            Parameter("cursor", "query", "Where the page before ended.", text()),
        ),
        answers={
            200: Content(
                joined(
                    record(
                        {
                            "object": text(const="list"),
                            "data": items(ref("Sandbox"), maxItems=MAX_LIMIT),
                            "has_more": flag(),
                            "next_cursor": nullable(text()),
                            "url": text(),
                        }
                    ),
                    NAMED,
                ),
                about="One page.",
            )
        },
        errors=("invalid_input",),
    ),
    Operation(
        "GET",
        SANDBOX_PATH,
        "getSandbox",
        "Sandboxes",
        "Look at a sandbox",
        parameters=(SANDBOX_PARAMETER,),
        answers={200: SANDBOX_ANSWER},
        errors=("not_found",),
    ),
    Operation(
        "DELETE",
        SANDBOX_PATH,
        "deleteSandbox",
        "Sandboxes",
        "Delete a sandbox",
        "Its programs end and its disk is gone. One that is deleted already is not found.",
        (SANDBOX_PARAMETER,),
        answers={
            200: Content(
                joined(record({"id": text(), "object": text(const="sandbox"), "status": text(const="deleted")}), NAMED),
                {"id": SANDBOX_ID, "object": "sandbox", "status": "deleted", "request_id": REQUEST_ID_EXAMPLE},
                "It is gone.",
            )
        },
        errors=("not_found", "unavailable"),
    ),
    _change("pause", "Pause a sandbox", "All its processes are frozen and keep their memory."),
    _change("resume", "Resume a sandbox", "They go on where they were."),
    _change("stop", "Stop a sandbox", "Its processes end, its disk is kept."),
    _change("start", "Start a stopped sandbox", "With the disk that was kept, and new processes.", "capacity_exceeded"),
    Operation(
        "PUT",
        f"{SANDBOX_PATH}/timeout",
        "setTimeout",
        "Sandboxes",
        "Say when it is deleted",
        parameters=(SANDBOX_PARAMETER,),
        body=Content(record(TIMEOUT_FIELDS), {"timeout_seconds": 3600}),
        answers={200: SANDBOX_ANSWER},
        errors=("invalid_input", "not_found"),
    ),
    Operation(
        "POST",
        f"{SANDBOX_PATH}/token/refresh",
        "refreshToken",
        "Sandboxes",
        "Get another sandbox token",
        "The one before stays valid until it expires.",
        (SANDBOX_PARAMETER,),
        answers={
            200: Content(
                joined(TOKEN, NAMED),
                {
                    "auth_token": "eyJhbGciOiJIUzI1NiJ9…",
                    "token_expires_at": "2026-01-02T12:00:00.000000+00:00",
                    "request_id": REQUEST_ID_EXAMPLE,
                },
                "The token.",
            )
        },
        errors=("not_found",),
    ),
    Operation(
        "PUT",
        f"{SANDBOX_PATH}/network",
        "setNetwork",
        "Network",
        "Replace what a sandbox may reach",
        "Holds when the call returns; connections that are forbidden now are cut. A field about what goes out that is "
        "left out is cleared, `{}` removes every restriction. What is about the way in stays unless it is named.",
        (SANDBOX_PARAMETER,),
        Content(
            record({}, optional={**INTERNET, **{name: nullable(schema) for name, schema in NETWORK.items()}}),
            {"allow_out": ["pypi.org", "*.pythonhosted.org"], "deny_out": ["ALL_TRAFFIC"]},
        ),
        {200: SANDBOX_ANSWER},
        ("invalid_input", "not_found", "conflict", "unavailable"),
    ),
    Operation(
        "POST",
        f"{SANDBOX_PATH}/links",
        "makeLink",
        "Network",
        "Make a signed link to a port",
        "Whoever opens it in a browser reaches the program, without another key, until it expires.",
        (SANDBOX_PARAMETER,),
        Content(record({}, optional=LINK_FIELDS), {"port": 8000, "seconds": 3600}, required=False),
        {
            201: Content(
                joined(
                    record(
                        {
                            "url": text(format="uri"),
                            "port": nullable(whole("`null`: what the sandbox's own host finds.")),
                            "expires_at": moment(),
                        }
                    ),
                    NAMED,
                ),
                {
                    "url": f"http://127.0.0.1:8080/s/{SANDBOX_ID}/8000/?atoll_link=eyJ…",
                    "port": 8000,
                    "expires_at": "2026-01-01T13:00:00.000000+00:00",
                    "request_id": REQUEST_ID_EXAMPLE,
                },
                "The link.",
            )
        },
        ("invalid_input", "not_found"),
    ),
    Operation(
        "GET",
        f"{SANDBOX_PATH}/egress",
        "readEgressLog",
        "Network",
        "Read what a sandbox did with its way out",
        "Also of one that is gone, for some days.",
        (
            SANDBOX_PARAMETER,
            Parameter(
                "after", "query", "The `cursor` of an answer before; below 0: the last so many.", whole(default=0)
            ),
            Parameter(
                "limit", "query", "How many entries at most.", whole(minimum=1, maximum=MAX_ENTRIES, default=100)
            ),
            Parameter(
                "wait",
                "query",
                "Seconds to wait while there is nothing new.",
                number(minimum=0, maximum=MAX_WAIT_S, default=0),
            ),
        ),
        answers={
            200: Content(
                joined(record({"entries": items(ref("EgressEntry")), "cursor": whole()}), NAMED),
                {
                    "entries": [
                        {
                            "seq": 412,
                            "at": 1767268800.25,
                            "sandbox_id": SANDBOX_ID,
                            "kind": "connection",
                            "verdict": "allowed",
                            "rule": "default",
                            "protocol": "tcp",
                            "address": "198.51.100.7",
                            "port": 443,
                            "bytes_out": 612,
                            "bytes_in": 20480,
                            "duration_s": 0.31,
                        }
                    ],
                    "cursor": 412,
                    "request_id": REQUEST_ID_EXAMPLE,
                },
                "Entries, oldest first.",
            )
        },
        errors=("invalid_input", "not_found", "unavailable"),
    ),
    Operation(
        "GET",
        f"{SANDBOX_PATH}/egress/totals",
        "readEgressTotals",
        "Network",
        "Count what a sandbox did with its way out",
        parameters=(SANDBOX_PARAMETER,),
        answers={200: Content(joined(record({}, optional=EGRESS_TOTALS), NAMED), about="Counters.")},
        errors=("not_found", "unavailable"),
    ),
    Operation(
        "POST",
        "/v1/secrets",
        "createSecret",
        "Secrets",
        "Keep a secret",
        body=Content(
            record(CREATE_SECRET_FIELDS, optional=SECRET_OPTIONS),
            {"name": "API_KEY", "value": "sk-0123", "hosts": ["api.example.com"]},
        ),
        answers={201: SECRET_ANSWER},
        errors=("invalid_input", "conflict", "capacity_exceeded"),
    ),
    Operation(
        "GET",
        "/v1/secrets",
        "listSecrets",
        "Secrets",
        "List secrets",
        "Without their values. `next_cursor` of one answer is `cursor` of the next call.",
        (
            Parameter("limit", "query", "How many at most.", whole(minimum=1, default=DEFAULT_LIMIT), example=10),
            Parameter("cursor", "query", "Where the page before ended.", text()),
        ),
        answers={
            200: Content(
                joined(
                    record(
                        {
                            "object": text(const="list"),
                            "data": items(ref("Secret")),
                            "has_more": flag(),
                            "next_cursor": nullable(text()),
                            "url": text(),
                        }
                    ),
                    NAMED,
                ),
                about="One page.",
            )
        },
        errors=("invalid_input",),
    ),
    Operation(
        "GET",
        "/v1/secrets/{name}",
        "getSecret",
        "Secrets",
        "Look at a secret",
        "Without its value.",
        (SECRET_PARAMETER,),
        answers={200: SECRET_ANSWER},
        errors=("not_found",),
    ),
    Operation(
        "PUT",
        "/v1/secrets/{name}",
        "updateSecret",
        "Secrets",
        "Change a secret",
        "What is left out stays. A new value is used by the next request of every sandbox that may use it.",
        (SECRET_PARAMETER,),
        Content(record({}, optional=UPDATE_SECRET_FIELDS), {"value": "sk-4567"}),
        {200: SECRET_ANSWER},
        ("invalid_input", "not_found"),
    ),
    Operation(
        "DELETE",
        "/v1/secrets/{name}",
        "deleteSecret",
        "Secrets",
        "Delete a secret",
        parameters=(SECRET_PARAMETER,),
        answers={
            200: Content(
                joined(
                    record({"id": text(), "object": text(const="secret"), "name": text(), "deleted": flag()}), NAMED
                ),
                about="It is gone.",
            )
        },
        errors=("not_found",),
    ),
    Operation(
        "GET",
        "/v1/templates",
        "listTemplates",
        "Templates",
        "List templates",
        parameters=(
            Parameter("category", "query", "Only those of it.", text()),
            Parameter("language", "query", "Only those for it.", text(), example="python"),
        ),
        answers={
            200: Content(
                joined(record({"object": text(const="list"), "data": items(ref("Template"))}), NAMED), about="All."
            )
        },
        errors=("unavailable",),
    ),
    Operation(
        "GET",
        "/v1/templates/{name}",
        "getTemplate",
        "Templates",
        "Look at a template",
        parameters=(TEMPLATE_PARAMETER,),
        answers={200: Content(joined(ref("Template"), NAMED), about="The template.")},
        errors=("not_found", "unavailable"),
    ),
    Operation(
        "DELETE",
        "/v1/templates/{name}",
        "deleteTemplate",
        "Templates",
        "Delete a template",
        "The templates that an installation builds itself cannot be deleted.",
        (TEMPLATE_PARAMETER,),
        errors=("not_found", "permission_denied", "unavailable"),
    ),
    Operation(
        "GET",
        "/health",
        "health",
        "Installation",
        "Ask whether it serves",
        answers={
            200: Content(
                joined(
                    record(
                        {
                            "status": text(const="ok"),
                            "version": text(),
                            "ready": flag("Whether sandboxes can be made."),
                        }
                    ),
                    NAMED,
                ),
                {"status": "ok", "version": __version__, "ready": True, "request_id": REQUEST_ID_EXAMPLE},
                "It does.",
            )
        },
        public=True,
    ),
    Operation(
        "GET",
        "/v1/metrics",
        "metrics",
        "Installation",
        "Outbound traffic of all sandboxes, for Prometheus",
        "Give Prometheus an API key as its bearer token.",
        answers={200: Content(text(), "atoll_egress_connections_total 42\n", "Counters.", media="text/plain")},
        errors=("unavailable",),
    ),
    Operation(
        "GET",
        "/v1/openapi.json",
        "openapi",
        "Installation",
        "This description",
        "OpenAPI 3.1. That of the agent surface is at `/v1/agent.openapi.json`.",
        answers={200: Content(record({}), about="The document.")},
        public=True,
    ),
    Operation(
        "GET",
        "/docs",
        "docs",
        "Installation",
        "This reference as a page",
        answers={200: Content(text(), about="The page.", media="text/html")},
        public=True,
    ),
)

SURFACE = Surface(
    title="Atoll: control plane",
    version=__version__,
    about=ABOUT,
    servers=({"url": "/"},),
    tags={
        "Sandboxes": "Making, finding, pausing and deleting them.",
        "Network": "What a sandbox may reach, how its programs are reached, and what it did with its way out.",
        "Secrets": "Values that only requests on their way out hold: header rules and variables refer to them by name.",
        "Templates": "What sandboxes are made from.",
        "Installation": "About the installation as a whole.",
    },
    operations=OPERATIONS,
    schemas=SCHEMAS,
    security={
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "Bearer": {"type": "http", "scheme": "bearer", "description": "The API key as a bearer token."},
    },
    failures=FAILURES,
    everywhere=("internal",),
    credentials=("authentication_failed", "rate_limited"),
)
