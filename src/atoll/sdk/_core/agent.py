"""The calls to a sandbox's agent: what each sends, and the words of its streams."""

from __future__ import annotations

import base64
import json
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .errors import AGENT, AgentError, AtollError, ValidationError, error_of
from .read import Json, mapping, text
from .request import Repeat, Request

ANSWER_S = 30.0
"""How much later than the program's own time limit an answer may come."""
START_S = 30.0
"""For a program to be started in the background."""
AT_ONCE = 8 * 1024 * 1024
"""Larger contents are uploaded in pieces."""
DEFAULT_MODE = "0644"
MAX_MESSAGE = 16 * 1024 * 1024
"""Of a WebSocket, as the server has it."""
AGENT_PORT = 7777


def _given(**fields: Any) -> Json:  # Any: JSON values
    return {name: value for name, value in fields.items() if value is not None}


def _path(path: str) -> tuple[tuple[str, str], ...]:
    return (("path", path),)


def execute(
    path: str,
    code: str,
    language: str,
    timeout: float,
    env: Mapping[str, str] | None,
    working_dir: str | None,
) -> Request:
    body = _given(code=code, language=language, timeout=timeout, env=_env(env), workdir=working_dir)
    return Request("POST", path, json=body, timeout=timeout + ANSWER_S, repeat=Repeat.NEVER)


def execute_background(
    code: str, language: str, timeout: float, env: Mapping[str, str] | None, working_dir: str, name: str | None
) -> Request:
    body = _given(code=code, language=language, timeout=timeout, env=_env(env), workdir=working_dir, name=name)
    return Request("POST", "/execute/background", json=body, timeout=START_S, repeat=Repeat.NEVER)


def execute_async(
    code: str,
    callback_url: str,
    language: str,
    timeout: float,
    env: Mapping[str, str] | None,
    working_dir: str,
    callback_headers: Mapping[str, str] | None,
    callback_signature_secret: str | None,
) -> Request:
    body = _given(
        code=code,
        language=language,
        timeout=timeout,
        env=_env(env),
        workdir=working_dir,
        callback_url=callback_url,
        callback_headers=_env(callback_headers),
        callback_signature_secret=callback_signature_secret,
    )
    return Request("POST", "/execute/async", json=body, timeout=START_S, repeat=Repeat.NEVER)


def command(command: str, timeout: float, env: Mapping[str, str] | None, working_dir: str, background: bool) -> Request:
    body = _given(
        command="bash", args=["-c", command], timeout=timeout, env=_env(env), workdir=working_dir, name=command[:256]
    )
    if background:
        return Request("POST", "/commands/background", json=body, timeout=START_S, repeat=Repeat.NEVER)
    return Request("POST", "/commands/run", json=body, timeout=timeout + ANSWER_S, repeat=Repeat.NEVER)


def _env(env: Mapping[str, str] | None) -> dict[str, str] | None:
    return dict(env) if env else None


def kill_process(process_id: str) -> Request:
    return Request("POST", f"/execute/kill/{segment(process_id)}", repeat=Repeat.NEVER)


def process(process_id: str) -> Request:
    return Request("GET", f"/execute/processes/{segment(process_id)}")


def segment(value: str) -> str:
    if not value or value in (".", ".."):
        raise ValidationError(f"{value!r} is no id")
    return quote(value, safe="")


def read(path: str, timeout: float | None) -> Request:
    return Request("GET", "/files/read", _path(path), timeout=timeout)


def download(path: str, timeout: float | None) -> Request:
    return Request("GET", "/files/download", _path(path), timeout=timeout)


def write(path: str, content: str | bytes, mode: str, timeout: float | None) -> Request:
    body: Json = {"path": path, "mode": mode}
    if isinstance(content, str):
        body |= {"content": content}
    else:
        body |= {"content": base64.b64encode(content).decode("ascii"), "encoding": "base64"}
    return Request("POST", "/files/write", json=body, timeout=timeout)


def list_files(path: str, timeout: float | None) -> Request:
    return Request("GET", "/files/list", _path(path), timeout=timeout)


def exists(path: str, timeout: float | None) -> Request:
    return Request("GET", "/files/exists", _path(path), timeout=timeout)


def mkdir(path: str, timeout: float | None) -> Request:
    return Request("POST", "/files/mkdir", json={"path": path}, timeout=timeout)


def remove(path: str, timeout: float | None) -> Request:
    return Request("DELETE", "/files/remove", _path(path), timeout=timeout)


