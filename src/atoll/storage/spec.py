"""A template as its author writes it: one YAML file, and what follows from it. Pure but for `load_directory`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from atoll.core.errors import InvalidInput
from atoll.core.limits import LARGEST, RESOURCES, SMALLEST, Limits, Size
from atoll.core.template import Template

BUILDER = "2"  # part of every digest: raise it when the same file would now give another layer
VARIANTS = ("apt", "minbase", "extract")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.:-]+")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_MODE = re.compile(r"0?[0-7]{3,4}")


@dataclass(frozen=True)
class File:
    path: str
    content: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class TemplateSpec:
    name: str
    parent: str | None = None
    variant: str = "apt"
    """How mmdebstrap makes the lowest layer; without meaning when there is a parent."""
    packages: tuple[str, ...] = ()
    requirements: str = ""
    """The text of a hash-pinned requirements file; wheels only."""
    files: tuple[File, ...] = ()
    commands: tuple[str | tuple[str, ...], ...] = ()
    """Run as root inside, without a network: a text by /bin/sh, a list as it is."""
    python: str | None = None
    preload: tuple[str, ...] = ()
    workdir: str = "/workspace"
    env: dict[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    min_size: Size = SMALLEST
    max_size: Size = LARGEST
    """What a caller may ask for; both may name some of the resources only."""
    display_name: str = ""
    description: str = ""
    category: str = "general"
    language: str = ""
    features: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


_FIELDS = (TemplateSpec.__dataclass_fields__.keys() - {"parent", "requirements"}) | {"from", "pip"}


@dataclass(frozen=True)
class Step:
    """One layer to be there, and the template that it completes."""

    spec: TemplateSpec
    digest: str
    below: tuple[str, ...]
    """(template name, layer digest) pairs as `name/digest`, uppermost first."""

    @property
    def layer(self) -> str:
        return f"{self.spec.name}/{self.digest}"


def parse(text: str, attachments: Mapping[str, str] | None = None) -> TemplateSpec:
    """`attachments` are the files that `pip:` and a file's `copy:` may name, by their path beside the template's."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"not YAML: {error}") from error
    if not isinstance(data, dict):
        raise InvalidInput("a template file is a mapping")
    if unknown := sorted(map(str, data.keys() - _FIELDS)):
        raise InvalidInput(f"unknown fields: {', '.join(unknown)}")
    name = _text(data, "name", _NAME)
    try:
        return _spec(name, data, attachments or {})
    except InvalidInput as error:
        raise InvalidInput(f"template {name}: {error.message}") from error


def _spec(name: str, data: Mapping[str, Any], attachments: Mapping[str, str]) -> TemplateSpec:
    variant = data.get("variant", "apt")
    if variant not in VARIANTS:
        raise InvalidInput(f"variant is one of {', '.join(VARIANTS)}")
    return TemplateSpec(
        name=name,
        parent=None if data.get("from") is None else _text(data, "from", _NAME),
        variant=variant,
        packages=_texts(data, "packages", _PACKAGE),
        requirements=_requirements(data.get("pip"), attachments),
        files=tuple(_file(item, attachments) for item in _list(data, "files")),
        commands=tuple(_command(item) for item in _list(data, "commands")),
        python=None if data.get("python") is None else _absolute(data["python"], "python"),
        preload=_texts(data, "preload", _MODULE),
        workdir=_absolute(data.get("workdir", "/workspace"), "workdir"),
        env=_env(data.get("env", {})),
        **_sizes(data),
        display_name=str(data.get("display_name", name)),
        description=str(data.get("description", "")),
        category=str(data.get("category", "general")),
        language=str(data.get("language", "")),
        features=_texts(data, "features"),
        tags=_texts(data, "tags"),
    )


