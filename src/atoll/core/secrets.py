"""Secrets: values that callers give once, and that only the egress daemon puts into requests. Pure.

A sandbox uses one in either of two ways, and never holds its value:
- a header rule of its policy says `${e2b.secrets.NAME}` or `${atoll.secrets.NAME}`;
- an environment variable of it holds a random placeholder, which is replaced in the headers of requests to the
  secret's own hosts. Anywhere else the placeholder goes out as it is, and is worth nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidInput
from .limits import too_much
from .names import parse_pattern, patterns_of

MAX_SECRETS = 1000
"""Of one organization."""
MAX_NAME, MAX_DESCRIPTION, MAX_HOSTS = 128, 1024, 20
MAX_USES = 64
"""Of one sandbox: variables that stand for a secret, and as many places in its header rules."""
MAX_VALUE = 8 * 1024
"""Bytes: most servers take no longer line of a header."""
PLACEHOLDER_PREFIX = "atoll_secret_"

_WORD = rf"[A-Za-z0-9_-][A-Za-z0-9_.-]{{0,{MAX_NAME - 1}}}"
_NAME = re.compile(_WORD)
_ID = re.compile(r"sec_[0-9a-f]{24}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\ud7ff\ue000-\U0010ffff]+")
PLACEHOLDER = re.compile(rf"{PLACEHOLDER_PREFIX}[0-9a-f]{{40}}")
_REFERENCE = re.compile(rf"\$\{{(?:e2b|atoll)\.secrets\.({_WORD})\}}")
_IDENTITY = re.compile(r"\$\{e2b\.identity\.tokens\.[A-Za-z0-9_-]{1,128}\}")

Wire = dict[str, Any]  # Any: JSON values


@dataclass(frozen=True)
class Secret:
    """All that is ever told of one; its value is not here."""

    id: str
    organization_id: int
    name: str
    version: int
    """How many values it has had."""
    hosts: tuple[str, ...]
    """The names to which it may go, and patterns for such. Empty: to those of header rules that refer to it."""
    description: str
    metadata: dict[str, str]
    created_at: float
    updated_at: float


@dataclass(frozen=True)
class SecretUse:
    """A variable of one sandbox that stands for a secret."""

    variable: str
    secret: str
    """Its name."""
    placeholder: str
    """What the variable holds."""

    def to_wire(self) -> Wire:
        return {"variable": self.variable, "secret": self.secret, "placeholder": self.placeholder}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> SecretUse:
        return cls(str(data["variable"]), str(data["secret"]), str(data["placeholder"]))


@dataclass(frozen=True)
class SecretValue:
    """A secret on its way to the egress daemon, and there."""

    name: str
    value: str = field(repr=False)
    hosts: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()
    """Those of one sandbox."""

    def may_go_to(self, host: str) -> bool:
        return not self.hosts or self.is_for(host)

    def is_for(self, host: str) -> bool:
        """Whether one of its hosts is, or covers, that name."""
        return not frozenset(self.hosts).isdisjoint(patterns_of(host))

    def to_wire(self) -> Wire:
        return {
            "name": self.name,
            "value": self.value,
            "hosts": list(self.hosts),
            "placeholders": list(self.placeholders),
        }

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> SecretValue:
        return cls(str(data["name"]), str(data["value"]), tuple(data["hosts"]), tuple(data["placeholders"]))


def new_id() -> str:
    return f"sec_{secrets.token_hex(12)}"


def new_placeholder() -> str:
    """A word that programs take for a key. 160 random bits: nobody meets another one's by chance."""
    return PLACEHOLDER_PREFIX + secrets.token_hex(20)


def told_placeholder(key: bytes, organization_id: int, name: str) -> str:
    """The one that callers are told with a secret: derived, never stored, the same in every sandbox that has it. Where
    it is known and not given to a sandbox it is worth as little as another's. `key`: the installation's signing key."""
    mac = hmac.new(key, f"atoll secret placeholder\0{organization_id}\0{name}".encode(), hashlib.sha256)
    return PLACEHOLDER_PREFIX + mac.hexdigest()[:40]


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


# ---- what a caller gives; each raises InvalidInput


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name) or is_id(name):
        raise InvalidInput(
            f"a secret's name has 1 to {MAX_NAME} letters, digits, '-', '_' and '.' (not in front), and is not like an "
            "id (sec_…)",
            field="name",
        )
    return name


