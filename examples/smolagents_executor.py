"""smolagents: a CodeAgent whose code runs in an Atoll sandbox, in the place of its E2B executor.

pip install atoll smolagents

    with AtollExecutor() as executor:
        print(CodeAgent(tools=[], model=InferenceClientModel(), executor=executor).run("What is 2 to the 100th?"))
"""

from __future__ import annotations

import base64
import io
from types import TracebackType
from typing import Any

from PIL import Image
from smolagents.local_python_executor import CodeOutput
from smolagents.monitoring import AgentLogger, LogLevel
from smolagents.remote_executors import RemotePythonExecutor
from smolagents.utils import AgentError

from atoll import ExecutionResult, Sandbox


class AtollExecutor(RemotePythonExecutor):
    """One sandbox for one agent; `options` are those of `Sandbox.create`."""

    def __init__(
        self, additional_imports: tuple[str, ...] = (), logger: AgentLogger | None = None, **options: Any
    ) -> None:
        super().__init__(list(additional_imports), logger or AgentLogger(level=LogLevel.INFO))
        self.sandbox = Sandbox.create(**{"template": "code-interpreter", **options})
        try:
            self.installed_packages = self.install_packages(self.additional_imports)
        except BaseException:
            self.sandbox.kill()
            raise

    def run_code_raise_errors(self, code: str) -> CodeOutput:
        run = self.sandbox.run_code(code)
        if not run.success:
            # How its tools say "this is the answer": an exception that carries it. Only plain data is read from it.
            if (found := _final_answer(run.stderr)) is not None:
                return CodeOutput(self._deserialize_final_answer(found), run.stdout, is_final_answer=True)
            raise AgentError(f"{run.stdout}\nExecuting code yielded an error:\n{run.stderr}", self.logger)
        return CodeOutput(_value(run), run.stdout, is_final_answer=False)

    def cleanup(self) -> None:
        """The agent calls it when it is cleaned up."""
        self.sandbox.kill()

    def __enter__(self) -> AtollExecutor:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.cleanup()


def _final_answer(stderr: str) -> str | None:
    """The exception that ends the traceback, if it is that one."""
    name, _, value = stderr.rstrip().rpartition("\n")[2].partition(": ")
    return value if name.endswith(RemotePythonExecutor.FINAL_ANSWER_EXCEPTION) else None


def _value(run: ExecutionResult) -> Any:
    """A figure, else the text of the last expression."""
    return Image.open(io.BytesIO(base64.b64decode(run.png))) if run.png else run.result
