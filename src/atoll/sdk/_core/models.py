"""What calls return. Frozen; times are `datetime` with a time zone; what the server did not say is None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .read import (
    Json,
    flag,
    flag_or_none,
    mapping,
    moment,
    number,
    objects,
    pairs,
    text,
    text_or_none,
    texts,
    whole,
    whole_or_none,
)


@dataclass(frozen=True)
class Resources:
    """What a sandbox may use: cores, MiB of memory, MiB of disk."""

    vcpu: int
    memory_mb: int
    disk_mb: int


@dataclass(frozen=True)
class SandboxInfo:
    """A sandbox as the control plane sees it.

    >>> info = await sandbox.get_info()
    >>> info.status, info.template_name, info.resources.vcpu > 0
    ('running', 'code-interpreter', True)
    """

    sandbox_id: str
    status: str
    """running, paused, stopped, creating …"""
    public_host: str = ""
    template_id: str | None = None
    template_name: str | None = None
    organization_id: int = 0
    node_id: str | None = None
    region: str | None = None
    direct_url: str | None = None
    preview_url: str | None = None
    resources: Resources | None = None
    internet_access: bool | None = None
    live_mode: bool | None = None
    timeout_seconds: int | None = None
    expires_at: datetime | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    end_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Environment name → name of the secret."""
    network: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values
    """As it was given, without passwords."""
    inbound_auth: str | None = None
    web_port: int | None = None
    auto_resume: bool | None = None
    traffic_access_token: str | None = field(default=None, repr=False)


def sandbox_info(data: Json) -> SandboxInfo:
    sized = mapping(data.get("resources"))
    expires_at = moment(data.get("expires_at"))
    return SandboxInfo(
        sandbox_id=text(data.get("id")),
        status=text(data.get("status")),
        public_host=text(data.get("public_host")) or text(data.get("direct_url")),
        template_id=text_or_none(data.get("template_id")),
        template_name=text_or_none(data.get("template_name")),
        organization_id=whole(data.get("organization_id")),
        node_id=text_or_none(data.get("node_id")),
        region=text_or_none(data.get("region")),
        direct_url=text_or_none(data.get("direct_url")),
        preview_url=text_or_none(data.get("preview_url")),
        resources=Resources(*(whole(sized.get(name)) for name in ("vcpu", "memory_mb", "disk_mb"))) if sized else None,
        internet_access=flag_or_none(data.get("internet_access")),
        live_mode=flag_or_none(data.get("live_mode")),
        timeout_seconds=whole_or_none(data.get("timeout_seconds")),
        expires_at=expires_at,
        created_at=moment(data.get("created_at")),
        end_at=expires_at,
        metadata=pairs(data.get("metadata")),
        secrets=pairs(data.get("secrets")),
        network=mapping(data.get("network")),
        inbound_auth=text_or_none(data.get("inbound_auth")),
        web_port=whole_or_none(data.get("web_port")),
        auto_resume=flag_or_none(data.get("auto_resume")),
        traffic_access_token=text_or_none(data.get("traffic_access_token")),
    )


@dataclass(frozen=True)
class TemplateResources:
    """Cores, MiB of memory, GiB of disk."""

    vcpu: int | None = None
    memory_mb: int | None = None
    disk_gb: int | None = None


@dataclass(frozen=True)
class Template:
    """What sandboxes are made of. `SandboxTemplate` is the same class.

    >>> template = await AsyncSandbox.get_template("busybox")
    >>> template.name, template.is_active
    ('busybox', True)
    """

    id: str
    name: str
    display_name: str
    description: str | None = None
    category: str | None = None
    language: str | None = None
    icon: str | None = None
    default_resources: TemplateResources | None = None
    min_resources: TemplateResources | None = None
    max_resources: TemplateResources | None = None
    features: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    popularity_score: int | None = None
    docs_url: str | None = None
    is_active: bool = True
    is_public: bool | None = None
    status: str | None = None
    build_id: str | None = None
    organization_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    object: str | None = None
    request_id: str | None = None


SandboxTemplate = Template


def template(data: Json) -> Template:
    return Template(
        id=text(data.get("id")),
        name=text(data.get("name")),
        display_name=text(data.get("display_name")) or text(data.get("name")),
        default_resources=_template_resources(data.get("default_resources")),
        min_resources=_template_resources(data.get("min_resources")),
        max_resources=_template_resources(data.get("max_resources")),
        features=texts(data.get("features")),
        tags=texts(data.get("tags")),
        popularity_score=whole_or_none(data.get("popularity_score")),
        is_active=flag(data.get("is_active"), True),
        is_public=flag_or_none(data.get("is_public")),
        created_at=moment(data.get("created_at")),
        updated_at=moment(data.get("updated_at")),
        **{name: text_or_none(data.get(name)) for name in _TEMPLATE_TEXTS},
    )


