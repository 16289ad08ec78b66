"""The tools: what a model can ask for. Each calls one thing of the SDK and shows what came of it.

Names, descriptions and schemas are all that a model knows of us, so they say when to use what, and what comes back.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import shlex
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ContentBlock, ToolAnnotations
from pydantic import Field

from atoll.sdk import AsyncSandbox

from . import local_files
from .output import MAX_FIGURE, MAX_TEXT, clean, clip, image, outcome, rich, sections, shown, text_block
from .sandboxes import Session, Sessions

STDIO = ""
SESSION_HEADER = "mcp-session-id"
MAX_LISTED = 500
MAX_WRITE = 16 * 1024 * 1024
MAX_LINES = 2_000
LINK_S = 3600
FRESH = " (in an interpreter of its own without the earlier variables: another call was running)"

Ctx = Context[Sessions, Any]
Content = list[ContentBlock]

SandboxId = Annotated[
    str | None, Field(description="Which sandbox; leave it out for the session's own, which is made on first use.")
]
Path_ = Annotated[
    str, Field(description="Absolute path in the sandbox; /workspace is where work is done.", min_length=1)
]
Environment = Annotated[dict[str, str] | None, Field(description="Environment variables for this call only.")]
Directory = Annotated[str, Field(description="Directory to run in.")]
ProcessId = Annotated[str, Field(description="As run_command (background) and list_processes give it.", min_length=1)]

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
CHANGES = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
DESTROYS = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)
RUNS = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=True)
"""A program may do anything that the sandbox lets it do: overwrite its files, talk to the internet."""


async def session_of(context: Ctx) -> Session:
    """Newest clients have no sessions over HTTP; those share one, as they share the server's token."""
    headers = context.headers
    return await context.request_context.lifespan_context.of((headers or {}).get(SESSION_HEADER) or STDIO)


# ---- programs


async def run_code(
    context: Ctx,
    code: Annotated[str, Field(description="The program's text.")],
    language: Annotated[
        Literal["python", "javascript", "bash", "go"],
        Field(description="Python cells share one interpreter: variables and imports stay for later calls."),
    ] = "python",
    timeout: Annotated[int, Field(description="Seconds until the program is stopped.", ge=1, le=3600)] = 60,
    env: Environment = None,
    working_dir: Directory = "/workspace",
    sandbox_id: SandboxId = None,
) -> Content:
    """Run code in an isolated Linux sandbox and get its output, the value of the last expression and its figures.

    Python works like a notebook: state is kept between calls, the last expression is shown, matplotlib figures come
    back as pictures, `%pip install` and top-level `await` work. numpy, pandas and matplotlib are installed. A failed
    program is not an error of the tool: read the exit code and stderr.
    """
    async with (await session_of(context)).using(sandbox_id) as sandbox:
        run = await sandbox.run_code(code, language=language, timeout=timeout, env=env, working_dir=working_dir)
    parts = {"stdout": run.stdout, "stderr": run.stderr, "result": run.result or ""}
    text = sections(parts, outcome(run.exit_code, run.execution_time) + (FRESH if run.context == "fresh" else ""))
    return [text_block(text), *rich([output.data for output in run.rich_outputs], run.result)]


async def run_command(
    context: Ctx,
    command: Annotated[
        str, Field(description="A line for bash: pipes, &&, redirections and globs work.", min_length=1)
    ],
    timeout: Annotated[int, Field(description="Seconds until the command is stopped.", ge=1, le=86_400)] = 120,
    background: Annotated[
        bool,
        Field(description="True for servers and long jobs: returns a process id at once; see get_process_output."),
    ] = False,
    env: Environment = None,
    working_dir: Directory = "/workspace",
    sandbox_id: SandboxId = None,
) -> Content:
    """Run a shell command in the sandbox: install packages, use git, start servers, look around.

    Runs as an ordinary user with password-less sudo, without a terminal: use flags such as -y instead of answering
    questions. In the background the time limit holds too, so give a server a long one.
    """
    async with (await session_of(context)).using(sandbox_id) as sandbox:
        if background:
            return [text_block(await _start(sandbox, command, timeout, env, working_dir))]
        run = await sandbox.commands.run(command, timeout=timeout, env=env, working_dir=working_dir)
    parts = {"stdout": run.stdout, "stderr": run.stderr}
    return [text_block(sections(parts, outcome(run.exit_code, run.execution_time)))]


async def _start(
    sandbox: AsyncSandbox, command: str, timeout: int, env: dict[str, str] | None, working_dir: str
) -> str:
    started = await sandbox.commands.run(command, timeout=timeout, env=env, working_dir=working_dir, background=True)
    return (
        f"started process {shown(started.process_id or '?', 64)}; its output: get_process_output, its end: kill_process"
    )


