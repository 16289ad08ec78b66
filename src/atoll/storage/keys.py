"""Keys at rest. Each disk has a key of its own; what is stored of it is wrapped by the node's master key.

Destroying the wrapped key destroys the data: nothing else can open the disk. The sandbox's id is authenticated with
it, so a wrapped key that is moved to another sandbox's handle does not open.
"""

from __future__ import annotations

import base64
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from atoll.core.errors import InternalError

MASTER_BYTES = 32
DISK_BYTES = 64  # fscrypt v2 with AES-256-XTS takes 64
_NONCE_BYTES = 12
_FORM = "v1."


def master_key(path: Path) -> bytes:
    """Reads the node's key; makes it the first time. Never replaces a damaged one: disks would be lost."""
    try:
        return _read(path)
    except FileNotFoundError:
        _create(path)
        return _read(path)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        key = file.read(MASTER_BYTES + 1)
    if mode & 0o077:
        raise InternalError(f"{path} can be read by others (mode {mode:04o}); it holds the master key: chmod 600 it")
    if len(key) != MASTER_BYTES:
        raise InternalError(f"{path} is damaged: it must hold {MASTER_BYTES} bytes. Restore it from a backup")
    return key


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(MASTER_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # unlike a rename this cannot replace a key made at the same moment
        except FileExistsError:
            return
    finally:
        fresh.unlink()
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def new_disk_key() -> bytes:
    return secrets.token_bytes(DISK_BYTES)


def wrap(master: bytes, key: bytes, sandbox_id: str) -> str:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(master).encrypt(nonce, key, _context(sandbox_id))
    return _encode(nonce + sealed)


def unwrap(master: bytes, wrapped: str, sandbox_id: str) -> bytes:
    try:
        if not wrapped.startswith(_FORM):
            raise ValueError("unknown form")
        sealed = base64.b64decode(wrapped.removeprefix(_FORM), altchars=b"-_", validate=True)
        if _encode(sealed) != wrapped:
            raise ValueError("not the form that we write")  # the last character has two bits that say nothing
        return AESGCM(master).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _context(sandbox_id))
    except (ValueError, InvalidTag) as error:
        raise InternalError("the disk's key does not open: another master key, another sandbox, or damage") from error


def _encode(sealed: bytes) -> str:
    return _FORM + base64.urlsafe_b64encode(sealed).decode()


def _context(sandbox_id: str) -> bytes:
    return f"atoll disk key {sandbox_id}".encode()
