"""The templates that are built on this machine: `template.json` beside the layers, read again when it changed."""

from __future__ import annotations

import json
from pathlib import Path

from atoll.core.errors import NotFound
from atoll.core.template import Template


class Catalogue:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[Path, tuple[int, Template]] = {}

    def get(self, name: str) -> Template:
        if "/" not in name and name not in ("", ".", ".."):
            try:
                return self._load(self._directory / name / "template.json")
            except FileNotFoundError:
                pass
        raise NotFound(f"no template {name!r} on this node")

    def all(self) -> list[Template]:
        """A template is removed or half-made at any moment: what cannot be read now is not there."""
        found = []
        for path in sorted(self._directory.glob("*/template.json")):
            try:
                found.append(self._load(path))
            except FileNotFoundError:
                continue
        return found

    def _load(self, path: Path) -> Template:
        changed_ns = path.stat().st_mtime_ns
        known = self._read.get(path)
        if known is None or known[0] != changed_ns:
            known = (changed_ns, Template.from_wire(json.loads(path.read_bytes())))
            self._read[path] = known
        return known[1]
