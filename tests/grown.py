"""A data directory with a template of the test's own: `base`, and a layer more, whose builds it changes as it likes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from atoll.storage import templates
from atoll.storage.prepare import prepare
from stack import templates_dir

NAME = "grown"
LIBRARY = Path("usr/lib/python3/dist-packages")


class Grown:
    def __init__(self, data: Path) -> None:
        self.data = data
        prepare(templates_dir(), only=["base"])
        self._place = templates.private_place(data)
        for name in ("node/images", "runtime"):
            (data / name).symlink_to(templates_dir() / name)
        (self._place / "base").mkdir()
        (self._place / "base" / "layers").symlink_to(templates.place(templates_dir()) / "base" / "layers")

    def build(self, digest: str, module: str) -> Path:
        """Preloads `module`, as `grown`. Returns the layer. What was built before stays."""
        layer = self._place / NAME / "layers" / digest
        (layer / LIBRARY).mkdir(parents=True)
        (layer / LIBRARY / f"{NAME}.py").write_text(module)
        base = templates.load(templates_dir(), "base")
        made = replace(base, name=NAME, digest=digest, layers=(str(layer), *base.layers), preload=(NAME,))
        draft = self._place / NAME / "template.new"
        draft.write_text(json.dumps(made.to_wire()))
        draft.rename(draft.with_suffix(".json"))
        return layer