def check_value(value: str) -> str:
    """The error does not quote it."""
    if value.endswith(("\n", "\r")):
        raise InvalidInput("the secret's value ends with a line break: give it without", field="value")
    if not _VALUE.fullmatch(value):
        raise InvalidInput("a secret's value is a text of one line without control characters", field="value")
    if len(value.encode()) > MAX_VALUE:
        raise InvalidInput(f"a secret's value has at most {MAX_VALUE} bytes: it has to fit a header", field="value")
    return value


def check_hosts(hosts: Sequence[str]) -> tuple[str, ...]:
    """In their normal form, each once."""
    if len(hosts) > MAX_HOSTS:
        raise InvalidInput(f"a secret has at most {MAX_HOSTS} hosts", field="hosts")
    return tuple(dict.fromkeys(_host(each) for each in hosts))


def _host(text: str) -> str:
    pattern = parse_pattern(text)
    if pattern is None or pattern == "*":
        raise InvalidInput(
            f'"{text[:MAX_NAME]}" is no host that a secret can go to: give names, without port, or `*.` and a name',
            field="hosts",
        )
    if pattern.startswith("*.") and pattern.count(".") == 1:
        raise InvalidInput(
            f'"{pattern}" is every host of a top-level domain, and anybody can have one there: give a name of your own '
            "after `*.`",
            field="hosts",
        )
    return pattern


def check_description(text: str) -> str:
    if len(text) > MAX_DESCRIPTION or any("\ud800" <= letter <= "\udfff" for letter in text) or "\0" in text:
        raise InvalidInput(f"a description is a text of at most {MAX_DESCRIPTION} characters", field="description")
    return text


def check_room(count: int) -> None:
    """For one more. Raises CapacityExceeded."""
    if count >= MAX_SECRETS:
        raise too_much(
            "quota",
            "secrets",
            limit=MAX_SECRETS,
            current=count,
            asked=1,
            message=f"The limit of {MAX_SECRETS} secrets is reached. Delete those that nothing uses.",
        )


def check_variables(uses: Mapping[str, str], env: Mapping[str, str]) -> None:
    """`uses`: variable → name of a secret."""
    if len(uses) > MAX_USES:
        raise InvalidInput(f"more than {MAX_USES} secrets in variables", field="secrets")
    for variable, name in uses.items():
        if variable in env:
            raise InvalidInput(f"the variable {variable[:64]} is given twice: as a secret, too", field="secrets")
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"the variable {variable[:64]} names no secret", field="secrets")


# ---- references in header rules


def check_references(header: str, text: str) -> None:
    """Of a rule's value; raises InvalidInput."""
    if "${e2b." in (rest := _IDENTITY.sub(" ", _REFERENCE.sub(" ", text))):
        raise InvalidInput("Network transform header contains a malformed E2B placeholder.", field="rules")
    if "${atoll." in rest:
        raise InvalidInput("Network transform header contains a malformed Atoll placeholder.", field="rules")
    if _IDENTITY.search(text):
        raise InvalidInput(
            f'Network transform header "{header}" refers to an identity token; this installation gives sandboxes no '
            "identity. Use a secret: ${e2b.secrets.NAME}.",
            field="rules",
        )


def check_uses(texts: Iterable[str]) -> None:
    """Of all values of a policy's rules: each place that refers to a secret is filled with up to `MAX_VALUE` bytes."""
    if sum(len(_REFERENCE.findall(text)) for text in texts) > MAX_USES:
        raise InvalidInput(f"Network transforms refer to secrets in more than {MAX_USES} places.", field="rules")


def references(text: str) -> tuple[str, ...]:
    """The names of the secrets that a rule's value refers to.

    >>> references("Bearer ${e2b.secrets.openai}")
    ('openai',)
    """
    return tuple(dict.fromkeys(_REFERENCE.findall(text)))


def filled(text: str, values: Mapping[str, str]) -> str:
    """With each reference's value in its place, once: what a value says is not looked at again."""
    return _REFERENCE.sub(lambda found: values[found[1]], text)


def by_name(values: Iterable[SecretValue]) -> tuple[SecretValue, ...]:
    """One order, so that the same policy has the same fingerprint."""
    return tuple(sorted(values, key=lambda each: each.name))
