"""Templates on disk: which layers exist, which must be built, and the `template.json` that speaks for them.

    DATA/node/templates/NAME/layers/DIGEST/     a layer; appears by rename, is never changed afterwards
    DATA/node/templates/NAME/template.json      written when every layer is there

A layer of an older digest stays: a stopped sandbox's disk is the difference to exactly that one.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from atoll.core.errors import InternalError, NotFound
from atoll.core.template import Template, Unbuilt

from . import apt
from .builds import noted, standing
from .layers import build_layer
from .progress import Progress, silent
from .spec import Step, TemplateSpec, load_directory, plan, same_but_for_age, template_of

STOCK = Path(__file__).with_name("stock")
_SCRATCH = ".new-"


def place(data_dir: Path) -> Path:
    """Without links: the paths in `template.json` must outlive a directory that borrows these templates."""
    return (data_dir / "node" / "templates").resolve()


def private_place(data_dir: Path) -> Path:
    """Layers hold set-uid programs of root, some of them old by now: no user of the host may come as far as there."""
    templates = place(data_dir)
    templates.mkdir(mode=0o700, parents=True, exist_ok=True)
    templates.chmod(0o700)
    return templates


def stock_specs() -> list[TemplateSpec]:
    return load_directory(STOCK)


def host_platform() -> str:
    return f"{apt.suite()}/{platform.machine()}"


def build_templates(
    data_dir: Path, specs: Iterable[TemplateSpec], progress: Progress = silent, only: Iterable[str] | None = None
) -> list[Template]:
    """Builds what is missing (with `only`: for these and what they are built from)."""
    templates = private_place(data_dir)
    steps = wanted(plan(specs, host_platform()), only)
    built: list[Template] = []
    for step in steps:
        target = templates / step.spec.name / "layers" / step.digest
        if not target.is_dir():
            with noted(templates / step.spec.name, progress) as told:
                _build(templates, step, target, told)
        built.append(_publish(templates, step))
    return built


def outdated(data_dir: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that have a layer to be built. NotFound for a name that is none."""
    steps = {step.spec.name: step for step in plan(stock_specs(), host_platform())}
    check_names(names := list(names), steps)
    return tuple(name for name in names if not (place(data_dir) / name / "layers" / steps[name].digest).is_dir())


def check_names(names: Iterable[str], known: Iterable[str]) -> None:
    if unknown := set(names) - set(known):
        there_are = f"there are {', '.join(sorted(known))}"
        raise NotFound(f"no such template: {', '.join(sorted(unknown))}; {there_are}")


def wanted(steps: list[Step], only: Iterable[str] | None) -> list[Step]:
    if only is None:
        return steps
    names = set(only)
    check_names(names, [step.spec.name for step in steps])
    names |= {layer.partition("/")[0] for step in steps if step.spec.name in names for layer in step.below}
    return [step for step in steps if step.spec.name in names]


def load(data_dir: Path, name: str) -> Template:
    template = _read(place(data_dir) / name / "template.json")
    if template is None:
        raise NotFound(f"template {name} is not built on this machine")
    return template


def load_all(data_dir: Path) -> list[Template]:
    found = (_read(path) for path in sorted(place(data_dir).glob("*/template.json")))
    return [template for template in found if template is not None]


def unbuilt(data_dir: Path) -> list[Unbuilt]:
    """The stock templates that are not there."""
    names = sorted(path.stem for path in STOCK.glob("*.yaml"))
    directories = (place(data_dir) / name for name in names)
    return [standing(directory) for directory in directories if not (directory / "template.json").exists()]


def _build(templates: Path, step: Step, target: Path, progress: Progress) -> None:
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _sweep(target.parent)
    below = [templates / name / "layers" / digest for name, _, digest in (layer.partition("/") for layer in step.below)]
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=target.parent))
    try:
        layer = build_layer(step.spec, below, scratch, progress)
        _sync(layer)
        os.rename(layer, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sweep(layers: Path) -> None:
    """What a killed build left. The caller holds the lock of the data directory, so no other build is at work."""
    for path in layers.glob(f"{_SCRATCH}*"):
        shutil.rmtree(path, ignore_errors=True)


def _sync(directory: Path) -> None:
    # The name must not outlive a power cut that the files' bytes do not.
    os.sync()
    if not directory.is_dir():
        raise InternalError(f"the build left no {directory.name}")


def _publish(templates: Path, step: Step) -> Template:
    path = templates / step.spec.name / "template.json"
    template = template_of(step, templates, time.time())
    known = _read(path)
    if known is not None and same_but_for_age(known, template):
        return known
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    fresh.write_text(json.dumps(template.to_wire(), indent=2) + "\n")
    os.rename(fresh, path)
    return template


def _read(path: Path) -> Template | None:
    try:
        return Template.from_wire(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise InternalError(
            f"{path.name} of template {path.parent.name} is damaged; remove it and build again"
        ) from error
