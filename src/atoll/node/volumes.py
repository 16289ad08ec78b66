"""The volumes of this machine: an image each, and a note beside it with its size and its key, wrapped as a disk's.

Growing is done while nobody has the image: two that write to one file system would destroy it. The note says so first,
so what was cut off is repaired and done again when the node starts.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from atoll.core.engine import VolumeSpec
from atoll.core.errors import AtollError, NotFound, Unavailable
from atoll.core.volumes import DEFAULT_MIB, INODES_PER_MIB, VolumeMount
from atoll.storage import disks, keys

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Note:
    id: str
    size_mib: int
    wrapped_key: str = field(repr=False)
    grows_to_mib: int = 0
    """Larger than its size while that is being done."""

    @property
    def was_cut_off(self) -> bool:
        return self.grows_to_mib > self.size_mib


class Volumes:
    def __init__(self, directory: Path, master: bytes) -> None:
        self._images = directory / "images"
        self._directory = directory / "volumes"
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._master = master
        self._withheld: set[str] = set()

    def make(self, volume_id: str, size_mib: int, inodes: int | None = None) -> None:
        """The note comes last: an image without one is nothing. One that is there already is no error. Of the usual
        size it is a copy."""
        if self._note(volume_id).exists():
            return
        self.image(volume_id).unlink(missing_ok=True)
        if size_mib == DEFAULT_MIB and inodes in (None, size_mib * INODES_PER_MIB):
            disks.copy_image(disks.base_image(self._images, size_mib), self.image(volume_id))
        else:
            disks.make_image(self.image(volume_id), size_mib, inodes)
        wrapped = keys.wrap(self._master, keys.new_disk_key(), _context(volume_id))
        self._write(Note(volume_id, size_mib, wrapped))

    @contextlib.contextmanager
    def withheld(self, volume_id: str) -> Iterator[None]:
        """Meanwhile nobody gets it to mount."""
        if volume_id in self._withheld:
            raise Unavailable("the volume is being made larger, or removed; try again")
        self._withheld.add(volume_id)
        try:
            yield
        finally:
            self._withheld.discard(volume_id)

    def grow(self, volume_id: str, size_mib: int) -> None:
        """Nobody has the image. One that is as large already is no error."""
        note = self._read(volume_id)
        if size_mib <= note.size_mib:
            return
        self._write(replace(note, grows_to_mib=size_mib))
        disks.grow_image(self.image(volume_id), size_mib, repair=note.was_cut_off)
        self._write(replace(note, size_mib=size_mib, grows_to_mib=0))

    def clear(self) -> None:
        """What was just being made, or removed, when the node ended: without its note no image can be read."""
        for image in self._directory.glob("*.img"):
            if not self._note(image.stem).exists():
                image.unlink(missing_ok=True)

    def finish_growing(self) -> None:
        """After the node's end in the middle of it. One that cannot be finished is mounted by nobody in this life."""
        for volume_id in sorted(self.ids()):
            note = self._read(volume_id)
            if not note.was_cut_off:
                continue
            try:
                disks.grow_image(self.image(volume_id), note.grows_to_mib, repair=True)
            except (AtollError, OSError):
                log.exception("volume %s is still not as large as was begun", volume_id)
                self._withheld.add(volume_id)
            else:
                self._write(replace(note, size_mib=note.grows_to_mib, grows_to_mib=0))

    def close(self, volume_id: str) -> None:
        """Nobody mounts it any more: its key is gone. `remove` does the rest."""
        self._note(volume_id).unlink(missing_ok=True)

    def remove(self, volume_id: str) -> None:
        """The key goes first. One that is not there is no error."""
        self._note(volume_id).unlink(missing_ok=True)
        self.image(volume_id).unlink(missing_ok=True)

    def specs(self, mounts: Sequence[VolumeMount]) -> list[VolumeSpec]:
        return [VolumeSpec(self.image(mount.volume_id), self._key(mount.volume_id), mount.path) for mount in mounts]

    def used_bytes(self, volume_id: str) -> int:
        """Blocks that it takes on the host."""
        return self.image(volume_id).stat().st_blocks * 512

    def ids(self) -> set[str]:
        return {path.stem for path in self._directory.glob("*.json")}

    def _key(self, volume_id: str) -> bytes:
        if volume_id in self._withheld:
            raise Unavailable("the volume is being made larger, or removed; try again")
        return keys.unwrap(self._master, self._read(volume_id).wrapped_key, _context(volume_id))

    def _read(self, volume_id: str) -> Note:
        try:
            return Note(**json.loads(self._note(volume_id).read_bytes()))
        except FileNotFoundError:
            raise NotFound(f"volume {volume_id} is not on this node") from None

    def _write(self, note: Note) -> None:
        draft = self._note(note.id).with_suffix(".new")
        with open(draft, "w", opener=_private) as file:
            json.dump(asdict(note), file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._note(note.id))

    def _note(self, volume_id: str) -> Path:
        return self._directory / f"{volume_id}.json"

    def image(self, volume_id: str) -> Path:
        return self._directory / f"{volume_id}.img"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _context(volume_id: str) -> str:
    return f"{volume_id} volume"
