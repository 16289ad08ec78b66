"""Environment variables of a sandbox."""

from __future__ import annotations

from collections.abc import Mapping

from atoll.sdk._core import agent

from .client import AsyncAgent


class AsyncEnvironmentVariables:
    """`sandbox.env`: variables of everything that starts in the sandbox from now on. `timeout` is in seconds.

    >>> _ = await sandbox.env.update({"NAME": "ann"})
    >>> (await sandbox.commands.run("echo $NAME")).stdout
    'ann\\n'
    """

    def __init__(self, agent: AsyncAgent) -> None:
        self._agent = agent

    async def get_all(self, *, timeout: float | None = None) -> dict[str, str]:
        """All of them.

        >>> (await sandbox.env.get_all())["HOME"]
        '/home/user'
        """
        return agent.env_of(await self._agent.call(agent.env("GET", None, timeout)))

    async def set_all(self, env_vars: Mapping[str, str], *, timeout: float | None = None) -> dict[str, str]:
        """Replaces all of them, also HOME and PATH; returns all there are.

        >>> async with AsyncSandbox.create("busybox") as box:
        ...     print(await box.env.set_all({"NAME": "ann"}))
        {'NAME': 'ann'}
        """
        return agent.env_of(await self._agent.call(agent.env("PUT", env_vars, timeout)))

    async def update(self, env_vars: Mapping[str, str], *, timeout: float | None = None) -> dict[str, str]:
        """Sets these and leaves the others; returns all there are.

        >>> (await sandbox.env.update({"A": "1", "B": "2"}))["B"]
        '2'
        """
        return agent.env_of(await self._agent.call(agent.env("PATCH", env_vars, timeout)))

    async def delete(self, key: str, *, timeout: float | None = None) -> None:
        """Removes one; one that is not there is all right.

        >>> _ = await sandbox.env.set("OLD", "1")
        >>> await sandbox.env.delete("OLD")
        >>> await sandbox.env.get("OLD") is None
        True
        """
        await self._agent.call(agent.env("PATCH", {key: None}, timeout))

    async def get(self, key: str, default: str | None = None) -> str | None:
        """One of them, or `default`.

        >>> await sandbox.env.get("HOME"), await sandbox.env.get("NOT_THERE", "none")
        ('/home/user', 'none')
        """
        return (await self.get_all()).get(key, default)

    async def set(self, key: str, value: str, *, timeout: float | None = None) -> dict[str, str]:
        """Sets one; returns all there are.

        >>> (await sandbox.env.set("NAME", "ann"))["NAME"]
        'ann'
        """
        return await self.update({key: value}, timeout=timeout)
