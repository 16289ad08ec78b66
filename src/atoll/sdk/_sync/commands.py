"""Shell commands in a sandbox."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from atoll.sdk._core import agent
from atoll.sdk._core.models import CommandResult, command_result, started_command

from .client import Agent
from .streams import run_stream


class Commands:
    """`sandbox.commands`.

    >>> sandbox.commands.run("echo hello").stdout
    'hello\\n'
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def run(
        self,
        command: str,
        *,
        timeout: float = 120,
        background: bool = False,
        env: Mapping[str, str] | None = None,
        working_dir: str = "/workspace",
        timeout_seconds: float | None = None,
    ) -> CommandResult:
        """Runs a line of bash (sh where there is no bash) and returns what came of it, whatever its exit code.

        `timeout` (seconds): then it is ended, and the exit code is 124; `timeout_seconds` is another name for it.
        With `background` the call returns at once: `process_id` is what `list_processes` and `kill_process` know it by.

        >>> result = sandbox.commands.run("pwd; echo $NAME", env={"NAME": "ann"})
        >>> result.stdout
        '/workspace\\nann\\n'
        >>> started = sandbox.commands.run("sleep 60", background=True)
        >>> _ = sandbox.kill_process(started.process_id)
        """
        limit = timeout if timeout_seconds is None else timeout_seconds
        data = self._agent.call(agent.command(command, limit, env, working_dir, background))
        return started_command(data, command) if background else command_result(data, command)

    def stream(
        self,
        command: str,
        *,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
        working_dir: str = "/workspace",
    ) -> Generator[dict[str, Any], None, None]:  # Any: JSON values
        """Runs a line of bash and gives its output as it comes: messages as of `run_code_stream`.

        Leaving the loop ends the command.

        >>> for message in sandbox.commands.stream("echo out; echo err >&2; exit 3"):
        ...     if message["type"] in ("stdout", "stderr"):
        ...         print(message["type"], message["data"].strip())
        ...     if message["type"] == "result":
        ...         print(message["exit_code"])
        stdout out
        stderr err
        3
        """
        return run_stream(self._agent, command, "bash", timeout, env, working_dir)
