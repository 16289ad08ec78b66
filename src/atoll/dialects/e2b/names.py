"""How E2B's clients name templates, `[namespace/]name[:tag]`, and what that is here. Pure.

A template has one build at a time: the one of its digest. Its tag is `default`, and the build's id is as good as a tag.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

from atoll.core.errors import InvalidInput, NotFound
from atoll.core.template import Template

NAMESPACE = "atoll"
"""Of every template of an installation; a name without one means the same."""
NAMESPACES = frozenset((None, NAMESPACE, "novita"))
"""Novita's clients ask for `novita/base`."""
DEFAULT_TAG = "default"

_BUILDS = uuid.UUID("6c7fb3a8-6f0e-5b7e-9d0a-3f8f7f0c2b11")
_REFERENCE = re.compile(r"(?:([a-z0-9_-]+)/)?([a-z0-9_-]+)(?::([a-z0-9_.-]+))?")
MAX_REFERENCE = 256


@dataclass(frozen=True)
class Reference:
    name: str
    tag: str = DEFAULT_TAG


def parse_reference(text: str) -> Reference:
    """
    >>> parse_reference("Base")
    Reference(name='base', tag='default')
    >>> parse_reference("atoll/code-interpreter-v1:default").name
    'code-interpreter-v1'
    """
    if text.count("/") > 1:  # the path of something that is not there
        raise NotFound(f"template '{text[:MAX_REFERENCE]}' not found", template=text[:MAX_REFERENCE])
    match = _REFERENCE.fullmatch(text.lower()) if len(text) <= MAX_REFERENCE else None
    if match is None:
        raise InvalidInput(f"Invalid template reference: {text[:64]}", field="templateID")
    namespace, name, tag = match.groups()
    if namespace not in NAMESPACES:
        raise NotFound(f"template '{text[:MAX_REFERENCE]}' not found", template=text[:MAX_REFERENCE])
    return Reference(name, tag or DEFAULT_TAG)


def check_tag(reference: Reference, template: Template) -> None:
    if reference.tag not in (DEFAULT_TAG, build_id(template)):
        raise NotFound(f"tag '{reference.tag}' does not exist for template '{reference.name}'", tag=reference.tag)


def build_id(template: Template) -> str:
    """A UUID, which clients insist on; the same as long as the template's content is."""
    return str(uuid.uuid5(_BUILDS, f"{template.name} {template.digest}"))