async def list_processes(context: Ctx, sandbox_id: SandboxId = None) -> str:
    """List what was started in the background in the sandbox: process id, status, exit code, command."""
    async with (await session_of(context)).using(sandbox_id) as sandbox:
        found = await sandbox.list_processes()
    return _table([_process_line(each) for each in found], "nothing was started in the background")


def _process_line(process: dict[str, Any]) -> str:
    code = process.get("exit_code")
    ending = "" if code is None else f", exit code {code}"
    return f"{process.get('process_id')}  {process.get('status')}{ending}  {str(process.get('name'))[:200]}"


async def get_process_output(context: Ctx, process_id: ProcessId, sandbox_id: SandboxId = None) -> Content:
    """Show what a background process has printed up to now, and whether it still runs."""
    async with (await session_of(context)).using(sandbox_id) as sandbox:
        process = await sandbox.get_process(process_id)
    parts = {"stdout": str(process.get("stdout") or ""), "stderr": str(process.get("stderr") or "")}
    running = process.get("status") == "running"
    ending = "it still runs" if running else f"{process.get('status')}, exit code {process.get('exit_code')}"
    return [text_block(sections(parts, ending))]


async def kill_process(context: Ctx, process_id: ProcessId, sandbox_id: SandboxId = None) -> str:
    """End a background process and everything that it started."""
    async with (await session_of(context)).using(sandbox_id) as sandbox:
        await sandbox.kill_process(process_id)
    return f"process {shown(process_id, 64)} has ended"


# ---- files

# Asks for the size first, so that a huge or endless file is never read whole; what is no ordinary file is not opened.
_READ = """
[ -d "$1" ] && { echo "it is a directory: use list_files" >&2; exit 3; }
[ -e "$1" ] || { echo "there is no such file" >&2; exit 2; }
[ -f "$1" ] || { echo "it is not an ordinary file" >&2; exit 4; }
[ -r "$1" ] || { echo "you may not read it" >&2; exit 5; }
stat -L -c %s -- "$1" || exit 6
if [ "$2" = bytes ]; then head -c "$3" < "$1"; else tail -n "+$4" < "$1" | head -n "$5" | head -c "$3"; fi | base64
"""
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp")


async def read_file(
    context: Ctx,
    path: Path_,
    start_line: Annotated[int, Field(description="First line to show, counted from 1.", ge=1)] = 1,
    max_lines: Annotated[int, Field(description="How many lines to show at most.", ge=1, le=MAX_LINES)] = MAX_LINES,
    sandbox_id: SandboxId = None,
) -> Content:
    """Read a text file of the sandbox, or look at a picture (PNG, JPEG, GIF, WebP).

    Long files come in parts: ask again with a later start_line.
    """
    picture = path.lower().endswith(_PICTURES)
    limit = MAX_FIGURE if picture else 4 * MAX_TEXT
    line = shlex.join(
        ["sh", "-c", _READ, "sh", path, "bytes" if picture else "lines", str(limit), str(start_line), str(max_lines)]
    )
    async with (await session_of(context)).using(sandbox_id) as sandbox:
        run = await sandbox.commands.run(line, timeout=30, working_dir="/")
    if run.exit_code != 0:
        raise ToolError(f"{shown(path, 256)} cannot be read: {shown(run.stderr or 'the sandbox gave no reason', 500)}")
    size, data = _unpacked(run.stdout)
    return [_picture(path, size, data) if picture else text_block(_text(path, size, data))]


def _unpacked(answer: str) -> tuple[int, bytes]:
    """The program that read the file is the sandbox's own: its answer is checked like everything else from there."""
    head, _, body = answer.lstrip().partition("\n")
    try:
        return int(head.strip()[:20]), base64.b64decode("".join(body.split()), validate=True)
    except (ValueError, binascii.Error) as error:
        raise ToolError("the sandbox's own tools did not give the file as asked; use run_command") from error


def _picture(path: str, size: int, data: bytes) -> ContentBlock:
    found = image(data) if size <= MAX_FIGURE else None
    return found or text_block(f"{shown(path, 256)}: {size:,} bytes, and no picture that can be shown")


def _text(path: str, size: int, data: bytes) -> str:
    if b"\0" in data:
        return f"{shown(path, 256)}: {size:,} bytes that are no text; look at it with run_command (file, xxd, strings)"
    text = clean(data.decode("utf-8", "replace"))
    if len(text) <= MAX_TEXT:
        return text or "(nothing there)"
    part = text[:MAX_TEXT]
    return (
        f"{part}\n[cut after {part.count(chr(10)) + 1} lines; the file has {size:,} bytes: ask with a later start_line]"
    )


