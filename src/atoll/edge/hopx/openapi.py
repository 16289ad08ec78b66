"""What HopX's agent surface takes and answers here, in words: the data of `/v1/agent.openapi.json`, `/docs/agent` and
docs/rest.md.

Beside `surface.py`, whose rows it describes; tests compare it with those and with real answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atoll import __version__
from atoll.reference.document import Content, Failure, Operation, Parameter, Surface
from atoll.reference.schema import (
    ANYTHING,
    Schema,
    choice,
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

from . import webhooks
from .cache import KINDS
from .call import MAX_TIMEOUT_S
from .errors import TABLE, Kind
from .execution import BACKGROUND_TIMEOUT_S, DEFAULT_TIMEOUT_S
from .files import MAX_READ
from .languages import LANGUAGES
from .metrics_stream import EVERY_S
from .sockets import FILE_EVENTS
from .system import FEATURES

SANDBOX_ID = "a1b2c3d4e5f6a7b8c9d0"
NOW = "2026-01-01T12:00:00.000000Z"

ABOUT = """Uses one sandbox: runs code and commands, moves files, opens terminals. `direct_url` of the sandbox says
where its surface is; `/s/SANDBOX_ID` below the installation's address always works.

Every call but `GET /health` needs the sandbox's token (`auth_token` of the answer that made it, or another from
`/v1/sandboxes/SANDBOX_ID/token/refresh`) or an API key of its owner, as `Authorization: Bearer TOKEN`. What runs
belongs to the user `user`; paths that do not begin with `/` are below the working directory, most often `/workspace`.

