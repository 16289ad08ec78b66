"""What a caller asks for when a sandbox is created, and whether it may be asked at all."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from .errors import InvalidInput
from .ingress import DEFAULT, Dialect, Ingress
from .policy import OPEN, Policy
from .sandbox import InboundAuth, OnTimeout

MAX_VARIABLES = 1000  # what the agent takes, docs/agent-protocol.md
MAX_VARIABLES_BYTES = 1024 * 1024
MAX_VARIABLE_BYTES = 128 * 1024  # MAX_ARG_STRLEN of the kernel: execve refuses a longer NAME=VALUE


@dataclass(frozen=True)
class CreateOrder:
    template: str
    timeout_s: int | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    policy: Policy = OPEN
    region: str | None = None
    machine: str | None = None
    """The id of the node that it is to be on; None is any."""
    inbound_auth: InboundAuth = InboundAuth.TOKEN
    ingress: Ingress = DEFAULT
    dialect: Dialect = Dialect.HOPX
    on_timeout: OnTimeout = OnTimeout.DELETE
    size: Mapping[str, int] = field(default_factory=dict)
    """Resources asked for by name, where they are to differ from the template's."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Variables that are to stand for secrets, and the names of these."""
    told_placeholders: bool = False
    """The placeholders are those that are told with the secrets, the same in every such sandbox."""
    volumes: Sequence[tuple[str, str]] = ()
    """Names and paths."""
    idle_timeout_s: int | None = None
    """It ends so long after the last use, as by its timeout; None: never for that."""


def announced(dialect: Dialect, sandbox_id: str, template: str) -> dict[str, str]:
    """What the programs of a sandbox find in their environment about it, in the words of the API that made it.

    >>> announced(Dialect.HOPX, "abc", "base")
    {}
    """
    if dialect is Dialect.HOPX:
        return {}
    return {"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": sandbox_id, "E2B_TEMPLATE_ID": template}


_REGION = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def check_region_name(region: str) -> None:
    if not _REGION.fullmatch(region):
        raise InvalidInput("a region's name has 1 to 64 letters, digits, '-', '_' and '.'", field="region")


def check_region(region: str | None, known: Collection[str]) -> None:
    """None is any."""
    if region is None or region in known:
        return
    names = sorted(known)
    raise InvalidInput(
        f"Region '{region[:64]}' does not exist; there is {', '.join(names)}", field="region", regions=names
    )


def check_machine(asked: str | None, machine: str) -> None:
    """`machine`: the one that the sandbox would be on; `asked` None is any."""
    if asked not in (None, machine):
        raise InvalidInput(f"there is no machine '{asked[:64]}'; there is {machine}", field="node")


def check_env(env: Mapping[str, str]) -> None:
    if len(env) > MAX_VARIABLES:
        raise InvalidInput(f"more than {MAX_VARIABLES} environment variables", field="env_vars")
    total = 0
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidInput("an environment variable has a name without '=' and no NUL", field="env_vars")
        size = len(name.encode()) + len(value.encode()) + 2
        if size > MAX_VARIABLE_BYTES:
            raise InvalidInput(f"an environment variable is larger than {MAX_VARIABLE_BYTES} bytes", field="env_vars")
        total += size
    if total > MAX_VARIABLES_BYTES:
        raise InvalidInput(f"environment variables are larger than {MAX_VARIABLES_BYTES} bytes", field="env_vars")
