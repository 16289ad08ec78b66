"""What the node is told of a sandbox's policy: the row's own form, which only names secrets, with their values.

The values are looked up whenever the node is told something, so whatever a name stands for now is what holds. A secret
that is not there is left out: the daemon then lets no request go that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from atoll.core.errors import InvalidInput, NotFound
from atoll.core.policy import Wire, referred, with_secrets
from atoll.core.ports import Store
from atoll.core.sandbox import Sandbox
from atoll.core.secrets import SecretValue


class SecretValues:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def network(self, sandbox: Sandbox) -> Wire:
        """`Birth.network`."""
        return with_secrets(sandbox.network, await self._of(sandbox))

    async def policy_form(self, sandbox: Sandbox) -> Wire:
        """`core.policy.to_wire`."""
        return with_secrets(sandbox.policy_form, await self._of(sandbox))

    async def _of(self, sandbox: Sandbox) -> Sequence[SecretValue]:
        names = secrets_of(sandbox)
        found = await self._store.secrets.values(sandbox.organization_id, names) if names else ()
        return [_for(sandbox, each) for each in found]

    async def check(self, organization_id: int, network: Wire, variables: Mapping[str, str]) -> None:
        """That what a caller means to use is there, and may go where it would.

        Raises NotFound, which names the secret, or InvalidInput.
        """
        asked = referred(network)
        names = dict.fromkeys((*asked, *variables.values()))
        if not names:
            return
        known = {each.name: each for each in await self._store.secrets.values(organization_id, names)}
        for name in names:
            if name not in known:
                raise NotFound(f"there is no secret '{name}': create it first", secret=name)
        for name, hosts in asked.items():
            for host in hosts:
                if not known[name].may_go_to(host):
                    raise InvalidInput(
                        f"the secret '{name}' may not go to {host}: that is not among its hosts", field="rules"
                    )
        for name in variables.values():
            if not known[name].hosts:
                raise InvalidInput(
                    f"the secret '{name}' has no hosts, so a variable cannot stand for it: give it some",
                    field="secrets",
                )


def secrets_of(sandbox: Sandbox) -> frozenset[str]:
    """The names of those that it uses, one way or the other."""
    return frozenset((*(each.secret for each in sandbox.secrets), *referred(sandbox.network)))


def _for(sandbox: Sandbox, value: SecretValue) -> SecretValue:
    words = dict.fromkeys(each.placeholder for each in sandbox.secrets if each.secret == value.name)
    return replace(value, placeholders=tuple(words))