_TEMPLATE_TEXTS = (
    *("description", "category", "language", "icon", "docs_url", "status", "build_id"),
    *("organization_id", "object", "request_id"),
)


def _template_resources(value: object) -> TemplateResources | None:
    names = ("vcpu", "memory_mb", "disk_gb")
    sized = mapping(value)
    return TemplateResources(*(whole_or_none(sized.get(name)) for name in names)) if sized else None


@dataclass(frozen=True)
class ExpiryInfo:
    """When a sandbox ends. `time_to_expiry` is in seconds, never below 0; None without an end."""

    expires_at: datetime | None = None
    time_to_expiry: int | None = None
    is_expired: bool = False
    is_expiring_soon: bool = False
    has_timeout: bool = False


def expiry_info(expires_at: datetime | None, now: datetime, threshold_s: int) -> ExpiryInfo:
    if expires_at is None:
        return ExpiryInfo()
    left = (expires_at - now).total_seconds()
    return ExpiryInfo(expires_at, max(0, int(left)), left <= 0, left <= threshold_s, has_timeout=True)


@dataclass(frozen=True)
class RichOutput:
    """A figure, a table or the like: `data` has it by its MIME type, which is `type`; pictures are in base64.

    >>> result = await sandbox.run_code("from IPython.display import HTML, display; display(HTML('<b>hi</b>'))")
    >>> [(each.type, each.data) for each in result.rich_outputs]
    [('text/html', {'text/html': '<b>hi</b>'})]
    """

    type: str
    data: Mapping[str, Any] = field(repr=False)  # Any: JSON values
    format: str | None = None
    metadata: Mapping[str, Any] | None = None  # Any: JSON values


@dataclass(frozen=True)
class ExecutionResult:
    """What came of a piece of code. `success` is False for code that failed or ran out of time (exit code 124).

    >>> result = await sandbox.run_code("print('hello'); 6 * 7")
    >>> result.success, result.stdout, result.result
    (True, 'hello\\n', '42')
    """

    success: bool = True
    stdout: str = ""
    stderr: str = ""
    exit_code: int = 0
    execution_time: float = 0.0
    """Seconds."""
    rich_outputs: list[RichOutput] = field(default_factory=list)
    timestamp: datetime | None = None
    language: str | None = None
    svg: str | None = field(default=None, repr=False)
    markdown: str | None = field(default=None, repr=False)
    html: str | None = field(default=None, repr=False)
    json_output: Any = field(default=None, repr=False)  # Any: JSON values
    png: str | None = field(default=None, repr=False)
    """The last figure, in base64."""
    result: str | None = None
    """The text of the last expression."""
    context: str | None = None
    """Which interpreter ran it: the default one's id, or `fresh`."""

    @property
    def rich_count(self) -> int:
        """How many rich outputs there are."""
        return len(self.rich_outputs)

    @property
    def has_rich_output(self) -> bool:
        """Whether there are any."""
        return bool(self.rich_outputs)


MIME_OF_FIELD = {
    "png": "image/png",
    "html": "text/html",
    "json": "application/json",
    "dataframe": "application/vnd.dataframe+json",
}


def execution_result(data: Json) -> ExecutionResult:
    return ExecutionResult(
        success=flag(data.get("success"), whole(data.get("exit_code")) == 0),
        stdout=text(data.get("stdout")),
        stderr=text(data.get("stderr")),
        exit_code=whole(data.get("exit_code")),
        execution_time=number(data.get("execution_time")),
        rich_outputs=_rich_outputs(data),
        timestamp=moment(data.get("timestamp")),
        json_output=data.get("json"),
        **{name: text_or_none(data.get(name)) for name in _RESULT_TEXTS},
    )


_RESULT_TEXTS = ("language", "svg", "markdown", "html", "png", "result", "context")


def _rich_outputs(data: Json) -> list[RichOutput]:
    """All of them where the server lists them, else one of each kind."""
    if listed := objects(data.get("rich_outputs")):
        return [RichOutput(text(each.get("type")), mapping(each.get("data"))) for each in listed]
    found = ((mime, data.get(name)) for name, mime in MIME_OF_FIELD.items())
    return [RichOutput(mime, {mime: value}) for mime, value in found if value is not None]