A program that fails is no error: the answer is 200 and says how it ended. Some paths are WebSockets: their messages
are JSON objects, one in each text frame, unless it says otherwise. Every answer has the header `X-Request-ID`; the
log has the call under this id."""

WHAT: Mapping[Kind, str] = {
    Kind.INVALID_REQUEST: "The request is wrong and stays wrong; the message says what.",
    Kind.INVALID_JSON: "The body is not a JSON object.",
    Kind.MISSING_PARAMETER: "A field or query parameter that is required is not there.",
    Kind.FORBIDDEN: "This sandbox has no way out, which the call would need.",
    Kind.INVALID_TOKEN: "No token, or not this sandbox's.",
    Kind.TOKEN_EXPIRED: "The token was this sandbox's, until its time was over. Get another.",
    Kind.NO_SUCH_ROUTE: "The surface has no such path.",
    Kind.METHOD_NOT_ALLOWED: "The path takes other methods.",
    Kind.UPGRADE_REQUIRED: "The path is a WebSocket, and the request asked for none.",
    Kind.BODY_TOO_LARGE: "The body is larger than is taken; larger files are uploaded.",
    Kind.SANDBOX_NOT_FOUND: "There is no such sandbox.",
    Kind.SANDBOX_PAUSED: "The sandbox is paused. Resume it.",
    Kind.SANDBOX_STOPPED: "The sandbox is stopped. Start it.",
    Kind.FILE_NOT_FOUND: "There is no such file or directory.",
    Kind.FILE_EXISTS: "The file is there, and was not to be overwritten.",
    Kind.FILE_TOO_LARGE: "The file is too large for one JSON answer; download it.",
    Kind.INVALID_PATH: "The path is none, or is not of the kind that this needs.",
    Kind.PATH_NOT_ALLOWED: "The sandbox's user may not do that there.",
    Kind.DISK_FULL: "The sandbox's disk is full.",
    Kind.PROCESS_NOT_FOUND: "There is no such process, or it is not yours to end.",
    Kind.BUSY: "It is in use; try again when it is not.",
    Kind.TOO_MANY: "Too many at once, or the key's calls are used up. `details` says when to try again.",
    Kind.DESKTOP_NOT_AVAILABLE: "This sandbox has no desktop.",
    Kind.UNSUPPORTED: "This sandbox cannot do it, and the message says why.",
    Kind.AGENT_SILENT: "The sandbox did not answer in time. What was asked may have happened.",
    Kind.AGENT_FAILED: "The sandbox's agent failed. What was asked may have happened.",
    Kind.UNAVAILABLE: "A part of Atoll is not there right now. Nothing has happened; it is safe to try again.",
    Kind.INTERNAL: "Our fault. The log has the cause under the request id.",
}

FAILURES = {kind.value: Failure(TABLE[kind].status, TABLE[kind].code, WHAT[kind]) for kind in Kind}


# ---- objects

TIMESTAMP = moment()
PID = nullable(whole("As the sandbox counts."))
EXIT_CODE = whole("0 is success; 124 timed out, 126 and 127 not started, 130 interrupted, 137 killed.")

OUTCOME = record(
    {
        "success": flag("The exit code is 0."),
        "stdout": text(),
        "stderr": text("Of code that raised: its traceback."),
        "exit_code": EXIT_CODE,
        "execution_time": number("Seconds."),
        "timestamp": TIMESTAMP,
    },
    "How a program ended and what it said. Of each stream the first 8 MiB.",
    optional={
        "result": text("Of the last expression, as text."),
        "png": text("Base64."),
        "html": text(),
        "svg": text(),
        "markdown": text(),
        "json": ANYTHING,
        "dataframe": {**ANYTHING, "description": "A table, in rows and columns."},
        "rich_outputs": items(
            record({"type": text("MIME type."), "data": mapping(ANYTHING)}), "All that was shown, in order."
        ),
    },
)
PROCESS = record(
    {
        "process_id": text(),
        "execution_id": text("The same."),
        "pid": PID,
        "name": text(),
        "status": choice(("running", "completed", "failed", "killed")),
        "language": text("Empty for a command."),
        "command": text(),
        "start_time": nullable(moment()),
        "started_at": nullable(moment("The same.")),
        "end_time": nullable(moment()),
        "completed_at": nullable(moment("The same.")),
        "exit_code": nullable(EXIT_CODE),
        "duration": number("Seconds, until now or its end."),
        "execution_time": number("The same."),
        "stdout": text("Its end."),
        "stderr": text("Its end."),
        "output_truncated": flag("The beginning of the output is not shown."),
    },
    "A program that was started in the background.",
    optional={"callback": ref("Callback")},
)
CALLBACK = record(
    {
        "url": text(),
        "status": choice(("waiting", "delivering", "delivered", "failed", "refused")),
        "attempts": whole(),
        "http_status": nullable(whole("What was answered last.")),
        "error": nullable(text()),
        "updated_at": moment(),
    },
    "What became of telling a URL how a run ended.",
)
SYSTEM_PROCESS = record(
    {
        "process_id": text("That of the background program, or the number."),
        "pid": PID,
        "name": text(),
        "status": text(),
        "command": text(),
        "started_at": nullable(moment()),
    },
    "A process in the sandbox; one that was started in the background has the fields of `Process` as well.",
    optional={
        "ppid": whole(),
        "user": text(),
        "cpu_percent": number(),
        "memory_mb": number(),
        "terminal": flag("It has one, to which `/processes/connect` attaches."),
        **{
            name: PROCESS["properties"][name]
            for name in (
                "execution_id",
                "language",
                "start_time",
                "end_time",
                "completed_at",
                "exit_code",
                "duration",
                "execution_time",
            )
        },
    },
)
ENTRY = record(
    {
        "name": text(),
        "path": text(),
        "size": whole("Bytes."),
        "type": choice(("file", "directory", "symlink", "other")),
        "is_directory": flag(),
        "is_dir": flag("The same."),
        "permissions": text("As `ls` shows them."),
        "mode": text("In octal digits."),
        "modified_time": nullable(moment()),
        "modified": nullable(moment("The same.")),
        "owner": text(),
        "group": text(),
        "target": nullable(text("Of a link.")),
    },
    "A file, a directory or a link.",
)
CACHE_FIGURES: dict[str, Schema] = {"size": whole("Bytes."), "count": whole("Files.")}
CACHE_TOTALS: dict[str, Schema] = {
    "enabled": flag(),
    "hits": whole(),
    "misses": whole(),
    "hit_rate": number(),
    **CACHE_FIGURES,
}
CACHE: dict[str, Schema] = {
    **CACHE_TOTALS,
    "complete": flag("`false`: there were more files than are counted for one answer."),
    **{kind: record(CACHE_FIGURES) for kind in KINDS},
}
CACHE_ANSWER = record(
    {
        **CACHE,
        "cache": record({**CACHE, "max_size": whole(), "total_hits": whole(), "ttl": text()}),
        "timestamp": TIMESTAMP,
    }
)
FEATURE_FIELDS: dict[str, Schema] = {
    **{name: flag() for name in FEATURES},
    "ipython_kernel": flag(),
    "languages": items(text()),
}
METRICS = record(
    {
        "uptime_seconds": number(),
        "total_requests": whole("To the agent."),
        "total_errors": whole("Of these."),
        "error_count": whole("With programs that failed."),
        "active_executions": whole("Programs and cells that run now."),
        "total_executions": whole(),
        "requests_total": mapping(whole(), "Calls of this surface, by path."),
        "avg_duration_ms": mapping(number(), "The same."),
        "p95_duration_ms": number("Of the last calls."),
        "system": record(
            {
                "cpu": record(
                    {
                        "usage_percent": number("Of the processors that it has."),
                        "cores": nullable(number()),
                        "seconds": number(),
                        "load1": number(),
                    }
                ),
                "memory": record(
                    {
                        "usage_percent": number(),
                        "total": whole("Bytes."),
                        "used": whole(),
                        "free": whole(),
                        "used_bytes": whole(),
                        "total_bytes": nullable(whole()),
                    }
                ),
                "disk": record(
                    {
                        "usage_percent": number(),
                        "total": whole("Bytes."),
                        "used": whole(),
                        "free": whole(),
                        "total_bytes": whole(),
                        "free_bytes": whole(),
                    }
                ),
            }
        ),
        "process": record({"count": whole(), "running": whole(), "open_files": whole()}),
        "cache": record(CACHE_TOTALS),
        "timestamp": TIMESTAMP,
    },
    "Figures of the sandbox.",
)
ERROR = record(
    {
        "error": text("The message."),
        "message": text("What is wrong and what to do."),
        "code": text(),
        "details": record({}, "JSON values that belong to the kind of error."),
        "request_id": text("Names this call in the logs."),
        "timestamp": TIMESTAMP,
    },
    "An error of the agent surface.",
    optional={"path": text("Of the file that it is about."), "missing_dependencies": items(text())},
)
DONE: dict[str, Schema] = {"success": flag(), "path": text(), "message": text(), "timestamp": TIMESTAMP}

SCHEMAS: dict[str, Schema] = {
    "Outcome": OUTCOME,
    "Process": PROCESS,
    "Callback": CALLBACK,
    "SystemProcess": SYSTEM_PROCESS,
    "Entry": ENTRY,
    "Metrics": METRICS,
    "Error": ERROR,
}


# ---- what callers send

PATH = Parameter("path", "query", "The file or directory.", text(), required=True, example="/workspace/notes.txt")
PROCESS_PARAMETER = Parameter(
    "process_id", "path", "A background program's, or the number of a process.", text(), example="PROCESS_ID"
)
WORKDIR_FIELDS: dict[str, Schema] = {
    "workdir": text("Where to run it; `/workspace` is the template's working directory."),
    "working_dir": text("The same."),
}
ENV_FIELD: dict[str, Schema] = {"env": nullable(mapping(text(), "Variables, for this run alone."))}


def _timeout(seconds: float) -> dict[str, Schema]:
    about = "Seconds; then the program is ended."
    return {"timeout": nullable(number(about, exclusiveMinimum=0, maximum=int(MAX_TIMEOUT_S), default=int(seconds)))}


def _code_fields(seconds: float) -> dict[str, Schema]:
    return {
        "language": text(
            f"{', '.join(language.name for language in LANGUAGES)}, or an alias of one.", default="python"
        ),
        **WORKDIR_FIELDS,
        **_timeout(seconds),
        **ENV_FIELD,
        "name": nullable(text("Shown in lists.")),
    }


CODE_FIELD: dict[str, Schema] = {"code": text("The program.")}
COMMAND_FIELD: dict[str, Schema] = {"command": text("A line for the shell, or with `args` a program.", minLength=1)}


def _code_body(seconds: float = DEFAULT_TIMEOUT_S, example: dict[str, Any] | None = None) -> Content:
    return Content(record(CODE_FIELD, optional=_code_fields(seconds)), example or {"code": "print(6 * 7)"})


def _command_body(example: dict[str, Any]) -> Content:
    optional = {
        "args": nullable(items(text(), "Its arguments.")),
        **WORKDIR_FIELDS,
        **_timeout(DEFAULT_TIMEOUT_S),
        **ENV_FIELD,
        "name": nullable(text("Shown in lists.")),
    }
    return Content(record(COMMAND_FIELD, optional=optional), example)


CALLBACK_FIELDS: dict[str, Schema] = {
    "callback_url": text("Where the result is sent, http or https.", maxLength=webhooks.MAX_URL),
}
CALLBACK_OPTIONS: dict[str, Schema] = {
    "callback_headers": nullable(mapping(text(), "Sent with it.", maxProperties=webhooks.MAX_HEADERS)),
    "callback_signature_secret": text("Signs it.", maxLength=webhooks.MAX_SECRET),
}


# ---- operations

BODY_ERRORS = ("invalid_request", "invalid_json", "missing_parameter", "body_too_large")
FILE_ERRORS = ("missing_parameter", "file_not_found", "path_not_allowed", "invalid_path")
OUTCOME_EXAMPLE: dict[str, Any] = {
    "success": True,
    "stdout": "42\n",
    "stderr": "",
    "exit_code": 0,
    "execution_time": 0.004,
    "timestamp": NOW,
}
RUN_ANSWER = Content(
    joined(
        ref("Outcome"),
        record({"language": text()}, optional={"context": text("Where it ran: the id of a context, or `fresh`.")}),
    ),
    {**OUTCOME_EXAMPLE, "language": "python", "context": "default"},
    "It ran.",
)
COMMAND_ANSWER = Content(
    joined(ref("Outcome"), record({"command": text(), "pid": PID})),
    {**OUTCOME_EXAMPLE, "command": "echo 42", "pid": 12},
    "It ran.",
)
BACKGROUND_ANSWER = Content(
    record(
        {
            "process_id": text(),
            "execution_id": text("The same."),
            "status": text(const="running"),
            "pid": PID,
            "name": text(),
            "language": text("Empty for a command."),
            "start_time": moment(),
            "message": text(),
        }
    ),
    about="It runs.",
)
METRICS_ANSWER = Content(ref("Metrics"), about="The figures.")
KILLED = Content(
    record(
        {
            "success": flag(),
            "process_id": text(),
            "status": text(const="killed"),
            "message": text(),
            "timestamp": TIMESTAMP,
        }
    ),
    about="It has ended.",
)
ENV_ANSWER = Content(
    record({"env_vars": mapping(text()), "count": whole(), "timestamp": TIMESTAMP}),
    {"env_vars": {"GREETING": "hello"}, "count": 1, "timestamp": NOW},
    "All of them now.",
)
ENV_ERRORS = (*BODY_ERRORS,)
PONG = Content(
    record({"status": text(const="ok"), "agent": text(), "vm_id": text(), "timestamp": TIMESTAMP}), about="It answers."
)


def _socket(about: str) -> Content:
    return Content({}, about=about, media="")


def _get(path: str, id: str, tag: str, summary: str, answer: Content, about: str = "") -> Operation:
    return Operation("GET", path, id, tag, summary, about, answers={200: answer})


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST",
        "/execute",
        "execute",
        "Code",
        "Run code",
        "Python runs in a context that keeps its variables from call to call, unless it is busy; other languages start "
        "anew each time.",
        body=_code_body(),
        answers={200: RUN_ANSWER},
        errors=BODY_ERRORS,
    ),
    Operation(
        "POST",
        "/execute/rich",
        "executeRich",
        "Code",
        "Run code",
        "The same as `/execute`, under the name that older clients use.",
        body=_code_body(),
        answers={200: RUN_ANSWER},
        errors=BODY_ERRORS,
    ),
    Operation(
        "POST",
        "/execute/ipython",
        "executeIpython",
        "Code",
        "Run Python",
        "Whatever `language` says.",
        body=_code_body(),
        answers={200: RUN_ANSWER},
        errors=BODY_ERRORS,
    ),
    Operation(
        "POST",
        "/execute/background",
        "executeBackground",
        "Code",
        "Start code and go on",
        body=_code_body(BACKGROUND_TIMEOUT_S, {"code": "import time; time.sleep(60)", "name": "nap"}),
        answers={200: BACKGROUND_ANSWER},
        errors=BODY_ERRORS,
    ),
    Operation(
        "POST",
        "/execute/async",
        "executeAsync",
        "Code",
        "Start code, and have its end told to a URL",
        "The result is POSTed there: up to four tries, each of which resolves and checks the address anew.",
        body=Content(
            record(
                {**CODE_FIELD, **CALLBACK_FIELDS},
                optional={**_code_fields(webhooks.TIMEOUT_S), **CALLBACK_OPTIONS},
            ),
            {"code": "print(6 * 7)", "callback_url": "https://example.com/done"},
        ),
        answers={
            200: Content(
                record(
                    {
                        "execution_id": text(),
                        "process_id": text("The same."),
                        "status": text(const="queued"),
                        "callback_url": text(),
                        "message": text(),
                        "timestamp": TIMESTAMP,
                    }
                ),
                about="It runs.",
            )
        },
        errors=(*BODY_ERRORS, "forbidden"),
    ),
    Operation(
        "GET",
        "/execute/stream",
        "executeStream",
        "Code",
        "Run code and hear it as it speaks",
        "A WebSocket. The first message is the body of `/execute` (60 seconds unless it says more); then come "
        '`{"type": "stdout", "data", "timestamp"}`, the same with `stderr`, and `{"type": "display", "mime", "data", '
        '"timestamp"}`, at the end `{"type": "result", "exit_code", "execution_time"}` and `{"type": "complete", '
        '"success"}`. An error is `{"type": "error", …}` with the fields of `Error`. Who leaves ends the program.',
        answers={101: _socket("The WebSocket is open.")},
        errors=("upgrade_required",),
    ),
    Operation(
        "POST",
        "/commands/run",
        "runCommand",
        "Commands",
        "Run a command",
        body=_command_body({"command": "echo 42"}),
        answers={200: COMMAND_ANSWER},
        errors=BODY_ERRORS,
    ),
    Operation(
        "POST",
        "/commands/background",
        "runCommandInBackground",
        "Commands",
        "Start a command and go on",
        body=_command_body({"command": "python3 -m http.server 8000", "timeout": 3600}),
        answers={200: BACKGROUND_ANSWER},
        errors=BODY_ERRORS,
    ),
    Operation(
        "GET",
        "/terminal",
        "terminal",
        "Commands",
        "Open a terminal",
        'A WebSocket to a login shell. Sent: `{"type": "input", "data"}` and `{"type": "resize", "cols", "rows"}`. '
        'Received: `{"type": "output", "data"}`, at the end `{"type": "exit", "code"}`. Who leaves ends the shell.',
        answers={101: _socket("The WebSocket is open.")},
        errors=("upgrade_required",),
    ),
    Operation(
        "GET",
        "/processes/connect",
        "connectProcess",
        "Commands",
        "Start a program, or attach to one, byte for byte",
        'A WebSocket. The first message is `{"argv": […], "env", "workdir", "user", "timeout", "name", "stdin", '
        '"pty": {"cols", "rows"}, "keep"}` for a new program or `{"id"}` for one that runs. Then binary messages '
        'are standard input, and `{"type": "eof"}`, `{"type": "resize", "cols", "rows"}` and `{"type": "signal", '
        '"signal"}` are taken. Received: `{"type": "start", "id", "name"}`; binary messages, `O` or `E` and then '
        'output; `{"type": "taken", "bytes"}`, at most 1 MiB behind what was sent; at the end `{"type": "exit", '
        '"code", "message"}`.',
        answers={101: _socket("The WebSocket is open.")},
        errors=("upgrade_required",),
    ),
    _get(
        "/execute/processes",
        "listBackground",
        "Processes",
        "List background programs",
        Content(record({"processes": items(ref("Process")), "count": whole(), "timestamp": TIMESTAMP}), about="All."),
        "Those that run, and those that ended in the last ten minutes, each with the end of its output.",
    ),
    Operation(
        "GET",
        "/execute/processes/{process_id}",
        "getBackground",
        "Processes",
        "Look at a background program",
        "With all of its output that is kept.",
        (PROCESS_PARAMETER,),
        answers={200: Content(ref("Process"), about="The program.")},
        errors=("process_not_found",),
    ),
    Operation(
        "POST",
        "/execute/kill/{process_id}",
        "killBackground",
        "Processes",
        "End a program",
        "With everything that it has started.",
        (PROCESS_PARAMETER,),
        answers={200: KILLED},
        errors=("process_not_found",),
    ),
    Operation(
        "DELETE",
        "/execute/kill",
        "killByQuery",
        "Processes",
        "End a program, named in the query",
        parameters=(
            Parameter(
                "process_id", "query", "A background program's, or a number.", text(), required=True, example="12"
            ),
        ),
        answers={200: KILLED},
        errors=("missing_parameter", "process_not_found"),
    ),
    _get(
        "/processes",
        "listProcesses",
        "Processes",
        "List all processes",
        Content(
            record({"processes": items(ref("SystemProcess")), "count": whole(), "timestamp": TIMESTAMP}),
            about="All.",
        ),
    ),
    Operation(
        "POST",
        "/processes/{process_id}/kill",
        "killProcess",
        "Processes",
        "End a process",
        parameters=(PROCESS_PARAMETER,),
        answers={200: KILLED},
        errors=("process_not_found",),
    ),
    _get(
        "/jupyter/sessions",
        "listSessions",
        "Processes",
        "List contexts",
        Content(
            record(
                {
                    "sessions": items(
                        record(
                            {
                                "kernel_id": text(),
                                "name": text("Its language."),
                                "execution_state": text(),
                                "connections": whole(),
                                "last_activity": nullable(moment()),
                                "pid": PID,
                            }
                        )
                    ),
                    "count": whole(),
                }
            ),
            about="All.",
        ),
        "Contexts keep the variables of code from call to call.",
    ),
    Operation(
        "GET",
        "/files/read",
        "readFile",
        "Files",
        "Read a text file",
        f"Up to {MAX_READ // 2**20} MiB. What is no UTF-8 is replaced; download a file to get its bytes. A `Range` "
        "header is honoured.",
        (PATH,),
        answers={
            200: Content(
                record({"content": text(), "path": text(), "size": whole("Bytes.")}),
                {"content": "hello\n", "path": "/workspace/notes.txt", "size": 6},
                "Its text.",
            )
        },
        errors=(*FILE_ERRORS, "file_too_large"),
    ),
    Operation(
        "GET",
        "/files/download",
        "downloadFile",
        "Files",
        "Download a file",
        "Of any size, with `Range`.",
        (PATH,),
        answers={
            200: Content(
                text(format="binary"),
                about="Its bytes.",
                media="application/octet-stream",
                headers={"Content-Disposition": "Its name.", "Accept-Ranges": "bytes"},
            ),
            206: Content(
                text(format="binary"),
                about="The bytes that were asked for.",
                media="application/octet-stream",
                headers={"Content-Range": "Which."},
            ),
        },
        errors=FILE_ERRORS,
    ),
    Operation(
        "POST",
        "/files/write",
        "writeFile",
        "Files",
        "Write a file",
        "Directories on the way are made.",
        body=Content(
            record(
                {"path": text(minLength=1), "content": text()},
                optional={
                    "encoding": text("`base64`, or absent for text."),
                    "mode": text("Permissions in octal digits.", default="0644"),
                    "overwrite": nullable(flag("`false`: not when the file is there.", default=True)),
                },
            ),
            {"path": "/workspace/notes.txt", "content": "hello\n"},
        ),
        answers={200: Content(record({**DONE, "size": whole("Bytes.")}), about="It is there.")},
        errors=(*BODY_ERRORS, "file_exists", "path_not_allowed", "invalid_path", "disk_full"),
    ),
    Operation(
        "POST",
        "/files/upload",
        "uploadFile",
        "Files",
        "Upload a file",
        "Of any size, as it comes. `path` first spares a move.",
        body=Content(
            record({"path": text(), "file": text(format="binary")}),
            {"path": "/workspace/data.csv", "file": "@data.csv"},
            media="multipart/form-data",
        ),
        answers={200: Content(record({**DONE, "size": whole("Bytes.")}), about="It is there.")},
        errors=(
            "invalid_request",
            "missing_parameter",
            "body_too_large",
            "path_not_allowed",
            "invalid_path",
            "disk_full",
        ),
    ),
    Operation(
        "GET",
        "/files/list",
        "listFiles",
        "Files",
        "List a directory",
        parameters=(
            Parameter(
                "path", "query", "The directory; the working directory by default.", text(), example="/workspace"
            ),
        ),
        answers={
            200: Content(
                record({"files": items(ref("Entry")), "path": text(), "count": whole()}), about="What is in it."
            )
        },
        errors=("file_not_found", "path_not_allowed", "invalid_path"),
    ),
    Operation(
        "GET",
        "/files/exists",
        "fileExists",
        "Files",
        "Ask whether a file is there",
        parameters=(PATH,),
        answers={
            200: Content(
                record({"exists": flag(), "path": text()}, optional={"is_directory": flag()}),
                {"exists": True, "path": "/workspace/notes.txt", "is_directory": False},
                "The answer.",
            )
        },
        errors=("missing_parameter", "invalid_path"),
    ),
    Operation(
        "POST",
        "/files/mkdir",
        "makeDirectory",
        "Files",
        "Make a directory",
        "With those on the way; one that is there is no error.",
        body=Content(record({"path": text(minLength=1)}), {"path": "/workspace/out"}),
        answers={200: Content(record(DONE), about="It is there.")},
        errors=(*BODY_ERRORS, "file_exists", "path_not_allowed", "invalid_path", "disk_full"),
    ),
    Operation(
        "DELETE",
        "/files/remove",
        "removeFile",
        "Files",
        "Remove a file or a directory with all in it",
        parameters=(PATH,),
        answers={200: Content(record(DONE), about="It is gone.")},
        errors=FILE_ERRORS,
    ),
    Operation(
        "POST",
        "/files/remove",
        "removeFileByBody",
        "Files",
        "Remove a file, named in the body",
        "As older clients ask for it.",
        body=Content(record({"path": text()}), {"path": "/workspace/notes.txt"}),
        answers={200: Content(record(DONE), about="It is gone.")},
        errors=(*BODY_ERRORS, "file_not_found", "path_not_allowed", "invalid_path"),
    ),
    Operation(
        "GET",
        "/files/watch",
        "watchFiles",
        "Files",
        "Hear of changes",
        'A WebSocket. The first message is `{"action": "watch", "path"}`; with `"ready": true` in it, '
        '`{"type": "ready"}` says when no change is missed any more. Then come '
        f'`{{"type": "change", "path", "event", "from", "is_directory", "timestamp"}}`, where `event` is one of '
        f"{', '.join(sorted(FILE_EVENTS))}, for the directory and all below it.",
        answers={101: _socket("The WebSocket is open.")},
        errors=("upgrade_required",),
    ),
    _get("/env", "getEnv", "Environment", "Read the sandbox's variables", ENV_ANSWER),
    Operation(
        "PUT",
        "/env",
        "replaceEnv",
        "Environment",
        "Replace them",
        "Programs that are started from then on see them.",
        body=Content(record({"env_vars": mapping(text())}), {"env_vars": {"GREETING": "hello"}}),
        answers={200: ENV_ANSWER},
        errors=ENV_ERRORS,
    ),
    Operation(
        "PATCH",
        "/env",
        "mergeEnv",
        "Environment",
        "Set some of them",
        "`null` removes one.",
        body=Content(
            record(
                {"env_vars": mapping(nullable(text()))},
                optional={"merge": flag("`false`: replace them all.", default=True)},
            ),
            {"env_vars": {"GREETING": None}},
        ),
        answers={200: ENV_ANSWER},
        errors=ENV_ERRORS,
    ),
    Operation("DELETE", "/env", "clearEnv", "Environment", "Remove them all", answers={200: ENV_ANSWER}),
    Operation(
        "DELETE",
        "/env/{name}",
        "removeEnv",
        "Environment",
        "Remove one",
        parameters=(Parameter("name", "path", "The variable.", text(), example="GREETING"),),
        answers={200: ENV_ANSWER},
        errors=("invalid_request",),
    ),
    Operation(
        "GET",
        "/health",
        "agentHealth",
        "Sandbox",
        "Ask whether it is healthy",
        "Without a token the answer is the one word `status`.",
        answers={
            200: Content(
                record(
                    {"status": text(const="healthy")},
                    optional={
                        "agent": text(),
                        "version": text(),
                        "uptime": number("Seconds."),
                        "uptime_seconds": number("The same."),
                        "go_version": text("Empty: for clients that expect it."),
                        "vm_id": text(),
                        "features": record(FEATURE_FIELDS),
                        "active_streams": whole(),
                        "timestamp": TIMESTAMP,
                    },
                ),
                {"status": "healthy"},
                "It is.",
            )
        },
        public=True,
    ),
    _get("/", "root", "Sandbox", "Ask whether it answers", PONG),
    _get("/ping", "ping", "Sandbox", "Ask whether it answers", PONG),
    _get(
        "/info",
        "agentInfo",
        "Sandbox",
        "Facts about it, in short",
        Content(
            record(
                {
                    "vm_id": text(),
                    "agent": text(),
                    "agent_version": text(),
                    "version": text("The same."),
                    "os": text(),
                    "platform": text(),
                    "os_name": text(),
                    "os_version": text(),
                    "kernel": text(),
                    "arch": text(),
                    "go_version": text("Empty: for clients that expect it."),
                    "vm_ip": text(),
                    "ip": text("The same."),
                    "vm_port": whole(),
                    "port": whole("The same."),
                    "workdir": text(),
                    "start_time": nullable(moment()),
                    "uptime": number("Seconds."),
                    "uptime_seconds": number("The same."),
                    "endpoints": mapping(text(), "Name → path."),
                    "features": record(FEATURE_FIELDS),
                }
            ),
            about="The facts.",
        ),
    ),
    _get(
        "/system",
        "system",
        "Sandbox",
        "Facts about it, at length",
        Content(
            record(
                {
                    "os": record(
                        {name: text() for name in ("name", "id", "version", "kernel", "arch", "hostname", "timezone")}
                    ),
                    "hardware": record(
                        {
                            "cpu_cores": whole(),
                            "cpu_model": text(),
                            "memory_mb": whole("MiB."),
                            "disk_mb": whole("MiB."),
                        }
                    ),
                    "network": record({"addresses": items(text()), "internet_access": flag()}),
                    "environment": record({name: text() for name in ("user", "home", "shell", "path", "workdir")}),
                    "capabilities": items(text()),
                    "timestamp": TIMESTAMP,
                }
            ),
            about="The facts.",
        ),
    ),
    _get("/metrics", "metrics", "Sandbox", "Figures", METRICS_ANSWER),
    _get("/metrics/snapshot", "metricsSnapshot", "Sandbox", "Figures, by another name", METRICS_ANSWER),
    _get(
        "/metrics/prometheus",
        "metricsPrometheus",
        "Sandbox",
        "Figures, for Prometheus",
        Content(text(), "atoll_sandbox_cpu_seconds 1.25\n", "The figures.", media="text/plain"),
    ),
    _get(
        "/metrics/stream",
        "metricsStream",
        "Sandbox",
        "Figures, again and again",
        Content(text(), about="Each event is `Metrics` as JSON.", media="text/event-stream"),
        f"Server-sent events, one every {EVERY_S:g} s until the client leaves. Also at "
        "`/v1/sandboxes/SANDBOX_ID/metrics/stream`.",
    ),
    _get(
        "/cache",
        "cache",
        "Sandbox",
        "What lies on its disk only to save time",
        Content(
            CACHE_ANSWER,
            about="The figures, twice: clients look in either place.",
        ),
    ),
    _get(
        "/cache/stats",
        "cacheStats",
        "Sandbox",
        "The same, by another name",
        Content(
            CACHE_ANSWER,
            about="The figures.",
        ),
    ),
    Operation(
        "POST",
        "/cache/clear",
        "clearCache",
        "Sandbox",
        "Remove that",
        answers={
            200: Content(
                record({"success": flag(), "message": text(), "entries_removed": whole(), "timestamp": TIMESTAMP}),
                about="It is gone.",
            )
        },
    ),
)

SURFACE = Surface(
    title="Atoll: agent surface of a sandbox",
    version=__version__,
    about=ABOUT,
    servers=(
        {
            "url": "/s/{sandbox_id}",
            "description": "Below the installation's own address.",
            "variables": {"sandbox_id": {"default": SANDBOX_ID}},
        },
    ),
    tags={
        "Code": "Running programs that are sent as text.",
        "Commands": "Running programs that are there, and terminals.",
        "Processes": "What runs, and ending it.",
        "Files": "On the sandbox's disk.",
        "Environment": "Variables that every program in it sees.",
        "Sandbox": "Health, facts and figures.",
    },
    operations=OPERATIONS,
    schemas=SCHEMAS,
    security={
        "SandboxToken": {"type": "http", "scheme": "bearer", "description": "The sandbox's token, or an API key."}
    },
    failures=FAILURES,
    everywhere=(
        "sandbox_not_found",
        "sandbox_paused",
        "sandbox_stopped",
        "agent_silent",
        "agent_failed",
        "unavailable",
    ),
    credentials=("invalid_token", "token_expired", "too_many"),
)
