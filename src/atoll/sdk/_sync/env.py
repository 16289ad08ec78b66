"""Environment variables of a sandbox."""

from __future__ import annotations

from collections.abc import Mapping

from atoll.sdk._core import agent

from .client import Agent


class EnvironmentVariables:
    """`sandbox.env`: variables of everything that starts in the sandbox from now on. `timeout` is in seconds.

    >>> _ = sandbox.env.update({"NAME": "ann"})
    >>> sandbox.commands.run("echo $NAME").stdout
    'ann\\n'
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def get_all(self, *, timeout: float | None = None) -> dict[str, str]:
        """All of them.

        >>> sandbox.env.get_all()["HOME"]
        '/home/user'
        """
        return agent.env_of(self._agent.call(agent.env("GET", None, timeout)))

    def set_all(self, env_vars: Mapping[str, str], *, timeout: float | None = None) -> dict[str, str]:
        """Replaces all of them, also HOME and PATH; returns all there are.

        >>> with Sandbox.create("busybox") as box:
        ...     print(box.env.set_all({"NAME": "ann"}))
        {'NAME': 'ann'}
        """
        return agent.env_of(self._agent.call(agent.env("PUT", env_vars, timeout)))

    def update(self, env_vars: Mapping[str, str], *, timeout: float | None = None) -> dict[str, str]:
        """Sets these and leaves the others; returns all there are.

        >>> sandbox.env.update({"A": "1", "B": "2"})["B"]
        '2'
        """
        return agent.env_of(self._agent.call(agent.env("PATCH", env_vars, timeout)))

    def delete(self, key: str, *, timeout: float | None = None) -> None:
        """Removes one; one that is not there is all right.

        >>> _ = sandbox.env.set("OLD", "1")
        >>> sandbox.env.delete("OLD")
        >>> sandbox.env.get("OLD") is None
        True
        """
        self._agent.call(agent.env("PATCH", {key: None}, timeout))

    def get(self, key: str, default: str | None = None) -> str | None:
        """One of them, or `default`.

        >>> sandbox.env.get("HOME"), sandbox.env.get("NOT_THERE", "none")
        ('/home/user', 'none')
        """
        return self.get_all().get(key, default)

    def set(self, key: str, value: str, *, timeout: float | None = None) -> dict[str, str]:
        """Sets one; returns all there are.

        >>> sandbox.env.set("NAME", "ann")["NAME"]
        'ann'
        """
        return self.update({key: value}, timeout=timeout)
