"""What a template is to everyone but its builder: `template.json` beside its layers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .limits import LARGEST, SMALLEST, Limits, Size


@dataclass(frozen=True)
class Template:
    name: str
    digest: str
    """Changes whenever anything that went into the layers changed."""
    layers: tuple[str, ...]
    """Directories, uppermost first, as overlayfs takes them."""
    display_name: str = ""
    description: str = ""
    category: str = "general"
    language: str = ""
    features: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    python: str | None = None
    """Path of the interpreter inside, or None for a template without Python."""
    preload: tuple[str, ...] = ()
    """Modules the interpreter zygote imports before the first fork."""
    workdir: str = "/workspace"
    env: dict[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    min_size: Size = SMALLEST
    max_size: Size = LARGEST
    created_at: float = 0.0
    """Unix seconds."""

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Template:
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        known["limits"] = Limits.from_wire(known.get("limits", {}))
        for name in known.keys() & {"min_size", "max_size"}:
            known[name] = Size.from_wire(known[name])
        for name in ("layers", "features", "tags", "preload"):
            known[name] = tuple(known.get(name, ()))
        return cls(**known)


@dataclass(frozen=True)
class Unbuilt:
    """A template that Atoll brings and this machine does not have (yet)."""

    name: str
    percent: int | None = None
    """How far its build is; None: nobody builds it."""
    failure: str = ""
    """Why the last build of it gave up; for who runs the machine, not for callers."""

    def __str__(self) -> str:
        """
        >>> str(Unbuilt("base", 42))
        'is being built on this machine, 42 % are done: try again soon'
        >>> str(Unbuilt("base"))
        'is not built on this machine: `atoll template build base` there does it'
        >>> str(Unbuilt("base", failure="/data: no space left on device"))
        'is not built on this machine, for its build failed: `atoll template build base` there tries it again'
        """
        if self.percent is not None:
            return f"is being built on this machine, {self.percent} % are done: try again soon"
        why, again = (", for its build failed", "tries it again") if self.failure else ("", "does it")
        return f"is not built on this machine{why}: `atoll template build {self.name}` there {again}"
