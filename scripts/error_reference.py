"""The tables of docs/errors.md: what the code knows of each error, and what it means to its reader, which only people
can say. A kind without its words is an error.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.core.errors import ErrorKind
from atoll.dialects import errors as control
from atoll.dialects.e2b import errors as e2b_table
from atoll.edge import pages as ports
from atoll.edge.e2b import errors as envd_table
from atoll.edge.hopx import errors as agent
from atoll.sdk._core import errors as sdk_errors
from scripts.tables import table

Words = tuple[str, str]
"""What it means, and what to do."""

_K = ErrorKind
KINDS: dict[ErrorKind, Words] = {
    _K.INVALID_INPUT: ("The request is wrong and stays wrong.", "Read the message; `details.field` names the field."),
    _K.AUTHENTICATION_FAILED: (
        "No key, or one that is not valid or revoked.",
        "Send `X-API-Key`. `atoll keys list` shows the keys, `atoll keys create NAME` makes one.",
    ),
    _K.PERMISSION_DENIED: ("The key is valid, but not for this.", "The stock templates, for one, cannot be deleted."),
    _K.NOT_FOUND: (
        "There is no such sandbox, template, key, secret or path. A sandbox whose time is over is gone too.",
        "Make a new one; a longer `timeout_seconds` keeps it longer.",
    ),
    _K.CONFLICT: (
        "The request is fine, the state is not: a stopped sandbox cannot be paused.",
        "Look at `status` first.",
    ),
    _K.CAPACITY_EXCEEDED: (
        "No room. `details.cause`: `host_full`, the key's `quota`, or a `size` above the template's maximum.",
        "End sandboxes, ask for less, or let the operator raise it (`atoll keys limit`). Repeating does not help.",
    ),
    _K.RATE_LIMITED: (
        "Too many calls of this key.",
        "Wait as long as `Retry-After` says. Clients do so by themselves.",
    ),
    _K.UNAVAILABLE: (
        "A part of Atoll is not there at this moment. Nothing was done.",
        "Try again; clients do so by themselves. If it stays: `atoll doctor`, and the output of `atoll up`.",
    ),
    _K.UNSUPPORTED: ("This host or engine cannot do it; the message says why.", "Repeating does not help."),
    _K.INTERNAL: (
        "A fault of Atoll's.",
        "Its cause is in the output of `atoll up`, under the `request_id` of the answer. Please report it.",
    ),
}

_A = agent.Kind
AGENT_KINDS: dict[agent.Kind, Words] = {
    _A.INVALID_REQUEST: ("A field has a wrong type or value.", "The message names it."),
    _A.INVALID_JSON: ("The body is not a JSON object.", "Send one."),
    _A.MISSING_PARAMETER: ("A field or query parameter is missing.", "The message names it."),
    _A.FORBIDDEN: ("The sandbox's own policy forbids it: a call-back from one without internet.", "Change the policy."),
    _A.INVALID_TOKEN: ("No credential for this sandbox, or a wrong one.", "Send its token or an API key."),
    _A.TOKEN_EXPIRED: ("The sandbox's token has run out.", "Ask for a new one (`refresh_token`) or send an API key."),
    _A.NO_SUCH_ROUTE: ("Nothing answers at this path.", "See the REST reference."),
    _A.METHOD_NOT_ALLOWED: ("The path is right, the method is not.", "The message says which ones are."),
    _A.UPGRADE_REQUIRED: ("The path is a WebSocket.", "Connect to it as one."),
    _A.BODY_TOO_LARGE: ("The body is above the limit of this path.", "Use `/files/upload`, which streams."),
    _A.SANDBOX_NOT_FOUND: ("There is no such sandbox, or no longer.", "Make a new one."),
    _A.SANDBOX_PAUSED: ("It is paused.", "Resume it."),
    _A.SANDBOX_STOPPED: ("It is stopped, or its processes have ended.", "Start it."),
    _A.FILE_NOT_FOUND: ("There is no such file or directory.", "Paths are absolute, or below `/workspace`."),
    _A.FILE_EXISTS: ("Something is there already.", "Choose another name, or remove it."),
    _A.FILE_TOO_LARGE: ("Larger than what is read in one piece.", "Download it instead."),
    _A.INVALID_PATH: ("Not a path for this: a directory where a file is meant, or the other way round.", "Check it."),
    _A.PATH_NOT_ALLOWED: (
        "The user inside may not do this there.",
        "Choose another place, or change its owner with `sudo`.",
    ),
    _A.DISK_FULL: ("The sandbox's disk is full.", "Remove files, or create with a larger `disk_gb`."),
    _A.PROCESS_NOT_FOUND: ("No such process, or not yours to end.", "`list_processes` shows them."),
    _A.BUSY: ("Another operation has to end first.", "Try again when it has."),
    _A.TOO_MANY: (
        "Too many calls, streams or processes at once.",
        "Wait for `Retry-After`, and do less at the same time.",
    ),
    _A.DESKTOP_NOT_AVAILABLE: ("The template has no desktop.", "None has one yet."),
    _A.UNSUPPORTED: ("This sandbox cannot do it; the message says why.", "Repeating does not help."),
    _A.AGENT_SILENT: (
        "The sandbox did not answer in time.",
        "It may be busy or out of memory. `stop` and `start` give it a new life.",
    ),
    _A.AGENT_FAILED: (
        "What answers inside the sandbox is broken, often by what ran there (`kill -9 -1`).",
        "`stop` and `start` it; its disk is kept.",
    ),
    _A.UNAVAILABLE: ("A part of Atoll is not there at this moment.", "Try again; clients do so by themselves."),
    _A.INTERNAL: ("A fault of Atoll's.", "Its cause is in the output of `atoll up`, under the `request_id`."),
}

_F = ports.Failure
PORT_FAILURES: dict[ports.Failure, Words] = {
    _F.PORT_CLOSED: (
        "Nothing listens on this port.",
        "Start the program, or wait for it. The page looks again by itself.",
    ),
    _F.NO_WEB_PORT: ("No port was named, and none or several listen.", "Name one, or create with `web_port`."),
    _F.NO_SUCH_PORT: ("Not a port: they go from 1 to 65535.", "Check the URL."),
    _F.BAD_REQUEST: ("The request is malformed, or could be read in two ways.", "Send strict HTTP."),
    _F.METHOD: ("A method that is not passed on (`CONNECT`, `TRACE`).", "Use another."),
    _F.TOO_MANY_CONNECTIONS: ("The sandbox has as many connections as it may.", "Close some."),
    _F.BROKEN_ANSWER: ("What the program answered is not HTTP.", "Look at the program; for TLS see `https_ports`."),
    _F.NO_ANSWER: ("The program took the request and did not answer in time.", "Look at the program."),
    _F.TRAFFIC_TOKEN: (
        "`allow_public_traffic` is false, and there was no credential or a wrong one.",
        "Send the traffic token, the sandbox's token or an API key.",
    ),
    _F.TRANSITION: ("The sandbox is being paused or resumed.", "Try again in a moment."),
}

ENVD_KINDS: dict[str, str] = {
    "invalid": "A field has a wrong type or value.",
    "permission": "The user inside may not do this there.",
    "not_found": "No such file, directory or process.",
    "no_user": "No credential, a wrong one, or a user that the sandbox does not have.",
    "exists": "Something is there already.",
    "not_a_directory": "A directory is meant.",
    "is_a_directory": "A file is meant.",
    "not_regular": "A device, socket or pipe, where a file is meant.",
    "busy": "Another operation has to end first.",
    "too_large": "Larger than what is taken in one piece.",
    "no_space": "The sandbox's disk is full.",
    "too_many": "Too many calls, streams or processes at once.",
    "unsupported": "This sandbox cannot do it; the message says why.",
    "internal": "What answers inside the sandbox is broken. `stop` and `start` it.",
}
E2B_CAUSES: dict[str, str] = {
    "host_full": "The machine has no room. Try again later.",
    "size": "More than the template's maximum was asked for.",
    "volume_exists": "A volume of this name is there.",
    "idempotency_request_mismatch": "The idempotency key was used for another request.",
    "idempotency_in_progress": "The request with this key is being done.",
    "idempotency_outcome_unknown": "The request with this key was cut off; look whether it was done.",
}
SECRETS_FULL = "No further secret: the limit is reached."

DIALECTS = {"hopx": "HopX", "e2b": "E2B", "novita": "Novita"}


def errors() -> str:
    dialects = (DIALECTS[dialect] for dialect in control.Dialect)
    rows = (
        (
            f"`{kind}`",
            *(_cell(control.cell(kind, dialect)) for dialect in control.Dialect),
            _raised(sdk_errors.CONTROL, control.cell(kind, control.Dialect.HOPX)),
            *KINDS[kind],
        )
        for kind in ErrorKind
    )
    return table(("Kind", *dialects, "Our SDK", "What it means", "What to do"), rows)


def agent_errors() -> str:
    rows = (
        (str(cell.status), f"`{cell.code}`", _raised(sdk_errors.AGENT, cell), *AGENT_KINDS[kind])
        for kind, cell in agent.TABLE.items()
    )
    return table(("Status", "Code", "Our SDK", "What it means", "What to do"), rows)


def envd_errors() -> str:
    rows = ((f"`{cell.code}`", str(cell.status), ENVD_KINDS[kind]) for kind, cell in envd_table.FROM_AGENT.items())
    return table(("Connect code", "HTTP status", "What it means"), rows)


def e2b_errors() -> str:
    """Only where E2B's answer is another than its column in the table of kinds says."""
    rows = [(_cell(cell), E2B_CAUSES[cause]) for cause, cell in e2b_table.CAUSES.items()]
    return table(("Answer", "What it means"), [*rows, (_cell(e2b_table.SECRETS_FULL), SECRETS_FULL)])


def port_errors() -> str:
    rows = ((str(cell.status), f"`{cell.code}`", *PORT_FAILURES[failure]) for failure, cell in ports.TABLE.items())
    return table(("Status", "Code", "What it means", "What to do"), rows)


def _raised(rows: Sequence[sdk_errors.Row], cell: control.Cell | agent.Cell) -> str:
    return f"`{sdk_errors.kind_of(rows, cell.status, cell.code).__name__}`"


def _cell(cell: control.Cell) -> str:
    """Where a dialect has no code of its own, its status is the code."""
    return f"{cell.status} `{cell.code}`" if cell.code else str(cell.status)