async def write_file(
    context: Ctx,
    path: Path_,
    content: Annotated[str, Field(description="The whole new content.")],
    encoding: Annotated[
        Literal["text", "base64"], Field(description="base64: content is binary data in base64.")
    ] = "text",
    executable: Annotated[bool, Field(description="Make it a program.")] = False,
    sandbox_id: SandboxId = None,
) -> str:
    """Write a file into the sandbox. Directories on the way are made; a file that is there is replaced."""
    data = _bytes(content, encoding)
    async with (await session_of(context)).using(sandbox_id) as sandbox:
        await sandbox.files.write_bytes(path, data, mode="0755" if executable else "0644")
    return f"wrote {len(data):,} bytes to {shown(path, 256)}"


def _bytes(content: str, encoding: str) -> bytes:
    if len(content) > MAX_WRITE:
        raise ToolError(f"that is more than {MAX_WRITE:,} characters: make the file in the sandbox, or use upload_file")
    try:
        return base64.b64decode(content, validate=True) if encoding == "base64" else content.encode()
    except (binascii.Error, UnicodeError) as error:
        raise ToolError(f"content is not {encoding}: {error}") from error


async def list_files(context: Ctx, path: Path_ = "/workspace", sandbox_id: SandboxId = None) -> str:
    """List a directory of the sandbox: permissions, size in bytes, name; directories end in /."""
    async with (await session_of(context)).using(sandbox_id) as sandbox:
        found = await sandbox.files.list(path)
    lines = [
        f"{each.permissions or '?':10}  {each.size:>12}  {each.name}{'/' if each.is_directory else ''}"
        for each in found
    ]
    return _table(lines, "an empty directory")


async def delete_file(context: Ctx, path: Path_, sandbox_id: SandboxId = None) -> str:
    """Delete a file, or a directory with everything in it."""
    async with (await session_of(context)).using(sandbox_id) as sandbox:
        await sandbox.files.remove(path)
    return f"deleted {shown(path, 256)}"


def shared_directory(session: Session) -> Path:
    if session.order.shared is None:
        raise ToolError("no directory is shared with sandboxes: start `atoll mcp` with --share DIR")
    return session.order.shared


async def upload_file(
    context: Ctx,
    local_path: Annotated[str, Field(description="File of the user's machine, below the shared directory.")],
    path: Path_,
    sandbox_id: SandboxId = None,
) -> str:
    """Copy a file from the user's shared directory into the sandbox."""
    session = await session_of(context)
    data = await asyncio.to_thread(local_files.read, shared_directory(session), local_path)
    async with session.using(sandbox_id) as sandbox:
        await sandbox.files.write_bytes(path, data)
    return f"copied {len(data):,} bytes to {shown(path, 256)}"


async def download_file(
    context: Ctx,
    path: Path_,
    local_path: Annotated[str, Field(description="New file of the user's machine, below the shared directory.")],
    sandbox_id: SandboxId = None,
) -> str:
    """Copy a file out of the sandbox into the user's shared directory. Files there are never replaced."""
    session = await session_of(context)
    root = shared_directory(session)
    local_files.inside(root, local_path)
    async with session.using(sandbox_id) as sandbox:
        data = await _whole(sandbox, path)
    written = await asyncio.to_thread(local_files.write, root, local_path, data)
    return f"copied {len(data):,} bytes to {written}"


async def _whole(sandbox: AsyncSandbox, path: str) -> bytes:
    """What comes is the sandbox's word against ours: more than is allowed is not waited for."""
    data = bytearray()
    async with aclosing(sandbox.files.iter_bytes(path)) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) > local_files.MAX_BYTES:
                raise ToolError(
                    f"{shown(path, 256)} is larger than {local_files.MAX_BYTES:,} bytes; use `atoll cp` for it"
                )
    return bytes(data)


# ---- the network


async def get_url(
    context: Ctx,
    port: Annotated[int, Field(description="Port that a program in the sandbox listens on.", ge=1, le=65_535)],
    seconds: Annotated[int, Field(description="How long the URL opens the door.", ge=60, le=604_800)] = LINK_S,
    sandbox_id: SandboxId = None,
) -> str:
    """Get a URL for a web server in the sandbox, for the user's browser.

    Start the server first (run_command with background). Whoever has the URL gets in until it expires.
    """
    async with (await session_of(context)).using(sandbox_id) as sandbox:
        link = await sandbox.create_link(port, seconds=seconds)
    return f"{link.url}\n(opens port {port} until {link.expires_at:%Y-%m-%d %H:%M} UTC)"