@dataclass(frozen=True)
class Upload:
    """A multipart body around the pieces of a file: its path first, so that the content can go on as it comes."""

    prefix: bytes
    suffix: bytes
    content_type: str

    def request(self, size: int | None, timeout: float | None) -> Request:
        """`size` of the file in bytes, when it is known: the server is told then how much will come."""
        headers = {"Content-Type": self.content_type}
        if size is not None:
            headers["Content-Length"] = str(len(self.prefix) + size + len(self.suffix))
        return Request("POST", "/files/upload", headers=headers, timeout=timeout, repeat=Repeat.NEVER)


def upload(path: str) -> Upload:
    boundary = f"atoll-{secrets.token_hex(16)}"
    try:
        name = path.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(f"{path!r} cannot be a path: it is no valid text", field="path") from error
    prefix = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="path"\r\n\r\n'.encode()
        + name
        + f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'.encode()
        + b"Content-Type: application/octet-stream\r\n\r\n"
    )
    return Upload(prefix, f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}")


def chmod(path: str, mode: str) -> str:
    """A shell line."""
    return f"chmod {shlex.quote(mode)} -- {shlex.quote(path)}"


def env(method: str, env_vars: Mapping[str, str | None] | None, timeout: float | None) -> Request:
    body: Json | None = None
    if env_vars is not None:
        body = {"env_vars": dict(env_vars), **({"merge": True} if method == "PATCH" else {})}
    return Request(method, "/env", json=body, timeout=timeout)


def get(path: str, timeout: float | None = None) -> Request:
    return Request("GET", path, timeout=timeout)


def post(path: str, timeout: float | None = None) -> Request:
    return Request("POST", path, timeout=timeout)


def desktop(path: str, body: Json | None, timeout: float | None) -> Request:
    """What moves a mouse is not repeated."""
    if body is None:
        return Request("GET", f"/desktop/{path}", timeout=timeout)
    return Request("POST", f"/desktop/{path}", json=body, timeout=timeout, repeat=Repeat.NEVER)


def desktop_query(path: str, name: str, value: str | None, timeout: float | None) -> Request:
    return Request("GET", f"/desktop/{path}", () if value is None else ((name, value),), timeout=timeout)


# ---- streams


def stream_order(
    code: str, language: str, timeout: float, env: Mapping[str, str] | None, working_dir: str | None
) -> Json:
    fields = _given(code=code, language=language, timeout=timeout, env=_env(env), workdir=working_dir)
    return {"type": "execute", **fields}


def message(raw: str | bytes) -> Json | None:
    """None for what is no JSON object. Raises the error that the server tells in the stream."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    if value.get("type") == "error":
        raise stream_error(value)
    return value


def stream_error(value: Json) -> AtollError:
    """In a stream an error has no status; its code says enough."""
    return error_of(AGENT, 0, {}, json.dumps(value).encode())


def is_last(value: Mapping[str, Any]) -> bool:  # Any: JSON values
    return value.get("type") in ("complete", "exit")


def broke_off(what: str) -> AgentError:
    return AgentError(f"The stream of {what} broke off before its end", code="STREAM_BROKEN")


def socket_url(base_url: str, path: str) -> str:
    scheme, _, rest = base_url.partition("://")
    return f"{'wss' if scheme.lower() == 'https' else 'ws'}://{rest}{path}"


# ---- addresses


def agent_url(base_url: str, sandbox_id: str) -> str:
    """By path on the server's own host: one name, one certificate and one pool of connections for all sandboxes."""
    return f"{base_url}/s/{segment(sandbox_id)}"


def port_url(base_url: str, sandbox_id: str, direct_url: str | None, port: int) -> str:
    """Below a domain each port has a name, and else a path, on the host by which the caller knows the server."""
    if not 0 < port < 65536:
        raise ValidationError(f"{port} is no port: it is a number from 1 to 65535", field="port")
    scheme, _, rest = (direct_url or "").partition("://")
    label, _, domain = rest.partition(".")
    if label == sandbox_id and "/" not in domain and domain:
        return f"{scheme}://{port}-{label}.{domain}/"
    return f"{agent_url(base_url, sandbox_id)}/{port}/"


def host_of(url: str) -> str:
    return url.partition("://")[2].rstrip("/")


def env_of(data: Mapping[str, Any]) -> dict[str, str]:  # Any: JSON values
    return {name: text(value) for name, value in mapping(data.get("env_vars")).items() if isinstance(value, str)}