@dataclass(frozen=True)
class CommandResult:
    """What came of a command. A command that failed is a result too.

    >>> result = await sandbox.commands.run("echo out; exit 3")
    >>> result.stdout, result.exit_code, result.is_success
    ('out\\n', 3, False)
    """

    stdout: str = ""
    stderr: str = ""
    exit_code: int = 0
    execution_time: float = 0.0
    """Seconds."""
    command: str | None = None
    timestamp: datetime | None = None
    pid: int | None = None
    success: bool = True
    process_id: str | None = None
    """Of a command that was started in the background."""

    @property
    def is_success(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == 0


def command_result(data: Json, command: str) -> CommandResult:
    exit_code = whole(data.get("exit_code"))
    return CommandResult(
        stdout=text(data.get("stdout")),
        stderr=text(data.get("stderr")),
        exit_code=exit_code,
        execution_time=number(data.get("execution_time")),
        command=command,
        timestamp=moment(data.get("timestamp")),
        pid=whole_or_none(data.get("pid")),
        success=flag(data.get("success"), exit_code == 0),
    )


def started_command(data: Json, command: str) -> CommandResult:
    """HopX's client says the id in `stdout`."""
    process_id = text(data.get("process_id"))
    return CommandResult(
        stdout=f"Background process started: {process_id}",
        command=command,
        timestamp=moment(data.get("start_time")),
        pid=whole_or_none(data.get("pid")),
        process_id=process_id,
    )


@dataclass(frozen=True)
class ProgramOutput:
    """A piece of what a program of `sandbox.programs` wrote, as it was written.

    >>> async with await sandbox.programs.start(["echo", "hi"]) as program:
    ...     print([piece async for piece in program])
    [ProgramOutput(data=b'hi\\n', is_stderr=False)]
    """

    data: bytes
    is_stderr: bool = False


@dataclass(frozen=True)
class FileInfo:
    """An entry of a directory. Names come from the sandbox: do not use them as local paths unchecked.

    >>> await sandbox.files.write("/workspace/notes/a.txt", "hello")
    >>> [(entry.name, entry.size, entry.is_file) for entry in await sandbox.files.list("/workspace/notes")]
    [('a.txt', 5, True)]
    """

    name: str
    path: str
    size: int = 0
    is_directory: bool = False
    modified_time: datetime | None = None
    permissions: str | None = None
    """As `ls -l` shows them."""
    type: str | None = None
    """file, directory, symlink …"""
    mode: str | None = None
    """Octal."""
    owner: str | None = None
    group: str | None = None
    target: str | None = None
    """Of a symbolic link."""

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.is_directory

    @property
    def is_file(self) -> bool:
        """Whether it is no directory."""
        return not self.is_directory

    @property
    def size_kb(self) -> float:
        """Size in KiB."""
        return self.size / 1024

    @property
    def size_mb(self) -> float:
        """Size in MiB."""
        return self.size / 1024 / 1024


def file_info(data: Json) -> FileInfo:
    is_directory = flag(data.get("is_directory"), flag(data.get("is_dir")))
    return FileInfo(
        name=text(data.get("name")),
        path=text(data.get("path")),
        size=whole(data.get("size")),
        is_directory=is_directory,
        modified_time=moment(data.get("modified_time", data.get("modified"))),
        permissions=text_or_none(data.get("permissions")) or text_or_none(data.get("mode")),
        **{name: text_or_none(data.get(name)) for name in ("type", "mode", "owner", "group", "target")},
    )


@dataclass(frozen=True)
class Link:
    """A URL that opens one port in a browser until `expires_at`. Whoever has it gets in.

    >>> link = await sandbox.create_link(8000, seconds=600)
    >>> link.port, "atoll_link=" in link.url
    (8000, True)
    """

    url: str = field(repr=False)
    port: int | None = None
    expires_at: datetime | None = None


def link(data: Json) -> Link:
    return Link(text(data.get("url")), whole_or_none(data.get("port")), moment(data.get("expires_at")))


@dataclass(frozen=True)
class EgressLog:
    """A piece of the log of outbound traffic; `cursor` is where the next one begins."""

    entries: list[dict[str, Any]]  # Any: JSON values
    cursor: int = 0


def egress_log(data: Json) -> EgressLog:
    return EgressLog(objects(data.get("entries")), whole(data.get("cursor")))


@dataclass(frozen=True)
class Secret:
    """A secret without its value, which never comes back."""

    id: str
    name: str
    version: int = 1
    hosts: list[str] = field(default_factory=list)
    """Names to which it may go."""
    description: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None


def secret(data: Json) -> Secret:
    return Secret(
        id=text(data.get("id")),
        name=text(data.get("name")),
        version=whole(data.get("version"), 1),
        hosts=texts(data.get("hosts")),
        description=text_or_none(data.get("description")),
        metadata=pairs(data.get("metadata")),
        created_at=moment(data.get("created_at")),
        updated_at=moment(data.get("updated_at")),
    )


# ---- desktop


@dataclass(frozen=True)
class VNCInfo:
    """How the desktop is watched."""

    url: str | None = None
    password: str | None = field(default=None, repr=False)
    display: int | None = None
    port: int | None = None
    websocket_url: str | None = None
    running: bool = True


def vnc_info(data: Json) -> VNCInfo:
    return VNCInfo(
        url=text_or_none(data.get("url")),
        password=text_or_none(data.get("password")),
        display=whole_or_none(data.get("display")),
        port=whole_or_none(data.get("port")),
        websocket_url=text_or_none(data.get("websocket_url")),
        running=flag(data.get("running"), True),
    )


@dataclass(frozen=True)
class WindowInfo:
    """A window of the desktop."""

    id: int | None = None
    title: str | None = None
    x: int | None = None
    y: int | None = None
    width: int | None = None
    height: int | None = None
    is_active: bool | None = None
    is_minimized: bool | None = None
    pid: int | None = None


def window_info(data: Json) -> WindowInfo:
    given = data.get("id")
    decimal = isinstance(given, str) and given.isascii() and given.isdigit()
    return WindowInfo(
        id=int(str(given)[:18]) if decimal else whole_or_none(given),
        title=text_or_none(data.get("title")),
        is_active=flag_or_none(data.get("is_active")),
        is_minimized=flag_or_none(data.get("is_minimized")),
        **{name: whole_or_none(data.get(name)) for name in ("x", "y", "width", "height", "pid")},
    )


@dataclass(frozen=True)
class RecordingInfo:
    """A recording of the screen; `duration` in seconds, `file_size` in bytes."""

    recording_id: str | None = None
    status: str | None = None
    """recording, stopped, failed"""
    start_time: datetime | None = None
    end_time: datetime | None = None
    duration: float | None = None
    file_path: str | None = None
    file_size: int | None = None
    format: str | None = None

    @property
    def is_recording(self) -> bool:
        """Whether it goes on."""
        return self.status == "recording"

    @property
    def is_ready(self) -> bool:
        """Whether it can be downloaded."""
        return self.status == "stopped"


def recording_info(data: Json, recording_id: str | None = None) -> RecordingInfo:
    return RecordingInfo(
        recording_id=text_or_none(data.get("recording_id")) or recording_id,
        status=text_or_none(data.get("status")),
        start_time=moment(data.get("start_time")),
        end_time=moment(data.get("end_time")),
        duration=number(data.get("duration")) if "duration" in data else None,
        file_path=text_or_none(data.get("file_path")),
        file_size=whole_or_none(data.get("file_size")),
        format=text_or_none(data.get("format")),
    )


@dataclass(frozen=True)
class DisplayInfo:
    """The size of the screen, in pixels."""

    width: int | None = None
    height: int | None = None
    depth: int | None = None
    refresh_rate: int | None = None
    displays: list[dict[str, Any]] = field(default_factory=list)  # Any: JSON values

    @property
    def resolution(self) -> str:
        """As `1280x720`."""
        return f"{self.width}x{self.height}"


def display_info(data: Json) -> DisplayInfo:
    numbers = {name: whole_or_none(data.get(name)) for name in ("width", "height", "depth", "refresh_rate")}
    return DisplayInfo(**numbers, displays=objects(data.get("displays")))


def resolutions(value: object) -> list[tuple[int, int]]:
    """Objects or pairs, as servers differ."""
    found: list[tuple[int, int]] = []
    for each in value if isinstance(value, list) else []:
        width, height = (each.get("width"), each.get("height")) if isinstance(each, dict) else _pair(each)
        if whole_or_none(width) and whole_or_none(height):
            found.append((whole(width), whole(height)))
    return found


def _pair(value: object) -> tuple[object, object]:
    return (value[0], value[1]) if isinstance(value, list) and len(value) == 2 else (None, None)