def _text(data: Mapping[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidInput(f"{key} is missing or malformed: {value!r}")
    return value


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key) or []
    if not isinstance(value, list):
        raise InvalidInput(f"{key} is a list")
    return value


def _texts(data: Mapping[str, Any], key: str, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
    values = _list(data, key)
    for value in values:
        if not isinstance(value, str) or (pattern and not pattern.fullmatch(value)):
            raise InvalidInput(f"{key} holds a malformed entry: {value!r}")
    return tuple(values)


def _absolute(value: object, key: str) -> str:
    if not isinstance(value, str) or not value.startswith("/") or ".." in value.split("/") or "\0" in value:
        raise InvalidInput(f"{key} is an absolute path without '..': {value!r}")
    return value


def _requirements(name: object, attachments: Mapping[str, str]) -> str:
    if name is None:
        return ""
    text = attachments.get(str(name))
    if text is None:
        raise InvalidInput(f"pip names a file that is not beside it: {name!r}")
    if "--hash=" not in text:
        raise InvalidInput(f"{name} must pin every package with --hash")
    return text


def _file(item: object, attachments: Mapping[str, str]) -> File:
    if not isinstance(item, dict) or item.keys() - {"path", "content", "copy", "mode", "uid", "gid"}:
        raise InvalidInput("a file is {path, content or copy, mode, uid, gid}")
    mode = item.get("mode", "0644")
    if not isinstance(mode, str) or not _MODE.fullmatch(mode):  # as a number YAML would read it in one of two ways
        raise InvalidInput(f'the mode of {item.get("path")!r} is a text of octal digits, such as "0644"')
    owner = (item.get("uid", 0), item.get("gid", 0))
    if not all(isinstance(number, int) and 0 <= number < 65536 for number in owner):
        raise InvalidInput(f"uid and gid of {item.get('path')!r} are numbers below 65536")
    return File(_absolute(item.get("path"), "path"), _content(item, attachments), int(mode, 8), *owner)


def _content(item: Mapping[str, Any], attachments: Mapping[str, str]) -> str:
    if "copy" not in item:
        return str(item.get("content", ""))
    if "content" in item or item["copy"] not in attachments:
        raise InvalidInput(f"copy of {item.get('path')!r} names a file that is not beside it: {item['copy']!r}")
    return attachments[item["copy"]]


def _command(item: object) -> str | tuple[str, ...]:
    if isinstance(item, str):
        return item
    if isinstance(item, list) and item and all(isinstance(word, str) for word in item):
        return tuple(item)
    raise InvalidInput(f"a command is a text or a list of texts: {item!r}")


def _env(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(k, str) and _VARIABLE.fullmatch(k) for k in value):
        raise InvalidInput("env maps variable names to texts")
    return {key: str(text) for key, text in value.items()}


def _limits(value: object) -> Limits:
    if not isinstance(value, dict) or value.keys() - Limits.__dataclass_fields__.keys():
        raise InvalidInput(f"limits are {', '.join(Limits.__dataclass_fields__)}")
    if not all(isinstance(number, int) and number > 0 for number in value.values()):
        raise InvalidInput("limits are positive whole numbers")
    return Limits.from_wire(value)


def _sizes(data: Mapping[str, Any]) -> dict[str, Any]:  # Any: keyword arguments of TemplateSpec
    limits = _limits(data.get("limits", {}))
    smallest = _size(data, "min_size", SMALLEST, limits, min)
    largest = _size(data, "max_size", LARGEST, limits, max)
    for resource in RESOURCES:
        least, usual, most = (getattr(part, resource) for part in (smallest, limits, largest))
        if not least <= usual <= most:
            raise InvalidInput(
                f"{resource}: min_size is {least}, the limit {usual}, max_size {most}: not in this order"
            )
    return {"limits": limits, "min_size": smallest, "max_size": largest}


def _size(data: Mapping[str, Any], key: str, usual: Size, limits: Limits, further: Callable[[int, int], int]) -> Size:
    """What is not named is the usual, moved as far as the template's own limit."""
    value = data.get(key, {})
    if not isinstance(value, dict) or value.keys() - set(RESOURCES):
        raise InvalidInput(f"{key} names some of {', '.join(RESOURCES)}")
    if not all(isinstance(number, int) and number > 0 for number in value.values()):
        raise InvalidInput(f"{key} holds positive whole numbers")
    return Size(**{name: value.get(name, further(getattr(usual, name), getattr(limits, name))) for name in RESOURCES})


def load_directory(directory: Path) -> list[TemplateSpec]:
    beside = (*directory.glob("*.txt"), *(path for path in directory.glob("*/*") if path.is_file()))
    attachments = {path.relative_to(directory).as_posix(): path.read_text() for path in beside}
    return [parse(path.read_text(), attachments) for path in sorted(directory.glob("*.yaml"))]


def plan(specs: Iterable[TemplateSpec], platform: str) -> list[Step]:
    """The layers in the order in which they can be made. `platform` names release and machine."""
    by_name = {spec.name: spec for spec in specs}
    steps: dict[str, Step] = {}

    def add(name: str, descendants: tuple[str, ...]) -> Step:
        if name in steps:
            return steps[name]
        if name in descendants:
            raise InvalidInput(f"templates are built from each other: {' → '.join((*descendants, name))}")
        spec = by_name.get(name)
        if spec is None:
            raise InvalidInput(f"template {descendants[-1]} is built from {name}, which does not exist")
        below = () if spec.parent is None else _stack(add(spec.parent, (*descendants, name)))
        steps[name] = Step(spec, layer_digest(spec, below, platform), below)
        return steps[name]

    for name in by_name:
        add(name, ())
    return list(steps.values())


def _stack(step: Step) -> tuple[str, ...]:
    return (step.layer, *step.below)


def layer_digest(spec: TemplateSpec, below: tuple[str, ...], platform: str) -> str:
    built = (spec.variant, spec.packages, spec.requirements, [asdict(file) for file in spec.files], spec.commands)
    return _digest([BUILDER, platform, below, spec.python, *built])


def template_of(step: Step, templates: Path, created_at: float) -> Template:
    spec = step.spec
    return Template(
        name=spec.name,
        digest=_digest([step.digest, spec.python, spec.preload, spec.env, spec.workdir]),
        layers=tuple(str(templates / name / "layers" / digest) for name, digest in map(_split, _stack(step))),
        display_name=spec.display_name,
        description=spec.description,
        category=spec.category,
        language=spec.language,
        features=spec.features,
        tags=spec.tags,
        python=spec.python,
        preload=spec.preload,
        workdir=spec.workdir,
        env=spec.env,
        limits=spec.limits,
        min_size=spec.min_size,
        max_size=spec.max_size,
        created_at=created_at,
    )


def same_but_for_age(one: Template, other: Template) -> bool:
    return replace(one, created_at=0.0) == replace(other, created_at=0.0)


def _split(layer: str) -> tuple[str, str]:
    name, _, digest = layer.partition("/")
    return name, digest


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