async def get_network_log(
    context: Ctx,
    limit: Annotated[int, Field(description="How many of the latest entries.", ge=1, le=500)] = 50,
    sandbox_id: SandboxId = None,
) -> str:
    """Show what the sandbox connected to, and what was refused by which rule. Look here when the network fails."""
    async with (await session_of(context)).using(sandbox_id) as sandbox:
        page = await sandbox.get_egress_log(after=-limit, limit=limit)
    return _table([_log_line(each) for each in page.entries], "no connection yet")


def _log_line(entry: dict[str, Any]) -> str:
    kept = {name: value for name, value in entry.items() if name not in ("seq", "sandbox_id")}
    return json.dumps(kept, ensure_ascii=False, default=str)


# ---- sandboxes


async def create_sandbox(
    context: Ctx,
    template: Annotated[
        str | None,
        Field(description="code-interpreter (Python with data packages, Node, Go), base, busybox, or one of your own."),
    ] = None,
) -> str:
    """Make a further sandbox, apart from the session's own, and get its id.

    Only needed for work that must not touch the other's files; pass the id as sandbox_id to the other tools.
    """
    made = await (await session_of(context)).create(template)
    return f"sandbox {made.sandbox_id} runs; pass sandbox_id={made.sandbox_id!r}"


async def list_sandboxes(context: Ctx) -> str:
    """List this session's sandboxes with their states and when they end."""
    session = await session_of(context)
    ids = list(dict.fromkeys(filter(None, (session.default_id, *session.ids))))
    return _table([await _sandbox_line(session, each) for each in ids], "none yet; the first call makes one")


async def _sandbox_line(session: Session, sandbox_id: str) -> str:
    try:
        async with session.using(sandbox_id) as sandbox:
            info = await sandbox.get_info()
    except ToolError as error:
        return f"{sandbox_id}  {error}"
    ends = f", ends {info.expires_at:%Y-%m-%d %H:%M} UTC" if info.expires_at else ""
    own = "  (the session's own)" if sandbox_id == session.default_id else ""
    return f"{sandbox_id}  {info.status}  {info.template_name}{ends}{own}"


async def pause_sandbox(context: Ctx, sandbox_id: SandboxId = None) -> str:
    """Freeze a sandbox: its programs stand still and use no processor until resume_sandbox."""
    async with (await session_of(context)).using(sandbox_id) as sandbox:
        await sandbox.pause()
    return f"sandbox {sandbox.sandbox_id} is paused"


async def resume_sandbox(context: Ctx, sandbox_id: SandboxId = None) -> str:
    """Let a paused sandbox go on where it was."""
    async with (await session_of(context)).using(sandbox_id) as sandbox:
        await sandbox.resume()
    return f"sandbox {sandbox.sandbox_id} runs"


async def kill_sandbox(
    context: Ctx, sandbox_id: Annotated[str, Field(description="Which sandbox; see list_sandboxes.", min_length=1)]
) -> str:
    """Delete a sandbox with all of its files and programs. They cannot be got back."""
    await (await session_of(context)).kill(sandbox_id)
    return f"sandbox {shown(sandbox_id, 64)} is gone"


def _table(lines: list[str], otherwise: str) -> str:
    more = [f"[{len(lines) - MAX_LISTED} more left out]"] if len(lines) > MAX_LISTED else []
    return (
        clip("\n".join([*(shown(line, 1_000).replace("\n", "\ufffd") for line in lines[:MAX_LISTED]), *more]))
        or otherwise
    )


# ---- the table


@dataclass(frozen=True)
class Offer:
    function: Callable[..., Any]
    title: str
    annotations: ToolAnnotations


OFFERS = (
    Offer(run_code, "Run code", RUNS),
    Offer(run_command, "Run a shell command", RUNS),
    Offer(list_processes, "List background processes", READS),
    Offer(get_process_output, "Show a process's output", READS),
    Offer(kill_process, "End a process", DESTROYS),
    Offer(read_file, "Read a file", READS),
    Offer(write_file, "Write a file", DESTROYS),
    Offer(list_files, "List a directory", READS),
    Offer(delete_file, "Delete a file", DESTROYS),
    Offer(get_url, "Get a URL of a port", CHANGES),
    Offer(get_network_log, "Show network connections", READS),
    Offer(create_sandbox, "Make a sandbox", CHANGES),
    Offer(list_sandboxes, "List sandboxes", READS),
    Offer(pause_sandbox, "Pause a sandbox", CHANGES),
    Offer(resume_sandbox, "Resume a sandbox", CHANGES),
    Offer(kill_sandbox, "Delete a sandbox", DESTROYS),
)
SHARING = (
    Offer(upload_file, "Copy a file into the sandbox", DESTROYS),
    Offer(download_file, "Copy a file out of the sandbox", CHANGES),
)
"""Only with a directory of the user's machine."""
